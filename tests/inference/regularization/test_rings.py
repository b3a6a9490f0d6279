"""Many rings in one array; oracle: each ring in a loop of its own."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rhm.inference.regularization.rings import (
    TIE,
    across,
    along,
    first_maxima,
    latest,
    lengths,
    neighbours,
    runs,
    totals,
    turned,
)

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=5)
ANGLES = st.floats(-7.0, 7.0)


def labels_of(sizes: list[int]) -> NDArray[np.intp]:
    return np.repeat(np.arange(len(sizes)), sizes)


def rings_of(values: NDArray[Any], sizes: list[int]) -> list[NDArray[Any]]:
    return np.split(values, np.cumsum(sizes)[:-1])


@given(SIZES)
def test_runs_begin_where_the_ring_before_ends(sizes: list[int]) -> None:
    assert runs(labels_of(sizes)).tolist() == [0, *np.cumsum(sizes)[:-1].tolist()]


@given(SIZES)
def test_the_neighbours_of_an_element_are_those_of_a_rolled_ring(sizes: list[int]) -> None:
    before, after, size = neighbours(labels_of(sizes))
    index = np.arange(sum(sizes))
    expected = [(np.roll(ring, 1), np.roll(ring, -1)) for ring in np.split(index, np.cumsum(sizes))]
    np.testing.assert_array_equal(before, np.concatenate([ring[0] for ring in expected]))
    np.testing.assert_array_equal(after, np.concatenate([ring[1] for ring in expected]))
    np.testing.assert_array_equal(size, np.repeat(sizes, sizes))


@given(SIZES, st.integers(0, 1 << 20))
def test_totals_are_sums_by_ring(sizes: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=sum(sizes))
    found = totals(labels_of(sizes), values, len(sizes) + 1)
    expected = [ring.sum() for ring in rings_of(values, sizes)]
    np.testing.assert_allclose(found, [*expected, 0.0], atol=1e-12)


@given(SIZES, st.integers(0, 1 << 20))
def test_of_maxima_that_are_equal_but_for_rounding_the_first_is_taken(
    sizes: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, 3, sum(sizes)).astype(np.float64)
    values = steps + rng.uniform(0.0, 0.5 * TIE, len(steps))
    maxima, first = first_maxima(values, labels_of(sizes))
    np.testing.assert_array_equal(maxima, [ring.max() for ring in rings_of(values, sizes)])
    begins = np.cumsum([0, *sizes[:-1]])
    expected = [ring.argmax() for ring in rings_of(steps, sizes)]
    np.testing.assert_array_equal(first, begins + expected)


@given(SIZES, st.integers(0, 1 << 20))
def test_the_latest_value_goes_around_the_ring(sizes: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).integers(-1, 3, sum(sizes))
    expected = []
    for ring in rings_of(values, sizes):
        for place in range(len(ring)):
            around = [*np.roll(ring, -place - 1)[::-1]]
            expected.append(next((value for value in around if value >= 0), -1))
    np.testing.assert_array_equal(latest(values, labels_of(sizes)), expected)


@given(ANGLES, ANGLES, st.integers(0, 1 << 20))
def test_turned_axes_keep_lengths_and_products(one: float, other: float, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(3, 2))
    angles = np.full(3, one)
    found = turned(vectors, angles)
    np.testing.assert_allclose(lengths(found), lengths(vectors))
    # A vector seen from its own direction lies along the first axis.
    headings = np.arctan2(vectors[:, 1], vectors[:, 0])
    ahead = turned(vectors, headings)
    np.testing.assert_allclose(ahead, np.stack([lengths(vectors), np.zeros(3)], axis=1), atol=1e-12)
    twice = turned(found, np.full(3, other))
    np.testing.assert_allclose(twice, turned(vectors, angles + other), atol=1e-12)


@given(st.integers(0, 1 << 20))
def test_along_and_across_are_the_coordinates_in_the_directions_frame(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles, vectors = rng.uniform(0.0, 6.0, 4), rng.normal(size=(4, 2))
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    framed = turned(vectors, angles)
    np.testing.assert_allclose(along(directions, vectors), framed[:, 0], atol=1e-12)
    np.testing.assert_allclose(across(directions, vectors), framed[:, 1], atol=1e-12)


def test_a_ring_of_one_is_its_own_neighbour() -> None:
    before, after, size = neighbours(np.array([0]))
    assert (before[0], after[0], size[0]) == (0, 0, 1)
    assert lengths(np.array([[3.0, 4.0]]))[0] == pytest.approx(5.0)
