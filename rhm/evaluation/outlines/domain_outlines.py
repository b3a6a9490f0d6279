"""The scores of the outlines of a domain."""

from collections.abc import Callable, Sequence
from typing import Any

from rhm.evaluation.outlines.average_precision import Detections, average_precisions
from rhm.evaluation.outlines.outline_counts import (
    OutlineCounts,
    mean_complexity_iou,
    mean_polis,
    mean_tangent_error,
    vertex_ratio,
)
from rhm.evaluation.scores import Interval, OutlineScores, finite


def outline_scores(
    counts: Sequence[OutlineCounts],
    detections: Sequence[Detections],
    interval: Callable[[Sequence[OutlineCounts], Callable[..., Any]], Interval],
) -> OutlineScores:
    """Return the scores of the outlines of images.

    Args:
        counts: sums over the outlines of each image.
        detections: matched predictions of each image.
        interval: function that returns a score with its bootstrap interval.
    """
    precisions = average_precisions(detections)
    return OutlineScores(
        polis_m=interval(counts, mean_polis),
        complexity_iou=interval(counts, mean_complexity_iou),
        vertex_ratio=interval(counts, vertex_ratio),
        tangent_error_deg=interval(counts, mean_tangent_error),
        ap=finite(precisions.mean),
        ap50=finite(precisions.at_50),
        ap75=finite(precisions.at_75),
    )
