"""Average precision by hand-made cases of COCO's definition."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from rhm.evaluation.outlines.average_precision import Detections, average_precisions
from rhm.training.metrics import object_scores


def house(number: int, shift: float = 0.0) -> shapely.Polygon:
    """A house of 10 x 10; shifted by d along one axis, its IoU is (10 - d) / (10 + d)."""
    return shapely.box(100 * number + shift, 0, 100 * number + shift + 10, 10)


def detections(
    true: list[shapely.Polygon], predicted: list[shapely.Polygon], scores: list[float]
) -> Detections:
    return Detections.of(
        np.array(true, dtype=object), np.array(predicted, dtype=object), np.array(scores, float)
    )


def test_perfect_predictions_have_one_and_none_have_zero() -> None:
    true = [house(1), house(2)]
    assert average_precisions([detections(true, true, [0.9, 0.8])]).mean == 1.0
    assert average_precisions([detections(true, [], [])]).mean == 0.0
    assert np.isnan(average_precisions([detections([], true, [0.9, 0.8])]).mean)


def test_the_precision_is_the_highest_at_this_or_a_higher_recall() -> None:
    """True, false, true of two: precision 1 up to recall 0.5 (51 of 101 levels), then 2/3."""
    found = detections([house(1), house(2)], [house(1), house(7), house(2)], [0.9, 0.8, 0.7])
    expected = (51 * 1.0 + 50 * 2 / 3) / 101
    assert average_precisions([found]).at_50 == pytest.approx(expected)
    assert average_precisions([found]).mean == pytest.approx(expected)


def test_recalls_that_are_not_reached_have_precision_zero() -> None:
    found = detections([house(1), house(2)], [house(1)], [0.9])
    assert average_precisions([found]).at_50 == pytest.approx(51 / 101)


def test_a_loose_outline_counts_at_low_thresholds_only() -> None:
    """IoU 8/12 = 0.667: found at 0.50, 0.55, 0.60 and 0.65 of the ten thresholds."""
    found = average_precisions([detections([house(1)], [house(1, 2.0)], [0.9])])
    assert (found.at_50, found.at_75) == (1.0, 0.0)
    assert found.mean == pytest.approx(0.4)


def test_an_iou_at_the_threshold_counts() -> None:
    found = average_precisions([detections([house(1)], [shapely.box(100, 0, 105, 10)], [0.9])])
    assert found.at_50 == 1.0


def test_a_second_prediction_of_a_house_is_false() -> None:
    found = detections([house(1)], [house(1, 1.0), house(1)], [0.9, 0.8])
    assert found.found[0].tolist() == [True, False]
    assert found.found[-1].tolist() == [False, True]  # at 0.95, only the exact one


def test_images_are_ranked_together() -> None:
    """A false prediction that is surer than a true one of another image costs precision."""
    good, bad = detections([house(1)], [house(1)], [0.5]), detections([], [house(1)], [0.9])
    assert average_precisions([good, bad]).at_50 == pytest.approx(0.5)
    assert average_precisions([good, detections([], [house(1)], [0.4])]).at_50 == 1.0


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 9), st.integers(0, 9)), max_size=12))
def test_at_one_half_as_many_are_found_as_by_the_object_scores(
    drawn: list[tuple[int, float, int]],
) -> None:
    true = [house(number) for number in range(4)]
    predicted = [house(number, shift) for number, shift, _ in drawn]
    scores = [score / 10 for *_, score in drawn]
    counted = object_scores(true, predicted, scores=scores)
    assert detections(true, predicted, scores).found[0].sum() == counted.true_positives
