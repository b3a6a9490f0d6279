"""The outlines of many polygons, cut into nearly straight pieces.

The unit of length is the tolerance: the coordinates of a polygon are divided by its tolerance.
"""

from typing import Any, NamedTuple

import numpy as np
import shapely
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

_SPLIT = 0.75  # distance from its chord above which an outline turns
_ROUGHEST = 0.16  # maximum mean square distance of an outline from the line of its wall
_ROUGHER = 3.0  # maximum roughness of one line relative to the two it replaces; steps exceed it
_SMOOTHEST = 0.01  # mean square distance below which roughness is insignificant
_LEAST_HOLE = 4.0  # minimum area of a hole, in square tolerances


class Rings(NamedTuple):
    """The R rings of N polygons, without their closing points.

    points (M, 2): vertices in tolerances, relative to the centre of the polygon's bounding box.
    ring (M,): ring of each point; rings are in the order of their polygons, shells first.
    polygon (R,): polygon of each ring.
    dropped (N,): total area of the holes left out of each polygon, in square tolerances.
    """

    points: Floats
    ring: Integers
    polygon: Integers
    dropped: Floats


def rings_of(polygons: NDArray[Any], middles: Floats, tolerances: Floats) -> Rings:
    """Return the rings of polygons, without the smallest holes.

    A ring begins at the point farthest from its centre. Shells run counter-clockwise, holes
    clockwise.

    Args:
        polygons: (N,) valid polygons.
        middles: (N, 2) origin of the coordinates of each polygon.
        tolerances: (N,) unit of length of each polygon.
    """
    _, places, (ring_ends, polygon_ends) = shapely.to_ragged_array(polygons)
    sizes = np.diff(ring_ends) - 1
    polygon = np.repeat(np.arange(len(polygons)), np.diff(polygon_ends))
    ring = np.repeat(np.arange(len(sizes)), sizes)
    closing = np.zeros(len(places), dtype=bool)
    closing[ring_ends[1:] - 1] = True
    of = polygon[ring]
    points = (places[~closing, :2] - middles[of]) / tolerances[of, None]
    areas, centres = _areas_and_centres(points, ring, len(sizes))
    shell = np.zeros(len(sizes), dtype=bool)
    shell[polygon_ends[:-1]] = True
    small = ~shell & (np.abs(areas) <= _LEAST_HOLE)
    dropped = totals(polygon, np.abs(areas) * small, len(polygons))
    points = _laid_out(points, ring, centres, (areas > 0) == shell)
    ring, kept = (np.cumsum(~small) - 1)[ring], ~small[ring]
    return Rings(points[kept], ring[kept], polygon[~small], dropped)


def split(outlines: Rings) -> Integers:
    """Cut rings where they turn.

    Splitting as in the Douglas-Peucker algorithm finds the turns of the outline and of noise
    alike; adjacent pieces are then joined, the straightest pair first, as long as one line fits
    both.

    Returns:
        (A,) indices of the points at which pieces begin, ascending; at least two per ring.
    """
    return _joined(outlines, _turns(outlines))


def _areas_and_centres(points: Floats, ring: Integers, count: int) -> tuple[Floats, Floats]:
    """Return the (R,) areas of rings, negative if clockwise, and (R, 2) centres of outlines."""
    edges = points[neighbours(ring)[1]] - points
    areas = totals(ring, across(points, edges), count) / 2
    length, middle = lengths(edges), points + edges / 2
    sums = [totals(ring, length * middle[:, axis], count) for axis in (0, 1)]
    return areas, np.stack(sums, axis=1) / totals(ring, length, count)[:, None]


def _laid_out(
    points: Floats, ring: Integers, centres: Floats, forward: NDArray[np.bool_]
) -> Floats:
    """Roll rings, and reverse some, so that the order of their points depends only on shape."""
    begins = runs(ring)
    sizes = np.diff(begins, append=len(ring))
    _, farthest = first_maxima(lengths(points - centres[ring]), ring)
    step = (np.arange(len(ring)) - begins[ring]) * np.where(forward, 1, -1)[ring]
    laid_out: Floats = points[begins[ring] + ((farthest - begins)[ring] + step) % sizes[ring]]
    return laid_out


def _turns(outlines: Rings) -> Integers:
    points, ring = outlines.points, outlines.ring
    begins = runs(ring)
    cut = np.zeros(len(points), dtype=bool)
    cut[begins] = True
    cut[first_maxima(lengths(points - points[begins[ring]]), ring)[1]] = True
    open_points = np.arange(len(points))
    while open_points.size:
        cuts = np.flatnonzero(cut)
        piece = (np.cumsum(cut) - 1)[open_points]
        start, end = points[cuts][piece], points[cuts[neighbours(ring[cuts])[1]]][piece]
        away = _distances(points[open_points], start, end)
        farthest, first = first_maxima(away, piece)
        turning = farthest > _SPLIT + TIE
        cut[open_points[first[turning]]] = True
        sizes = np.diff(runs(piece), append=len(piece))
        open_points = open_points[np.repeat(turning, sizes)]
    return np.flatnonzero(cut)


def _distances(points: Floats, start: Floats, end: Floats) -> Floats:
    """Return the (K,) distances of points from segments."""
    chord, offset = end - start, points - start
    squared = along(chord, chord)
    way = along(chord, offset) / np.where(squared > 0, squared, 1)
    return lengths(offset - np.clip(way, 0, 1)[:, None] * chord)


def _joined(outlines: Rings, cuts: Integers) -> Integers:
    """Join pieces, but never across the first point of a ring, which is a corner."""
    sums = _sums(outlines, cuts)
    ring = outlines.ring[cuts]
    while True:
        cost = np.full(len(ring) + 2, np.inf)  # at index i + 1: cost of joining pieces i and i + 1
        pair = np.flatnonzero((ring[1:] == ring[:-1]) & (np.bincount(ring)[ring[1:]] > 4))
        one, other = sums[pair], sums[pair + 1]
        rough, both = _roughness(one + other), one[:, 0] + other[:, 0]
        apart = (one[:, 0] * _roughness(one) + other[:, 0] * _roughness(other)) / both
        straight = rough < np.minimum(_ROUGHEST, _ROUGHER * (apart + _SMOOTHEST))
        cost[pair + 1] = np.where(straight, np.sqrt(rough), np.inf)
        here = cost[1:-1]
        best = np.isfinite(here) & (here < cost[:-2] - TIE) & (here <= cost[2:] + TIE)
        joined = np.flatnonzero(best)
        if not joined.size:
            return cuts
        sums[joined] += sums[joined + 1]
        kept = np.ones(len(ring), dtype=bool)
        kept[joined + 1] = False
        sums, ring, cuts = sums[kept], ring[kept], cuts[kept]


def _sums(outlines: Rings, cuts: Integers) -> Floats:
    """Return the (A, 6) integrals of 1, x, y, x^2, x y and y^2 along each piece."""
    points = outlines.points
    edges = points[neighbours(outlines.ring)[1]] - points
    length = lengths(edges)
    x, y = (points + edges / 2).T
    dx, dy = edges.T
    squares = (x * x + dx * dx / 12, x * y + dx * dy / 12, y * y + dy * dy / 12)
    piece = np.repeat(np.arange(len(cuts)), np.diff(cuts, append=len(points)))
    terms = (np.ones_like(x), x, y, *squares)
    return np.stack([totals(piece, length * value, len(cuts)) for value in terms], axis=1)


def _roughness(sums: Floats) -> Floats:
    """Return the mean square distance of outlines from their best-fitting lines."""
    x, y, xx, xy, yy = (sums[:, 1:] / sums[:, :1]).T
    xx, xy, yy = xx - x * x, xy - x * y, yy - y * y
    least: Floats = np.maximum((xx + yy) / 2 - np.hypot((xx - yy) / 2, xy), 0)
    return least
