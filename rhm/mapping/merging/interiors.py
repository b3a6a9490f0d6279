"""Footprints near the border of their scene, where another scene sees the ground better.

Beyond the border of a scene, a network sees mirrored ground. What it finds near the border may
therefore differ from what it finds in another scene, of which the same ground is in the interior.
"""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rhm.mapping.merging.footprint_heap import FootprintHeap
from rhm.mapping.merging.overlaps import CHUNK, Overlaps
from rhm.mapping.merging.valid_regions import CLEAR, MARGIN_PX


def better_seen_elsewhere(heap: FootprintHeap, overlaps: Overlaps) -> NDArray[np.bool_]:
    """Return which footprints (N,) lie near the border of their scene, but inside another one.

    What the other scene shows there counts instead, even if that is nothing. Where it shows a
    building that reaches its own border region, neither scene is the better witness, and the
    footprint remains.
    """
    found = np.zeros(len(heap), dtype=bool)
    scenes, interiors = _interiors(heap)
    near = np.flatnonzero(heap.sight != CLEAR)
    if not len(scenes) or not len(near):
        return found
    tree = shapely.STRtree(interiors)
    doubtful = np.unique(_doubts(heap, overlaps))
    for first in range(0, len(near), CHUNK):
        numbers = near[first : first + CHUNK]
        one, other = tree.query(heap.polygons(numbers), predicate="within")
        footprint, scene = numbers[one], scenes[other]
        counts = (scene != heap.scene[footprint]) & ~np.isin(_key(heap, footprint, scene), doubtful)
        found[footprint[counts]] = True
    return found


def _interiors(heap: FootprintHeap) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Return the scenes that have an interior, and these interiors."""
    known = np.flatnonzero([region is not None for region in heap.regions])
    if not len(known):
        return known, np.empty(0, dtype=object)
    margins = -MARGIN_PX * heap.pixels[known]
    inside = shapely.buffer(heap.regions[known], margins, join_style="mitre")
    some = ~shapely.is_empty(inside)
    return known[some], inside[some]


def _doubts(heap: FootprintHeap, overlaps: Overlaps) -> NDArray[np.int64]:
    """Return footprints with the scenes that overlap them with one near their own border."""
    both = np.concatenate([overlaps.pairs, overlaps.pairs[:, ::-1]])
    both = both[heap.sight[both[:, 1]] != CLEAR]
    return _key(heap, both[:, 0], heap.scene[both[:, 1]])


def _key(heap: FootprintHeap, footprint: NDArray[Any], scene: NDArray[Any]) -> NDArray[np.int64]:
    return np.asarray(footprint.astype(np.int64) * len(heap.regions) + scene)
