"""Splitting: made-up buildings that touch, and properties of any split."""

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label

from rhm.inference.tracing.components import trace
from rhm.inference.tracing.watershed import Watershed
from tests.inference.tracing.houses import two_houses


@pytest.mark.parametrize(
    ("neck", "neck_px", "count"), [(2, 4, 2), (6, 4, 2), (12, 4, 1), (2, 9, 1)]
)
def test_a_neck_splits_if_it_is_narrow_enough(neck: int, neck_px: float, count: int) -> None:
    image = two_houses(neck)
    labels = Watershed(neck_px, 0.5).parts(image >= 0.5, image)
    sizes = np.bincount(labels.ravel())[1:]
    assert len(sizes) == count
    assert sizes.sum() == (image >= 0.5).sum()
    if count == 2:
        assert sizes.min() >= 16 * 16
        assert labels[12, 4] != labels[12, 39]


@pytest.mark.parametrize(
    ("neck", "neck_px", "count"), [(2, 4, 2), (6, 4, 2), (12, 4, 1), (2, 9, 1)]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_pixels_that_are_not_square_make_no_difference(
    neck: int, neck_px: float, count: int, axis: int
) -> None:
    square = two_houses(neck)
    # Every pixel becomes three, each a third as large along one axis.
    image = np.repeat(square, 3, axis=axis)
    watershed = Watershed(neck_px, 0.5, 1 / 3) if axis else Watershed(3 * neck_px, 0.5, 3.0)
    labels = watershed.parts(image >= 0.5, image)
    expected = Watershed(neck_px, 0.5).parts(square >= 0.5, square)
    assert labels.max() == expected.max() == count
    # The border may run along another column of the neck.
    assert (labels == np.repeat(expected, 3, axis=axis)).mean() > 0.9


def test_nearly_square_pixels_are_split_like_square_ones() -> None:
    rough = np.random.default_rng(5).random((80, 90)).astype(np.float32)
    image = np.asarray(cv2.GaussianBlur(rough, (0, 0), 2.0))
    building = image >= np.median(image)
    exact = Watershed(2.0, 0.5).parts(building, image)
    nearly = Watershed(2.0, 0.5, 1.0 + 1e-9).parts(building, image)
    np.testing.assert_array_equal(nearly, exact)


@pytest.mark.parametrize(("between", "count"), [(0.9, 1), (0.8, 1), (0.6, 2)])
def test_a_row_of_doubt_splits_houses_side_by_side(between: float, count: int) -> None:
    image = two_houses(16, between)
    outlines = trace(image, np.ones(image.shape, bool), watershed=Watershed(8.0, 0.5))
    assert len(outlines) == count
    np.testing.assert_allclose(shapely.area(outlines.polygons).sum(), 16 * 36)


def test_a_house_with_a_wing_stays_whole() -> None:
    image = np.zeros((40, 40), dtype=np.float32)
    image[5:15, 5:35] = image[15:35, 5:15] = 0.9
    assert Watershed(3.0, 0.5).parts(image >= 0.5, image).max() == 1


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.floats(0.2, 8.0),
    st.floats(0.0, 1.0),
)
def test_parts_cover_a_component_and_are_connected(
    seed: int, size: tuple[int, int], neck_px: float, threshold: float
) -> None:
    rough = np.random.default_rng(seed).random(size).astype(np.float32)
    image = np.asarray(cv2.GaussianBlur(rough, (0, 0), 1.2)).reshape(size)
    building = image >= np.median(image)
    labels = Watershed(neck_px, threshold).parts(building, image)
    np.testing.assert_array_equal(labels > 0, building)
    components = label(building, connectivity=1)  # type: ignore[no-untyped-call]
    for part in range(1, labels.max() + 1):
        assert label(labels == part, connectivity=1).max() == 1  # type: ignore[no-untyped-call]
        assert len(np.unique(components[labels == part])) == 1
