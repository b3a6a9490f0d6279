"""Joins: pieces of buildings become one, and buildings of different scenes do not overlap."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from rhm.data.footprints import areas_m2, polygon_parts
from rhm.mapping.merging.best_footprints import Buildings
from rhm.mapping.merging.footprint_heap import FootprintHeap
from rhm.mapping.merging.overlaps import REACH_PX

BATCH = 1 << 16
"""Most buildings of a batch."""

_ROUNDING_PX = 1e-3
"""Largest gap between pieces that comes from rounding, in pixels."""


@dataclass(frozen=True)
class BuildingBatch:
    """Some buildings of the merged layer.

    Attributes:
        wkb: (N,) polygons as WKB.
        score: (N,) scores; NaN where a file has none.
        area_m2: (N,) areas in square metres.
        scene: (N,) number of the scene that shows most of each building.
        parts: (N,) number of footprints that were joined to each building.
    """

    wkb: NDArray[Any]
    score: NDArray[np.float64]
    area_m2: NDArray[np.float64]
    scene: NDArray[np.int32]
    parts: NDArray[np.int64]


def drawn(
    heap: FootprintHeap,
    buildings: Buildings,
    order: NDArray[np.intp],
    trimmed: tuple[NDArray[np.int64], NDArray[np.int64]],
    crs: pyproj.CRS,
) -> Iterator[BuildingBatch]:
    """Yield buildings in batches: unchanged, joined from pieces, or cut where a better one is.

    Args:
        heap: footprints.
        buildings: the footprints of each building.
        order: (B,) numbers of the buildings in the order in which they are yielded.
        trimmed: pairs of buildings that overlap; see ``best_footprints.trimmed_by``.
        crs: CRS of the footprints.
    """
    counts = np.diff(buildings.firsts)
    changed = counts > 1
    changed[trimmed[0]] = True
    for first in range(0, len(order), BATCH):
        chosen = order[first : first + BATCH]
        main = buildings.members[buildings.firsts[chosen]]
        for place in np.flatnonzero(counts[chosen] > 1):
            main[place] = _main(heap, buildings.of(chosen[place]))
        wkb = np.array([heap.wkb(number) for number in main.tolist()], dtype=object)
        score, area = heap.score[main], heap.area_m2[main]
        scene = heap.scene[main]
        for place in np.flatnonzero(changed[chosen]):
            members = buildings.of(chosen[place])
            shape = _shape(heap, buildings, int(chosen[place]), trimmed)
            wkb[place] = None if shape is None else shapely.to_wkb(shape)
            score[place] = np.average(heap.score[members], weights=heap.size[members])
        redrawn = np.flatnonzero(changed[chosen] & (wkb != None))  # noqa: E711 (element by element)
        if len(redrawn):
            area[redrawn] = areas_m2(gpd.GeoSeries(shapely.from_wkb(wkb[redrawn]), crs=crs))
        left = np.flatnonzero(wkb != None)  # noqa: E711 (element by element)
        yield BuildingBatch(wkb[left], score[left], area[left], scene[left], counts[chosen[left]])


def _main(heap: FootprintHeap, members: NDArray[np.int64]) -> int:
    """Return the largest footprint of a building."""
    return int(members[np.argmax(heap.size[members])])


def _shape(
    heap: FootprintHeap,
    buildings: Buildings,
    building: int,
    trimmed: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> Any:
    """Return the polygon of a building; None if others cover all of it."""
    shape = _joined(heap, buildings.of(building))
    first, last = np.searchsorted(trimmed[0], [building, building + 1])
    if first < last:
        others = [_joined(heap, buildings.of(other)) for other in trimmed[1][first:last].tolist()]
        shape = shapely.difference(shape, shapely.union_all(others))
    parts, _ = polygon_parts(np.array([shape], dtype=object))
    return heap.in_principal_turn(parts[np.argmax(shapely.area(parts))]) if len(parts) else None


def _joined(heap: FootprintHeap, members: NDArray[np.int64]) -> Any:
    """Return the union of the pieces of a building; a gap along a border is closed."""
    polygons = heap.polygons(members)
    if len(polygons) == 1:
        return polygons[0]
    union = shapely.union_all(polygons)
    pixel = float(heap.pixels[heap.scene[members]].mean())
    # A gap that is no more than rounding is closed by so little that notches elsewhere stay open.
    for reach in (_ROUNDING_PX * pixel, REACH_PX * pixel / 2):
        if shapely.get_num_geometries(union) > 1:
            closed = shapely.buffer(union, reach, join_style="mitre")
            union = shapely.union(union, shapely.buffer(closed, -reach, join_style="mitre"))
    # Where pieces met, vertices are left that turn nowhere.
    return shapely.simplify(union, 0.0)
