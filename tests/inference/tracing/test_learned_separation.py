"""Learned separation: houses are parted where the probability of their inside falls."""

from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rhm.inference.tracing.components import Outlines, Tracer, trace
from rhm.inference.tracing.watershed import LearnedSeparation


def row_of_houses(valley: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Three houses that share walls: building probability, and that of the inside."""
    building = np.zeros((24, 60), dtype=np.float32)
    building[4:20, 3:57] = 0.95
    inside = np.where(building > 0, np.float32(0.9), np.float32(0.0))
    inside[:, [20, 21, 38, 39]] *= valley
    return building, inside


@pytest.mark.parametrize(("valley", "count"), [(0.2, 3), (0.6, 3), (0.8, 1), (1.0, 1)])
def test_houses_are_parted_by_a_fall_of_the_inside(valley: float, count: int) -> None:
    building, inside = row_of_houses(valley)
    valid = np.ones(building.shape, bool)
    found = trace(building, valid, watershed=LearnedSeparation(0.3), inside=inside)
    assert len(found) == count
    assert shapely.area(found.polygons).sum() == (building > 0).sum()
    np.testing.assert_allclose(found.scores, 0.95, rtol=1e-6)
    if count == 3:
        left, _, right, _ = np.sort(shapely.bounds(found.polygons), axis=0).T
        assert (np.abs(left - [3, 21, 39]) <= 1).all()
        assert (np.abs(right - [21, 39, 57]) <= 1).all()


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 23), max_size=4), st.floats(0.05, 1.0), st.integers(0, 2**32 - 1))
def test_bands_of_rows_make_no_difference(cuts: list[int], drop: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    building = rng.random((24, 30)).astype(np.float32)
    inside = (building * rng.random((24, 30))).astype(np.float32)
    splitting = LearnedSeparation(drop)
    valid = np.ones(building.shape, bool)
    whole = trace(building, valid, threshold=0.4, watershed=splitting, inside=inside)
    tracer, edges = Tracer(30, splitting), [0, *sorted(set(cuts)), 24]
    parts = [
        tracer.feed(building[a:b] >= 0.4, building[a:b], inside[a:b]) for a, b in pairwise(edges)
    ]
    found = Outlines.joined(*parts, tracer.finish())
    assert [each.wkb for each in found.polygons] == [each.wkb for each in whole.polygons]
    np.testing.assert_array_equal(found.scores, whole.scores)
