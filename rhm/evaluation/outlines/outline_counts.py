"""The sums from which the scores of outlines are computed, for one image."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rhm.evaluation.outlines.complexity import complexity_iou, vertex_count
from rhm.evaluation.outlines.polis import polis_distances
from rhm.evaluation.outlines.tangents import tangent_errors
from rhm.training.metrics import Counts, FloatArray

MATCHING_IOU = 0.5
"""Outlines are compared by PoLiS if their IoU reaches this, as is usual."""


@dataclass(frozen=True)
class OutlineCounts(Counts):
    """Sums over the outlines of an image, and with those of other images.

    Attributes:
        polis_m: sum of the PoLiS distances of matched outlines, in metres.
        matched: number of matched outlines, on images of which a pixel's size is known.
        complexity_iou: sum of the complexity-aware IoU of images.
        images: number of images with a true or a predicted building.
        vertices: number of predicted vertices.
        true_vertices: number of true vertices.
        tangent_deg: sum of the maximum tangent angle errors, in degrees.
        compared: number of outlines with such an error.
    """

    polis_m: float = 0.0
    matched: int = 0
    complexity_iou: float = 0.0
    images: int = 0
    vertices: int = 0
    true_vertices: int = 0
    tangent_deg: float = 0.0
    compared: int = 0

    @classmethod
    def of(
        cls, true: NDArray[Any], predicted: NDArray[Any], iou: float, gsd_m: float | None
    ) -> "OutlineCounts":
        """Compare the outlines of an image.

        Args:
            true: (M,) valid polygons in pixels.
            predicted: (N,) valid polygons in pixels.
            iou: IoU of the pixels; nan without any building, so that there is nothing to count.
            gsd_m: side of a pixel in metres; None if unknown, so that no distance is counted.
        """
        distances = np.empty(0)
        if gsd_m is not None:
            one, other = _best_pairs(true, predicted)
            distances = gsd_m * polis_distances(true[one], predicted[other])
        errors = tangent_errors(predicted, true)
        vertices = vertex_count(predicted), vertex_count(true)
        # Every image without a building would else raise the mean of those that have some.
        seen = not np.isnan(iou)
        return cls(
            float(distances.sum()),
            len(distances),
            complexity_iou(iou, *vertices) if seen else 0.0,
            int(seen),
            *vertices,
            float(errors.sum()),
            len(errors),
        )


def mean_polis(counts: FloatArray) -> FloatArray:
    """Return the mean PoLiS distance, in metres, of (..., 8) counts of an OutlineCounts."""
    return _ratio(counts[..., 0], counts[..., 1])


def mean_complexity_iou(counts: FloatArray) -> FloatArray:
    """Return the mean complexity-aware IoU of (..., 8) counts of an OutlineCounts."""
    return _ratio(counts[..., 2], counts[..., 3])


def vertex_ratio(counts: FloatArray) -> FloatArray:
    """Return the number of predicted vertices for each true one."""
    return _ratio(counts[..., 4], counts[..., 5])


def mean_tangent_error(counts: FloatArray) -> FloatArray:
    """Return the mean of the maximum tangent angle errors, in degrees."""
    return _ratio(counts[..., 6], counts[..., 7])


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    result = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=result, where=np.asarray(denominator) > 0)
    return result


def _best_pairs(
    true: NDArray[Any], predicted: NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return matched outlines: pairs with at least ``MATCHING_IOU``, the best first."""
    other, one = shapely.STRtree(true).query(predicted, predicate="intersects")
    common = shapely.area(shapely.intersection(true[one], predicted[other]))
    iou = common / (shapely.area(true)[one] + shapely.area(predicted)[other] - common)
    order = np.lexsort([other, one, -iou])
    order = order[iou[order] >= MATCHING_IOU]
    chosen, seen = [], (set(), set())  # type: ignore[var-annotated]
    for number in order.tolist():
        if one[number] not in seen[0] and other[number] not in seen[1]:
            seen[0].add(one[number])
            seen[1].add(other[number])
            chosen.append(number)
    return one[chosen], other[chosen]
