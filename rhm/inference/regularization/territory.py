"""Footprints that do not overlap: what one building has taken, the next ones leave alone."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rhm.data.footprints import polygon_parts

_SLIVER = 1e-6
"""Area below which an overlap is a rounding error, relative to the smaller polygon."""


class Territory:
    """Takes footprints one batch after another and cuts away what earlier ones cover.

    Walls are straightened building by building, so that neighbours may come to overlap by about
    the tolerance. The earlier of two footprints keeps its walls, and the later one ends there. The
    result depends on the order of the footprints only, not on their division into batches.
    """

    def __init__(self) -> None:
        self._taken = np.empty(0, dtype=object)
        self._last_rows = np.empty(0)

    def claim(
        self, polygons: NDArray[Any], traced: NDArray[Any], last_rows: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """Return the parts of footprints that are still free.

        Args:
            polygons: (N,) valid footprints, in the order of their precedence.
            traced: (N,) the same footprints before their walls were straightened, which take the
                place of a footprint of which too little is left.
            last_rows: (N,) position at which each footprint ends, for ``release``.

        Returns:
            (M,) valid polygons and (M,) the index of each in ``polygons``. A footprint that is
            covered by earlier ones is missing.
        """
        earlier = len(self._taken)
        current = np.concatenate([self._taken, polygons])
        kept = np.ones(len(current), dtype=bool)
        # Either form of a footprint may be the one that stays.
        reach = np.concatenate([self._taken, shapely.union(polygons, traced)])
        for index, before in _neighbours(reach, earlier).items():
            others = shapely.union_all(current[before[kept[before]]])
            common = shapely.area(shapely.intersection(current[index], others))
            if common > _SLIVER * shapely.area(current[index]):
                free = _free(current[index], traced[index - earlier], others)
                kept[index] = free is not None
                current[index] = free if free is not None else current[index]
        self._taken = current[kept]
        self._last_rows = np.concatenate([self._last_rows, last_rows])[kept]
        return current[earlier:][kept[earlier:]], np.flatnonzero(kept[earlier:])

    def release(self, row: float) -> None:
        """Forget the footprints that end above a row, and that no later footprint can reach."""
        near = self._last_rows >= row
        self._taken, self._last_rows = self._taken[near], self._last_rows[near]


def _neighbours(polygons: NDArray[Any], first: int) -> dict[int, NDArray[np.intp]]:
    """Return, for every polygon from ``first`` that overlaps earlier ones, the earlier ones."""
    later, other = shapely.STRtree(polygons).query(polygons[first:], predicate="intersects")
    later = later + first
    before = other < later
    later, other = later[before], other[before]
    common = shapely.area(shapely.intersection(polygons[later], polygons[other]))
    smaller = np.minimum(shapely.area(polygons[later]), shapely.area(polygons[other]))
    overlap = common > _SLIVER * smaller
    pairs: dict[int, list[int]] = {}
    for one, another in sorted(zip(later[overlap].tolist(), other[overlap].tolist(), strict=True)):
        pairs.setdefault(one, []).append(another)
    return {one: np.array(others, dtype=np.intp) for one, others in pairs.items()}


def _free(polygon: Any, traced: Any, covered: Any) -> Any:
    """Return the largest part of a polygon that is not covered, or None if nothing is left."""
    candidates = shapely.difference(np.array([polygon, traced], dtype=object), covered)
    parts, source = polygon_parts(candidates)
    if not len(parts):
        return None
    areas = shapely.area(parts)
    straight = areas.max(initial=0.0, where=source == 0) > 0.5 * shapely.area(traced)
    areas[source != (0 if straight else np.argmax(shapely.area(candidates)))] = 0.0
    return parts[np.argmax(areas)]
