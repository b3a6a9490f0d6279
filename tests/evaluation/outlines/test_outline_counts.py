"""Sums over outlines can be added, and give the means of all images."""

import numpy as np
import pytest
import shapely

from rhm.evaluation.outlines.outline_counts import (
    OutlineCounts,
    mean_complexity_iou,
    mean_polis,
    mean_tangent_error,
    vertex_ratio,
)

TRUE = np.array([shapely.box(0, 0, 40, 40), shapely.box(100, 0, 140, 40)])
MOVED = shapely.box(4, 0, 44, 40)


def test_matched_outlines_are_compared_in_metres() -> None:
    counts = OutlineCounts.of(TRUE, np.array([MOVED]), 0.4, 0.5)
    assert counts.matched == 1
    assert mean_polis(counts.vector) == pytest.approx(0.5 * 2.0)
    assert vertex_ratio(counts.vector) == 0.5
    assert mean_complexity_iou(counts.vector) == pytest.approx(0.4 * (1 - 4 / 12))
    assert mean_tangent_error(counts.vector) == pytest.approx(0.0, abs=1e-3)


def test_images_are_added() -> None:
    one = OutlineCounts.of(TRUE, np.array([MOVED]), 0.4, 1.0)
    other = OutlineCounts.of(TRUE, TRUE, 1.0, 1.0)
    both = (one + other).vector
    assert mean_polis(both) == pytest.approx(2.0 / 3)
    assert mean_complexity_iou(both) == pytest.approx((0.4 * 2 / 3 + 1.0) / 2)
    assert vertex_ratio(both) == 12 / 16


def test_without_buildings_there_is_nothing_to_compare() -> None:
    none = np.empty(0, dtype=object)
    counts = OutlineCounts.of(none, none, float("nan"), 1.0)
    assert np.isnan(mean_polis(counts.vector))
    assert np.isnan(vertex_ratio(counts.vector))
    assert np.isnan(mean_complexity_iou(counts.vector))
    # However many images without a building there are besides.
    one = OutlineCounts.of(TRUE, TRUE, 0.2, 1.0)
    assert mean_complexity_iou((one + counts + counts).vector) == mean_complexity_iou(one.vector)
    missed = OutlineCounts.of(TRUE, none, 0.0, 1.0)
    assert vertex_ratio(missed.vector) == 0.0
    assert np.isnan(mean_tangent_error(missed.vector))


def test_outlines_in_pixels_of_unknown_size_have_no_distance_in_metres() -> None:
    known = OutlineCounts.of(TRUE, np.array([MOVED]), 0.4, 0.5)
    unknown = OutlineCounts.of(TRUE, np.array([MOVED]), 0.4, None)
    assert np.isnan(mean_polis(unknown.vector))
    assert mean_polis((known + unknown).vector) == mean_polis(known.vector)
    for score in (mean_complexity_iou, vertex_ratio, mean_tangent_error):
        assert score(unknown.vector) == score(known.vector)
