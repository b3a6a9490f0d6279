"""Selection: every building once, as the scene shows it that sees it best."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rhm.mapping.merging.footprint_heap import FootprintHeap
from rhm.mapping.merging.overlaps import Overlaps
from rhm.mapping.merging.valid_regions import CUT


@dataclass(frozen=True)
class Buildings:
    """The buildings of the merged layer.

    Attributes:
        members: (M,) numbers of the footprints of all buildings, one building after another.
        firsts: (B + 1,) where the members of each building begin, and the end.
        rank: (B,) rank of each building; the best has 0.
    """

    members: NDArray[np.int64]
    firsts: NDArray[np.int64]
    rank: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rank)

    def of(self, building: int) -> NDArray[np.int64]:
        """Return the footprints of a building."""
        return self.members[self.firsts[building] : self.firsts[building + 1]]


def ranks(heap: FootprintHeap) -> NDArray[np.int64]:
    """Return the rank (N,) of each footprint: the better seen first, then the higher score."""
    score = np.nan_to_num(heap.score, nan=-1.0)
    order = np.lexsort((np.arange(len(heap)), -heap.size, -score, heap.sight))
    rank = np.empty(len(heap), np.int64)
    rank[order] = np.arange(len(heap))
    return rank


def select(
    heap: FootprintHeap,
    overlaps: Overlaps,
    rank: NDArray[np.int64],
    same: float,
    out: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Return which footprints (N,) are kept.

    Footprints are taken by rank. One is left out if those that were taken together cover more than
    ``same`` of it. One that was taken is given up again for a larger one that covers as much of it
    without being covered itself: a part of a building does not replace the whole. Pieces that are
    cut by the borders of their scenes never displace a building that a scene sees whole.

    A footprint may so be left out for another that is then left out for a third, which shows
    something else. In the end, one comes back if another scene shows most of it, too, and neither
    it nor what is kept covers more than ``same`` of the other.

    Args:
        heap: footprints.
        overlaps: which of them overlap.
        rank: rank of each.
        same: share of a footprint.
        out: (N,) bool, True for footprints that are left out unless they come back.
    """
    kept = ~out
    both_cut = (heap.sight[overlaps.pairs] == CUT).all(axis=1)
    pairs, shared = overlaps.pairs[~both_cut], overlaps.shared[~both_cut]
    around_all = _neighbourhoods(len(heap), pairs, shared)
    both_in = ~out[pairs].any(axis=1)
    pairs, shared = pairs[both_in], shared[both_in]
    starts, neighbours, areas = _neighbourhoods(len(heap), pairs, shared)
    involved = np.unique(pairs)
    involved = involved[np.argsort(rank[involved])]
    kept[involved] = False
    for number in involved.tolist():
        around = slice(starts[number], starts[number + 1])
        near, common = neighbours[around], areas[around]
        taken = kept[near]
        if _cover(heap, number, near[taken], common[taken], same * heap.size[number]):
            continue
        kept[number] = True
        if heap.sight[number] != CUT:
            covered = near[taken & (common > same * heap.size[near])]
            kept[covered] = False
    _take_back(heap, around_all, rank, same, kept, out)
    return kept


def _take_back(
    heap: FootprintHeap,
    neighbourhoods: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]],
    rank: NDArray[np.int64],
    same: float,
    kept: NDArray[np.bool_],
    out: NDArray[np.bool_],
) -> None:
    """Keep footprints again for which nothing is kept in their place, in place.

    What another scene sees better, and does not show, stays out: of two footprints that are both
    ``out``, neither is a witness for the other.
    """
    starts, neighbours, areas = neighbourhoods
    left_out = np.flatnonzero(~kept & (np.diff(starts) > 0))
    for number in left_out[np.argsort(rank[left_out])].tolist():
        around = slice(starts[number], starts[number + 1])
        near, common = neighbours[around], areas[around]
        elsewhere = heap.scene[near] != heap.scene[number]
        if out[number]:
            elsewhere &= ~out[near]
        if not (elsewhere & (common > same * heap.size[number])).any():
            continue  # no other scene has seen it
        taken = kept[near]
        hides = (taken & (common > same * heap.size[near])).any()
        if not hides and not _cover(
            heap, number, near[taken], common[taken], same * heap.size[number]
        ):
            kept[number] = True


def _cover(
    heap: FootprintHeap,
    number: int,
    others: NDArray[np.int64],
    shared: NDArray[np.float64],
    limit: float,
) -> bool:
    """Return whether others (K,), which share areas (K,) with a footprint, cover more of it."""
    if shared.sum() <= limit or shared.max() > limit:
        return bool(shared.sum() > limit)
    # Those of different scenes may cover the same part of it.
    cover = shapely.union_all(heap.polygons(others))
    return bool(shapely.intersection(heap.polygons(np.array([number]))[0], cover).area > limit)


def buildings_of(kept: NDArray[np.bool_], overlaps: Overlaps, rank: NDArray[np.int64]) -> Buildings:
    """Return the buildings: footprints that are kept, and pieces joined to one building each."""
    numbers = np.flatnonzero(kept)
    place = np.full(len(kept), -1)
    place[numbers] = np.arange(len(numbers))
    pieces = place[overlaps.pieces]
    pieces = pieces[(pieces >= 0).all(axis=1)]
    graph = coo_array(
        (np.ones(len(pieces), np.int8), (pieces[:, 0], pieces[:, 1])), (len(numbers),) * 2
    )
    count, group = connected_components(graph, directed=False)
    order = np.lexsort([numbers, group])
    firsts = np.searchsorted(group[order], np.arange(count + 1))
    members = numbers[order]
    best = np.minimum.reduceat(rank[members], firsts[:-1]) if count else np.empty(0, np.int64)
    return Buildings(members, firsts, best)


def trimmed_by(
    buildings: Buildings, overlaps: Overlaps, footprints: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of buildings that overlap: the worse one, and the one that it gives way to.

    Returns:
        (T,) numbers of buildings, ascending, and (T,) numbers of others.
    """
    owner = np.full(footprints, -1, np.int64)
    owner[buildings.members] = np.repeat(np.arange(len(buildings)), np.diff(buildings.firsts))
    pairs = owner[overlaps.pairs]
    pairs = pairs[(pairs >= 0).all(axis=1) & (pairs[:, 0] != pairs[:, 1])]
    worse_first = buildings.rank[pairs[:, 0]] > buildings.rank[pairs[:, 1]]
    pairs = np.unique(np.where(worse_first[:, None], pairs, pairs[:, ::-1]), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _neighbourhoods(
    count: int, pairs: NDArray[np.int64], shared: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return where the neighbours of each footprint begin, the neighbours, and the shared areas."""
    one = np.concatenate([pairs[:, 0], pairs[:, 1]])
    other = np.concatenate([pairs[:, 1], pairs[:, 0]])
    order = np.lexsort([other, one])
    starts = np.searchsorted(one[order], np.arange(count + 1))
    return starts, other[order], np.concatenate([shared, shared])[order]
