"""The scores of a domain are those of its images together."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import shapely

from rhm.evaluation.bootstrap import bootstrap_interval
from rhm.evaluation.outlines.average_precision import Detections
from rhm.evaluation.outlines.domain_outlines import outline_scores
from rhm.evaluation.outlines.outline_counts import OutlineCounts
from rhm.evaluation.scores import Interval

TRUE = np.array([shapely.box(0, 0, 40, 40)])
NONE = np.empty(0, dtype=object)


def test_undefined_scores_are_none() -> None:
    def interval(counts: Sequence[OutlineCounts], score: Callable[..., Any]) -> Interval:
        return bootstrap_interval(counts, ["a", "b"], score, seed=0)

    images = [(TRUE, TRUE, np.array([0.9])), (NONE, NONE, np.empty(0))]
    counts = [OutlineCounts.of(true, found, 1.0, 1.0) for true, found, _ in images]
    scores = outline_scores(counts, [Detections.of(*image) for image in images], interval)
    assert scores.polis_m.value == 0.0
    assert (scores.ap, scores.ap50, scores.ap75) == (1.0, 1.0, 1.0)
    empty = outline_scores(counts[1:] * 2, [Detections.of(*images[1])], interval)
    assert empty.ap is None
    assert empty.polis_m.value is None
    assert empty.complexity_iou.value == 1.0
