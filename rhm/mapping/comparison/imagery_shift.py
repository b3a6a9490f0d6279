"""The systematic shift between two layers of the same buildings, such as of the imagery."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

_CELL_M = 1.0
"""Side of a cell in which votes for a shift are counted."""

_FEWEST = 10
"""Fewest pairs of buildings from which a shift is estimated."""

_MOST_SAMPLED = 20_000
_ROUNDS = 5
_ALIKE = 0.5
"""Smallest ratio of the areas of two buildings that may be the same one."""


@dataclass(frozen=True)
class ImageryShift:
    """The systematic shift of one layer against another.

    Attributes:
        east_m: metres by which the new layer lies east of the existing one.
        north_m: metres by which it lies north of it.
        spread_m: typical distance of single buildings from it: 1.48 times the median.
        pairs: number of pairs of buildings from which it was estimated; 0 if it is unknown.
        sought: whether a shift was looked for.
    """

    east_m: float = 0.0
    north_m: float = 0.0
    spread_m: float = float("nan")
    pairs: int = 0
    sought: bool = True

    @property
    def length_m(self) -> float:
        """Length of the shift."""
        return float(np.hypot(self.east_m, self.north_m))

    @property
    def told(self) -> str:
        """The shift as a sentence."""
        if not self.sought:
            return "the layers were compared as they are, without looking for a shift"
        if not self.pairs:
            return "too few buildings are in both layers to estimate a shift between them"
        return (
            f"the new layer is shifted by {self.east_m:+.2f} m east and {self.north_m:+.2f} m "
            f"north (spread {self.spread_m:.2f} m, {self.pairs} buildings)"
        )


def estimate_shift(new: NDArray[Any], existing: NDArray[Any], most_m: float) -> ImageryShift:
    """Estimate the shift between two layers, robustly: most pairs may be of different buildings.

    All pairs of buildings of similar area within ``most_m`` vote for the offset of their centroids.
    The offset with most votes is refined to the median of the pairs that agree with it.

    Args:
        new: (N,) polygons in metres.
        existing: (M,) polygons in metres.
        most_m: longest shift to look for; 0 for none.

    Returns:
        The shift; one of no length if none was looked for, or if too few pairs agree.
    """
    if most_m <= 0:
        return ImageryShift(sought=False)
    if min(len(new), len(existing)) < _FEWEST:
        return ImageryShift()
    offsets = _votes(_sampled(new), existing, most_m)
    if len(offsets) < _FEWEST:
        return ImageryShift()
    middle, reach = _most_voted(offsets, most_m), 3 * _CELL_M
    for _ in range(_ROUNDS):
        close = offsets[np.hypot(*(offsets - middle).T) <= reach]
        if len(close) < _FEWEST:
            return ImageryShift()
        middle = np.median(close, axis=0)
    spread = 1.48 * float(np.median(np.hypot(*(close - middle).T)))
    return ImageryShift(float(middle[0]), float(middle[1]), spread, len(close))


def _sampled(polygons: NDArray[Any]) -> NDArray[Any]:
    """Return evenly chosen polygons, at most ``_MOST_SAMPLED``."""
    return polygons[:: max(1, -(-len(polygons) // _MOST_SAMPLED))]


def _votes(new: NDArray[Any], existing: NDArray[Any], most_m: float) -> NDArray[np.float64]:
    """Return the offsets (P, 2) of all pairs that may be the same building."""
    tree = shapely.STRtree(shapely.centroid(existing))
    one, other = tree.query(shapely.centroid(new), predicate="dwithin", distance=most_m)
    areas = shapely.area(new[one]), shapely.area(existing[other])
    alike = np.minimum(*areas) >= _ALIKE * np.maximum(*areas)
    one, other = one[alike], other[alike]
    points = [
        shapely.get_coordinates(shapely.centroid(each)) for each in (new[one], existing[other])
    ]
    return np.asarray(points[0] - points[1])


def _most_voted(offsets: NDArray[np.float64], most_m: float) -> NDArray[np.float64]:
    """Return the centre of the cell with most votes, counted with its neighbours."""
    cells = int(np.ceil(most_m / _CELL_M)) + 1
    edges = (np.arange(-cells, cells + 2) - 0.5) * _CELL_M
    votes, _, _ = np.histogram2d(offsets[:, 0], offsets[:, 1], bins=[edges, edges])
    padded = np.pad(votes, 1)
    size = votes.shape[0]
    smooth = sum(padded[r : r + size, c : c + size] for r in range(3) for c in range(3))
    east, north = np.unravel_index(np.argmax(smooth), votes.shape)
    return np.array([edges[east], edges[north]]) + _CELL_M / 2
