"""Complexity-aware IoU by its formula."""

import numpy as np
import pytest
import shapely

from rhm.evaluation.outlines.complexity import complexity_iou, vertex_count


def test_vertices_are_counted_once_and_without_holes() -> None:
    court = shapely.Polygon(shapely.box(0, 0, 9, 9).exterior, [shapely.box(1, 1, 2, 2).exterior])
    triangle = shapely.Polygon([(0, 0), (1, 0), (0, 1)])
    assert vertex_count(np.array([court, triangle])) == 7
    assert vertex_count(np.empty(0, dtype=object)) == 0


@pytest.mark.parametrize(
    ("iou", "predicted", "true", "expected"),
    [
        (0.8, 10, 10, 0.8),
        (0.8, 30, 10, 0.8 * (1 - 20 / 40)),
        (0.8, 10, 30, 0.4),
        (1.0, 0, 0, 1.0),  # nothing is there, and nothing was predicted
        (0.0, 0, 8, 0.0),
    ],
)
def test_it_is_the_iou_reduced_by_the_difference_of_vertices(
    iou: float, predicted: int, true: int, expected: float
) -> None:
    assert complexity_iou(iou, predicted, true) == pytest.approx(expected)
