"""Which buildings of two layers are the same, and which have no counterpart."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

_CHUNK = 1 << 18


@dataclass(frozen=True)
class Matches:
    """The buildings of two layers and their counterparts.

    Attributes:
        partner: (N,) number of the existing building that overlaps each new one most, by IoU; -1
            if none does.
        iou: (N,) IoU with it; 0 without one.
        matched: (N,) whether the two are the same building.
        new: (N,) whether the new building has no counterpart.
        gone: (M,) whether the existing building has no counterpart.
        taken: (M,) whether the existing building is the partner of a new one that is not new.
        counterpart: (M,) new building that overlaps each existing one most; -1 if none does.
    """

    partner: NDArray[np.int64]
    iou: NDArray[np.float64]
    matched: NDArray[np.bool_]
    new: NDArray[np.bool_]
    gone: NDArray[np.bool_]
    taken: NDArray[np.bool_]
    counterpart: NDArray[np.int64]


def match_buildings(
    new: NDArray[Any], existing: NDArray[Any], *, same: float, touching: float
) -> Matches:
    """Match the buildings of two layers one to one, the best overlaps first.

    Args:
        new: (N,) valid polygons.
        existing: (M,) valid polygons in the same plane.
        same: smallest IoU of the same building.
        touching: share of a building above which it has a counterpart.
    """
    pairs, shared = _overlaps(new, existing)
    one, other = pairs.T
    areas = shapely.area(new), shapely.area(existing)
    union = areas[0][one] + areas[1][other] - shared
    iou = shared / union
    order = np.lexsort([other, one, -iou])
    matched = np.zeros(len(new), dtype=bool)
    partner, counterpart = np.full(len(new), -1, np.int64), np.full(len(existing), -1, np.int64)
    best = np.zeros(len(new))
    for number in order[iou[order] >= same].tolist():
        if partner[one[number]] < 0 and counterpart[other[number]] < 0:
            partner[one[number]], counterpart[other[number]] = other[number], one[number]
            matched[one[number]], best[one[number]] = True, iou[number]
    touch = shared > touching * np.minimum(areas[0][one], areas[1][other])
    for number in order[touch[order]].tolist():
        if partner[one[number]] < 0:
            partner[one[number]], best[one[number]] = other[number], iou[number]
        if counterpart[other[number]] < 0:
            counterpart[other[number]] = one[number]
    taken = np.zeros(len(existing), dtype=bool)
    taken[partner[partner >= 0]] = True
    return Matches(partner, best, matched, partner < 0, counterpart < 0, taken, counterpart)


def _overlaps(
    new: NDArray[Any], existing: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs (P, 2) of buildings that overlap, and the area (P,) that they share."""
    tree = shapely.STRtree(existing)
    pairs, shared = [np.empty((0, 2), np.int64)], [np.empty(0)]
    for first in range(0, len(new), _CHUNK):
        one, other = tree.query(new[first : first + _CHUNK], predicate="intersects")
        area = shapely.area(shapely.intersection(new[first + one], existing[other]))
        found = np.stack([first + one, other], axis=1).astype(np.int64)
        pairs.append(found[area > 0])
        shared.append(area[area > 0])
    return np.concatenate(pairs), np.concatenate(shared)
