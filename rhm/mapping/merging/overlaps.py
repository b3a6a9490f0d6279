"""Footprints of different scenes that overlap, and pieces of buildings that belong together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rhm.mapping.merging.footprint_heap import FootprintHeap
from rhm.mapping.merging.valid_regions import CUT

CHUNK = 1 << 16
"""Footprints whose neighbours are looked for at a time."""

_AGREEING = 0.5
"""Share of the smaller piece, inside what both scenes show, that two pieces of a building share."""

REACH_PX = 2.0
"""Gap between pieces, in pixels, that simplified outlines may leave along a border."""

_CLIP_PX = 4.0


@dataclass(frozen=True)
class Overlaps:
    """Pairs of footprints of different scenes.

    Attributes:
        pairs: (P, 2) numbers of footprints that overlap, the smaller number first, sorted.
        shared: (P,) area that they share, in the unit of the CRS.
        pieces: (J, 2) numbers of footprints that are pieces of the same building.
    """

    pairs: NDArray[np.int64]
    shared: NDArray[np.float64]
    pieces: NDArray[np.int64]


def find_overlaps(heap: FootprintHeap) -> Overlaps:
    """Find the footprints of different scenes that overlap or continue each other.

    Memory holds the polygons of one part of the ground at a time.
    """
    pairs, shared, pieces = (
        [np.empty((0, 2), np.int64)],
        [np.empty(0)],
        [np.empty((0, 2), np.int64)],
    )
    for chunk in _chunks(heap.bounds):
        near = _near(heap, chunk)
        if not len(near):
            continue
        numbers, place = np.unique(near, return_inverse=True)
        one, other = heap.polygons(numbers)[place.reshape(near.shape)].T
        area = shapely.area(shapely.intersection(one, other))
        pairs.append(near[area > 0])
        shared.append(area[area > 0])
        cut = (heap.sight[near] == CUT).all(axis=1)
        if cut.any():
            together = _continue(heap, near[cut], one[cut], other[cut], area[cut])
            pieces.append(near[cut][together])
    found = np.concatenate(pairs)
    order = np.lexsort(found.T[::-1])
    return Overlaps(found[order], np.concatenate(shared)[order], np.concatenate(pieces))


def _chunks(bounds: NDArray[np.float64]) -> Iterator[NDArray[np.intp]]:
    """Yield all footprints in groups of neighbours: slabs from left to right, each bottom up."""
    count = len(bounds)
    slabs = max(1, round(np.sqrt(count / CHUNK)))
    across = np.argsort(bounds[:, 0], kind="stable")
    for slab in np.array_split(across, slabs):
        upwards = slab[np.argsort(bounds[slab, 1], kind="stable")]
        yield from np.array_split(upwards, max(1, -(-len(upwards) // CHUNK)))


def _near(heap: FootprintHeap, chunk: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return the pairs (P, 2) of footprints whose boxes meet and whose second is in a chunk."""
    if not len(chunk):
        return np.empty((0, 2), np.int64)
    reach = REACH_PX * float(heap.pixels.max(initial=0.0))
    left, bottom = heap.bounds[chunk, :2].min(axis=0) - reach
    right, top = heap.bounds[chunk, 2:].max(axis=0) + reach
    all_left, all_bottom, all_right, all_top = heap.bounds.T
    around = np.flatnonzero(
        (all_left <= right) & (all_right >= left) & (all_bottom <= top) & (all_top >= bottom)
    )
    tree = shapely.STRtree(_boxes(heap, chunk))
    one, other = tree.query(_boxes(heap, around))
    first, second = around[one], chunk[other]
    kept = (first < second) & (heap.scene[first] != heap.scene[second])
    return np.stack([first[kept], second[kept]], axis=1).astype(np.int64)


def _boxes(heap: FootprintHeap, numbers: NDArray[np.intp]) -> NDArray[Any]:
    """Return the boxes of footprints, grown by the gap that pieces may leave."""
    cut = heap.sight[numbers] == CUT
    grown = np.where(cut, REACH_PX * heap.pixels[heap.scene[numbers]], 0.0)
    left, bottom, right, top = heap.bounds[numbers].T
    return np.asarray(shapely.box(left - grown, bottom - grown, right + grown, top + grown))


def _continue(
    heap: FootprintHeap,
    pairs: NDArray[np.int64],
    one: NDArray[Any],
    other: NDArray[Any],
    shared: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return which pairs of pieces (P, 2), cut by the borders of their scenes, are one building.

    Where both scenes show the ground, both must see the same; where they only meet, the pieces
    must share a stretch of the border and not only a corner.
    """
    scenes = heap.scene[pairs]
    within = [
        _area_within(polygons, heap.regions[scenes[:, other_column]])
        for polygons, other_column in ((one, 1), (other, 0))
    ]
    overlap = (shared > 0) & (shared >= _AGREEING * np.minimum(*within))
    pixel = heap.pixels[scenes].mean(axis=1)
    # Scenes that merely meet, or overlap by less than what an outline may be off.
    sliver = REACH_PX * pixel * np.minimum(shapely.length(one), shapely.length(other)) / 4
    for number in np.flatnonzero(~overlap & (np.minimum(*within) <= sliver)):
        overlap[number] = _meet(one[number], other[number], REACH_PX * pixel[number])
    return overlap


def _area_within(polygons: NDArray[Any], regions: NDArray[Any]) -> NDArray[np.float64]:
    """Return the area of polygons (N,) inside regions (N,)."""
    areas = np.empty(len(polygons))
    for number, (polygon, region) in enumerate(zip(polygons, regions, strict=True)):
        left, bottom, right, top = polygon.bounds
        margin = _CLIP_PX * (right - left + top - bottom)
        # Of a large outline, only what is near matters.
        near = shapely.clip_by_rect(
            region, left - margin, bottom - margin, right + margin, top + margin
        )
        areas[number] = shapely.intersection(polygon, shapely.make_valid(near)).area
    return areas


def _meet(one: Any, other: Any, reach: float) -> bool:
    """Return whether two pieces share a stretch of border, exactly or across a gap."""
    common = shapely.intersection(one, other)
    if common.length > 0:
        return True
    grown = shapely.buffer(one, reach, join_style="mitre", cap_style="flat")
    # Of a piece at the corner of another, a square of this size is in reach.
    return bool(shapely.intersection(grown, other).area > 1.001 * reach * reach)
