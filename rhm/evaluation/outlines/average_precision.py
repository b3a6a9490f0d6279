"""Average precision of scored polygons, as COCO defines it (Lin et al., ECCV 2014).

Predictions take the unmatched true building of the highest IoU in the order of their scores, image
by image. Over all images, in the order of the scores, the precision at 101 levels of recall is
averaged, where the precision at a recall is the highest one at this or a higher recall. The mean
over the IoU thresholds 0.50, 0.55, ..., 0.95 is *the* AP. Unlike COCO's program, which was made for
objects of everyday life, at most 100 of them in a picture, all predictions count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Thresholds of COCO."""

_RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, eq=False)
class Detections:
    """The predictions of an image, matched at every IoU threshold.

    Attributes:
        scores: (N,) scores.
        found: (thresholds, N) whether each prediction is matched.
        buildings: number of true buildings.
    """

    scores: NDArray[np.float64]
    found: NDArray[np.bool_]
    buildings: int

    @classmethod
    def of(
        cls, true: NDArray[Any], predicted: NDArray[Any], scores: NDArray[np.float64]
    ) -> "Detections":
        """Match the predictions of an image.

        Args:
            true: (M,) valid polygons with an area.
            predicted: (N,) valid polygons with an area.
            scores: (N,) scores of the predictions.
        """
        order = np.argsort(-scores, kind="stable")
        pairs, ious = _overlaps(true, predicted[order])
        found = np.stack([_matched(pairs, ious, len(order), each) for each in IOU_THRESHOLDS])
        return cls(scores[order], found, len(true))


@dataclass(frozen=True)
class AveragePrecisions:
    """Average precisions; nan without true buildings.

    Attributes:
        mean: mean over all IoU thresholds.
        at_50: at IoU 0.50.
        at_75: at IoU 0.75.
    """

    mean: float
    at_50: float
    at_75: float


def average_precisions(images: Sequence[Detections]) -> AveragePrecisions:
    """Return the average precisions of the predictions of images together."""
    buildings = sum(image.buildings for image in images)
    if not buildings:
        return AveragePrecisions(*[float("nan")] * 3)
    scores = np.concatenate([image.scores for image in images])
    found = np.concatenate([image.found for image in images], axis=1)
    found = found[:, np.argsort(-scores, kind="stable")]
    each = np.array([_average_precision(row, buildings) for row in found])
    return AveragePrecisions(float(each.mean()), float(each[0]), float(each[5]))


def _average_precision(found: NDArray[np.bool_], buildings: int) -> float:
    hits = np.cumsum(found)
    precision = hits / np.arange(1, len(hits) + 1)
    # The highest precision at this or a higher recall.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / buildings, _RECALLS, side="left")
    reached = np.append(envelope, 0.0)[np.minimum(places, len(envelope))]
    return float(reached.mean())


def _overlaps(
    true: NDArray[Any], predicted: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return pairs (P, 2) of prediction and building, by prediction and then IoU, and the IoU."""
    one, other = shapely.STRtree(true).query(predicted, predicate="intersects")
    common = shapely.area(shapely.intersection(predicted[one], true[other]))
    iou = common / (shapely.area(predicted)[one] + shapely.area(true)[other] - common)
    kept = iou >= IOU_THRESHOLDS[0]
    one, other, iou = one[kept], other[kept], iou[kept]
    order = np.lexsort([other, -iou, one])
    return np.stack([one, other], axis=1)[order].astype(np.int64), iou[order]


def _matched(
    pairs: NDArray[np.int64], ious: NDArray[np.float64], count: int, threshold: float
) -> NDArray[np.bool_]:
    """Return which predictions (N,) are matched at an IoU threshold."""
    found = np.zeros(count, dtype=bool)
    taken: set[int] = set()
    # As in COCO's program, so that an IoU that equals the threshold but for rounding counts.
    for prediction, building in pairs[ious >= min(threshold, 1 - 1e-10) - 1e-12].tolist():
        if not found[prediction] and building not in taken:
            found[prediction] = True
            taken.add(building)
    return found
