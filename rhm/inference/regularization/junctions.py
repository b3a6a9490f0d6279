"""Junctions of walls: which walls to keep, and the corners between them.

Steps and bays smaller than the tolerance are noise. The smallest one is removed first, its
neighbours are merged or made to meet, and the lines are placed again, until every wall is worth
keeping.
"""

from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rhm.inference.regularization.rings import (
    TIE,
    Floats,
    Integers,
    across,
    along,
    first_maxima,
    lengths,
    neighbours,
    runs,
    totals,
)
from rhm.inference.regularization.walls import AXES, FREE, Pieces, Walls

_LEAST_WALL = 1.0
_LEAST_AREA = 2.0  # minimum area of a step or a bay, in square tolerances
_TALLEST_TIP = 1.0  # maximum distance of a corner from the wall that it replaces
_LONGEST_CUT = 2.0  # maximum length of a wall that a corner may replace
_FAR = 4.0  # maximum distance of a corner from its outline
_PARALLEL = 0.17  # sine of the angle below which two walls count as parallel
_LARGE_RING = 10  # number of walls; smaller rings lose one wall at a time


class _Cycles(NamedTuple):
    """The (W,) indices of the previous and next walls, and the number of walls in the ring."""

    before: Integers
    after: Integers
    size: Integers


def corners(walls: Walls, pieces: Pieces) -> Floats:
    """Return the (W, 2) corners between each wall and the next."""
    after = neighbours(walls.ring)[1]
    return _meet(walls, walls[after], _breaks(walls, after, pieces))[0]


def tidied(walls: Walls, pieces: Pieces) -> Walls:
    """Remove small walls, merge walls that are in line, and link parallel walls."""
    sums = _area_sums(pieces)
    while True:  # every pass begins with fewer walls
        walls = _linked(_laid(walls, pieces, sums), pieces)
        cycles = _Cycles(*neighbours(walls.ring))
        between = corners(walls, pieces)
        length = along(walls.direction, between - between[cycles.before])
        cost, step, bay = _costs(walls, pieces, cycles, length)
        chosen = np.flatnonzero(_chosen(cost, walls.ring))
        if not chosen.size:
            return walls
        gone = np.zeros(len(walls), dtype=bool)
        gone[chosen] = True
        ends = chosen[bay[chosen]]
        shorter = length[cycles.before[ends]] <= length[cycles.after[ends]]
        gone[np.where(shorter, cycles.before[ends], cycles.after[ends])] = True
        steps = chosen[step[chosen]]
        gone[cycles.after[steps]] = True
        walls = _merged(walls, cycles.before[steps], cycles.after[steps], pieces)
        walls = walls[~gone & (walls.first >= 0)]


def _area_sums(pieces: Pieces) -> Floats:
    """Return (A + 1, 2) sums of the integrals of y dx and x dy over all pieces before each one."""
    start, stop = pieces.points, pieces.points[pieces.following]
    middle, edge = (start + stop) / 2, stop - start
    own = [
        totals(pieces.piece, middle[:, 1] * edge[:, 0], len(pieces.ring)),
        totals(pieces.piece, middle[:, 0] * edge[:, 1], len(pieces.ring)),
    ]
    return np.concatenate([np.zeros((1, 2)), np.cumsum(np.stack(own, axis=1), axis=0)])


def _laid(walls: Walls, pieces: Pieces, sums: Floats) -> Walls:
    """Place each wall so that the areas between it and its outline balance on both sides."""
    starts = runs(pieces.ring)
    ends = np.append(starts[1:], len(pieces.ring))
    first, last, ring = walls.first, walls.last, walls.ring
    integral = sums[last + 1] - sums[first]
    integral += np.where((last < first)[:, None], (sums[ends] - sums[starts])[ring], 0)
    begin, end = walls.ends(pieces)
    cos, sin = walls.direction.T
    square = (end**2 - begin**2) / 2
    moment = cos * cos * integral[:, 0] - sin * sin * integral[:, 1]
    moment += sin * cos * (square[:, 1] - square[:, 0])
    reach = along(walls.direction, end - begin)
    middle = (begin + end) / 2
    known = reach > TIE
    height = np.where(
        known, moment / np.where(known, reach, 1) - across(walls.direction, middle), 0
    )
    through = middle + height[:, None] * np.stack([-sin, cos], axis=1)
    return replace(walls, through=np.where((first >= 0)[:, None], through, walls.through))


def _breaks(walls: Walls, after: Integers, pieces: Pieces) -> Floats:
    """Return the (W, 2) points of the outline between each wall and the one at ``after``."""
    begin, end = walls.ends(pieces)
    return (end + begin[after]) / 2


def _meet(one: Walls, other: Walls, near: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the (W, 2) points where lines meet, and whether they are near the given points.

    If they are not, the midpoint of the points on both lines that are nearest to the given point
    is returned instead.
    """
    crossed = across(one.direction, other.direction)
    steep = np.abs(crossed) > _PARALLEL
    way = -across(other.direction, other.through - one.through) / np.where(steep, crossed, 1)
    place = one.through + way[:, None] * one.direction
    met = steep & (lengths(place - near) <= _FAR)
    between = (_foot(one, near) + _foot(other, near)) / 2
    return np.where(met[:, None], place, between), met


def _foot(walls: Walls, points: Floats) -> Floats:
    """Return the (W, 2) points on lines that are nearest to the given points."""
    way = along(walls.direction, points - walls.through)
    return walls.through + way[:, None] * walls.direction


def _linked(walls: Walls, pieces: Pieces) -> Walls:
    """Insert a wall between successive walls that cannot meet: parallel or back to back."""
    after, size = neighbours(walls.ring)[1:]
    following = walls[after]
    near = _breaks(walls, after, pieces)
    met = _meet(walls, following, near)[1]
    gap = _foot(following, near) - _foot(walls, near)
    width = lengths(gap)
    parallel = (
        (walls.kind != FREE) & (following.kind != FREE) & ((walls.kind - following.kind) % 2 == 0)
    )
    back = ~met & (along(walls.direction, following.direction) < 0) & (width > TIE)
    apart = np.flatnonzero((parallel | back) & (size > 1))
    new = walls[apart]
    left = across(new.direction, gap[apart]) >= 0
    kind = np.where(parallel[apart], (new.kind + np.where(left, 1, 3)) % 4, FREE)
    unit = gap[apart] / np.where(width > TIE, width, 1)[apart, None]
    nothing = np.full(len(apart), -1)
    direction = np.where((kind == FREE)[:, None], unit, AXES[kind])
    new = Walls(new.ring, kind, nothing, nothing, direction, near[apart])
    order = np.argsort(np.concatenate([np.arange(len(walls)), apart + 0.5]), kind="stable")
    return _concatenated(walls, new)[order]


def _concatenated(*parts: Walls) -> Walls:
    columns = [[getattr(part, field.name) for part in parts] for field in fields(Walls)]
    return Walls(*map(np.concatenate, columns))


def _costs(
    walls: Walls, pieces: Pieces, cycles: _Cycles, length: Floats
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the (W,) areas that the removal of each wall would cost; infinite for walls to keep.

    Also return which walls are steps, between two walls of the same direction, and which are ends
    of bays, between two walls of opposite directions.
    """
    before, after, size = cycles
    one, other = walls[before], walls[after]
    near = (one.ends(pieces)[1] + other.ends(pieces)[0]) / 2
    place, met = _meet(one, other, near)
    same_way = along(one.direction, other.direction) > 0
    step = ~met & same_way & (np.abs(across(one.direction, other.direction)) <= _PARALLEL)
    bay = ~met & ~same_way
    tip = np.abs(across(walls.direction, place - walls.through))
    width, left, right = (np.maximum(side, 0) for side in (length, length[before], length[after]))
    beside = np.where(step, left * right / np.maximum(left + right, TIE), np.minimum(left, right))
    area = width * np.where(met, tip / 2, beside)
    small = (step | bay) & ((length <= _LEAST_WALL + TIE) | (area <= _LEAST_AREA + TIE))
    small |= met & (tip <= _TALLEST_TIP + TIE) & (length <= _LONGEST_CUT + TIE)
    inverted = (length < -TIE) & (met | step | bay)
    spare = size >= np.where(met, 5, 6)  # four walls remain
    cost = np.where(inverted, length, area)
    return np.where((small | inverted) & spare, cost, np.inf), step, bay


def _chosen(cost: Floats, ring: Integers) -> NDArray[np.bool_]:
    """Return which walls to remove now: the cheapest of a ring, or in large rings local minima.

    The chosen walls are at least three apart, so that they do not share neighbours.
    """
    before, after, size = neighbours(ring)
    nearest_before = np.minimum(cost[before], cost[before[before]])
    nearest_after = np.minimum(cost[after], cost[after[after]])
    chosen = np.isfinite(cost) & (size >= _LARGE_RING)
    chosen &= (cost < nearest_before - TIE) & (cost <= nearest_after + TIE)
    least = first_maxima(-cost, ring)[1]
    served = np.bincount(ring, chosen)[ring[least]] > 0
    chosen[least[~served & np.isfinite(cost[least])]] = True
    return chosen


def _merged(walls: Walls, kept: Integers, joined: Integers, pieces: Pieces) -> Walls:
    """Let each kept wall also represent the wall joined to it, and the outline between the two."""
    if not kept.size:
        return walls
    first, last, kind = walls.first.copy(), walls.last.copy(), walls.kind.copy()
    direction = walls.direction.copy()
    first[kept] = np.where(first[kept] >= 0, first[kept], walls.first[joined])
    last[kept] = np.where(walls.last[joined] >= 0, walls.last[joined], last[kept])
    kind[kept] = np.where(kind[kept] == FREE, walls.kind[joined], kind[kept])
    merged = replace(walls, first=first, last=last, kind=kind)
    begin, end = merged[kept].ends(pieces)
    length = lengths(end - begin)[:, None]
    chord = np.where(length > TIE, (end - begin) / np.maximum(length, TIE), direction[kept])
    direction[kept] = np.where(kind[kept, None] == FREE, chord, AXES[kind[kept]])
    return replace(merged, direction=direction)
