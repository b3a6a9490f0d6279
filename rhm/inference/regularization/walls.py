"""Straight walls for outlines that were cut into pieces.

Each building is turned so that its dominant direction is the first axis. A wall is a line that
represents successive pieces of an outline. Its direction is that of an axis, or free. Its position
balances the area of the outline outside the line with the area that is missing inside.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rhm.inference.regularization.outlines import Rings
from rhm.inference.regularization.rings import (
    Floats,
    Integers,
    across,
    along,
    lengths,
    neighbours,
    runs,
    totals,
    turned,
)

FREE = -1
"""Kind of a wall that follows no axis; the kinds 0 to 3 are quarter turns."""

AXES = np.array([(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)])

_TRIM = 0.25  # length that is ignored at either end of a wall, where corners are rounded
_SHIFT = 2.5  # how far the ends of a piece may move, relative to each other, to follow an axis
_STEEPEST = 0.3  # maximum slope of a free wall relative to its chord
_LEAST_VARIANCE = 1e-6
_LEAST_SPREAD = 0.03  # minimum spread of a wall, in square tolerances
_BLUR, _NEAR = 6, 8  # degrees around the mode within which directions count as the same


class Pieces(NamedTuple):
    """The M points of outlines, cut into A pieces.

    points (M, 2): coordinates. following (M,): index of the next point of the ring. piece (M,):
    piece of the edge from the point to the next one. ring (A,): ring of each piece. begin, end
    (A, 2): end points of each piece.
    """

    points: Floats
    following: Integers
    piece: Integers
    ring: Integers
    begin: Floats
    end: Floats

    def turned(self, angles: Floats) -> "Pieces":
        """Return the pieces in axes turned counter-clockwise by (R,) angles in radians."""
        of_piece = angles[self.ring]
        return self._replace(
            points=turned(self.points, of_piece[self.piece]),
            begin=turned(self.begin, of_piece),
            end=turned(self.end, of_piece),
        )


def cut_into_pieces(outlines: Rings, cuts: Integers) -> Pieces:
    """Cut outlines at points with (A,) ascending indices, including the first of each ring."""
    points, ring = outlines.points, outlines.ring[cuts]
    piece = np.repeat(np.arange(len(cuts)), np.diff(cuts, append=len(points)))
    begin = points[cuts]
    end = begin[neighbours(ring)[1]]
    return Pieces(points, neighbours(outlines.ring)[1], piece, ring, begin, end)


@dataclass(frozen=True)
class Walls:
    """W walls, ring by ring in the order of the outline.

    ring (W,): ring of each wall. kind (W,): index into ``AXES``, or ``FREE``. first, last (W,):
    first and last piece that a wall represents, cyclic in its ring; -1 for a link, which only
    joins two other walls. direction (W, 2): unit vectors. through (W, 2): a point on each line.
    """

    ring: Integers
    kind: Integers
    first: Integers
    last: Integers
    direction: Floats
    through: Floats

    def __getitem__(self, index: NDArray[np.bool_] | Integers) -> "Walls":
        return Walls(*(getattr(self, field.name)[index] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.ring)

    def ends(self, pieces: Pieces) -> tuple[Floats, Floats]:
        """Return the (W, 2) beginning and (W, 2) end of the outline that each wall represents."""
        real = (self.first >= 0)[:, None]
        begin = np.where(real, pieces.begin[self.first], self.through)
        return begin, np.where(real, pieces.end[self.last], self.through)

    def owners(self, pieces: Pieces) -> Integers:
        """Return, for each of the (A,) pieces, the wall that represents it; -1 if there is none."""
        starts = runs(pieces.ring)
        sizes = np.diff(starts, append=len(pieces.ring))
        real = np.flatnonzero(self.first >= 0)
        first, ring = self.first[real], self.ring[real]
        counts = (self.last[real] - first) % sizes[ring] + 1
        step = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        ring, first = np.repeat(ring, counts), np.repeat(first, counts)
        owners = np.full(len(pieces.ring), -1)
        owners[starts[ring] + (first - starts[ring] + step) % sizes[ring]] = np.repeat(real, counts)
        return owners


class WallFit(NamedTuple):
    """Lines fitted to parts of outlines, relative to the beginning and direction of each part.

    offset (W,): mean height of the outline to the left of the beginning. covariance (W,):
    covariance of the height and of the distance along the line. variance (W,): variance of that
    distance; covariance divided by variance is a slope. spread (W,): mean square height above the
    line of that slope.
    """

    offset: Floats
    covariance: Floats
    variance: Floats
    spread: Floats


def fit(pieces: Pieces, owners: Integers, begin: Floats, end: Floats, direction: Floats) -> WallFit:
    """Fit lines by least squares over the distance along them.

    An edge has the weight of the distance by which it advances, which is negative if it runs
    backwards. A line at its offset therefore has as much area of the outline on its left as is
    missing on its right.

    Args:
        pieces: the outlines.
        owners: (A,) line of each piece, or -1.
        begin: (W, 2) beginning of the outline of each line.
        end: (W, 2) end of the outline of each line.
        direction: (W, 2) unit vectors.
    """
    edges = np.flatnonzero(owners[pieces.piece] >= 0)
    line = owners[pieces.piece[edges]]
    start, stop = pieces.points[edges], pieces.points[pieces.following[edges]]
    reach = along(direction, end - begin)
    trim = np.minimum(_TRIM, np.maximum(reach, 0) / 4)
    weight, rise, way, height = _between(
        trim[line], (reach - trim)[line], start - begin[line], stop - begin[line], direction[line]
    )

    def summed(values: Floats) -> Floats:
        return totals(line, weight * values, len(begin))

    length = summed(np.ones_like(weight))
    seen = length > 1e-6
    length = np.where(seen, length, 1)
    offset, middle = summed(height) / length, summed(way) / length
    aside, above = way - middle[line], height - offset[line]
    # Distance and height also vary along an edge.
    covariance = summed(aside * above + weight * rise / 12)
    variance = summed(aside**2 + weight**2 / 12)
    explained = covariance**2 / np.where(variance > _LEAST_VARIANCE, variance, np.inf)
    spread = np.maximum(summed(above**2 + rise**2 / 12) - explained, 0) / length
    unseen = across(direction, end - begin) / 2
    return WallFit(np.where(seen, offset, unseen), covariance * seen, variance * seen, spread)


def _between(
    low: Floats, high: Floats, start: Floats, stop: Floats, direction: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Clip edges to an interval of the distance along their lines.

    Returns:
        (E,) arrays: how far each clipped edge advances and rises, and the distance along the line
        and the height of its midpoint.
    """
    way_start, way_stop = along(direction, start), along(direction, stop)
    inner_start, inner_stop = np.clip(way_start, low, high), np.clip(way_stop, low, high)
    way = (inner_start + inner_stop) / 2
    height, advance = across(direction, start), way_stop - way_start
    level = advance == 0
    slope = (across(direction, stop) - height) / np.where(level, 1, advance)
    slope, left = np.where(level, 0, slope), inner_stop - inner_start
    return left, slope * left, way, height + slope * (way - way_start)


def pooled_turn(found: WallFit, building: Integers, count: int) -> Floats:
    """Return the (count,) angles, in radians, that turn buildings onto the lines of (W,) walls.

    Smooth walls have more weight than rough walls and walls with a step.
    """
    weight = 1 / (found.spread + _LEAST_SPREAD)
    covariance = totals(building, weight * found.covariance, count)
    variance = totals(building, weight * found.variance, count)
    return np.arctan2(covariance, np.maximum(variance, 1e-9))


def dominant_directions(chords: Floats, building: Integers, count: int) -> Floats:
    """Return the (count,) angles, in radians, that most chords are close to, modulo 90 degrees.

    They are the modes of smoothed histograms with bins of one degree, refined to the mean around
    the mode. Chords are weighted by the square of their lengths, because the directions of long
    chords are more accurate.

    Args:
        chords: (A, 2) vectors.
        building: (A,) building of each chord.
        count: number of buildings.
    """
    weight = along(chords, chords)
    angle = np.degrees(np.arctan2(chords[:, 1], chords[:, 0])) % 90
    low = np.floor(angle).astype(np.intp)
    part = angle - low
    rows = np.stack([building * 90 + low % 90, building * 90 + (low + 1) % 90])
    parts = np.stack([weight * (1 - part), weight * part])
    bins = totals(rows.ravel(), parts.ravel(), count * 90).reshape(count, 90)
    smooth = np.zeros_like(bins)
    for step in range(1 - _BLUR, _BLUR):
        smooth += (1 - abs(step) / _BLUR) * np.roll(bins, step, axis=1)
    top = smooth.max(axis=1, keepdims=True)
    mode: Floats = np.argmax(smooth >= top * (1 - 1e-6), axis=1).astype(np.float64)
    for _ in range(3):
        away = (angle - mode[building] + 45) % 90 - 45
        near = weight * (np.abs(away) < _NEAR)
        mass = totals(building, near, count)
        mode += totals(building, near * away, count) / np.where(mass > 0, mass, 1)
    return np.radians(mode)


def align(
    pieces: Pieces, building: Integers, count: int, angle_tolerance_deg: float
) -> tuple[Pieces, Floats]:
    """Turn pieces so that each building's dominant direction is the first axis.

    Args:
        pieces: the outlines.
        building: (R,) building of each ring.
        count: number of buildings.
        angle_tolerance_deg: pieces within this angle of an axis follow it, whatever their length.

    Returns:
        The pieces in the new axes, and the (count,) angles in radians by which axes are turned.
    """
    of_piece = building[pieces.ring]
    angles = dominant_directions(pieces.end - pieces.begin, of_piece, count)
    pieces = pieces.turned(angles[building])
    for _ in range(2):
        kind, straight = _nearest_axes(pieces, angle_tolerance_deg)
        owners = np.where(straight, np.arange(len(kind)), -1)
        found = fit(pieces, owners, pieces.begin, pieces.end, AXES[kind])
        more = pooled_turn(found, of_piece, count)
        pieces, angles = pieces.turned(more[building]), angles + more
    return pieces, angles


def first_walls(pieces: Pieces, angle_tolerance_deg: float) -> Walls:
    """Return a wall for each piece: along an axis if the piece almost follows it, else free."""
    kind, straight = _nearest_axes(pieces, angle_tolerance_deg)
    chords = pieces.end - pieces.begin
    length = lengths(chords)
    own = chords / np.where(length > 0, length, 1)[:, None]
    index = np.arange(len(kind))
    found = fit(pieces, np.where(straight, -1, index), pieces.begin, pieces.end, own)
    direction = np.where(straight[:, None], AXES[kind], sloped(own, found))
    kind = np.where(straight, kind, FREE)
    return Walls(pieces.ring, kind, index, index, direction, pieces.begin)


def _nearest_axes(pieces: Pieces, angle_tolerance_deg: float) -> tuple[Integers, NDArray[np.bool_]]:
    """Return the (A,) indices of the axes nearest to pieces, and which pieces follow theirs."""
    chords = pieces.end - pieces.begin
    angle = np.degrees(np.arctan2(chords[:, 1], chords[:, 0]))
    away = np.abs((angle + 45) % 90 - 45)
    shift = lengths(chords) * np.sin(np.radians(away))
    straight = (away <= angle_tolerance_deg) | (shift <= _SHIFT)
    return np.rint(angle / 90).astype(np.intp) % 4, straight


def sloped(direction: Floats, found: WallFit) -> Floats:
    """Return (W, 2) directions, turned by the slopes that were fitted."""
    steady = found.variance > _LEAST_VARIANCE
    slope = np.where(steady, found.covariance, 0) / np.where(steady, found.variance, 1)
    turned_by = np.arctan(np.clip(slope, -_STEEPEST, _STEEPEST))
    return turned(direction, -turned_by)
