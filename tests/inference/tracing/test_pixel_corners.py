"""Outlines from corners: GDAL's are the oracle."""

from typing import Any

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.features import shapes
from skimage.measure import label

from rhm.inference.tracing.pixel_corners import Corners, corners_between, outlined


def outlines(building: NDArray[np.bool_]) -> NDArray[np.object_]:
    labels = label(building, connectivity=1)  # type: ignore[no-untyped-call]
    labels = np.pad(labels, ((1, 1), (0, 0)))
    corners = corners_between(labels, labels - 1, (0, 0))
    return outlined(corners, labels.max())


def by_gdal(building: NDArray[np.bool_]) -> NDArray[np.object_]:
    labels = label(building, connectivity=1)  # type: ignore[no-untyped-call]
    found = sorted(shapes(labels.astype(np.int32), mask=building), key=lambda pair: pair[1])
    # GDAL's rings may touch themselves.
    return np.array([shapely.make_valid(shapely.geometry.shape(each)) for each, _ in found])


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.booleans(),
    st.floats(0.05, 0.95),
)
def test_outlines_are_those_of_gdal(
    seed: int, size: tuple[int, int], smooth: bool, share: float
) -> None:
    image: Any = np.random.default_rng(seed).random(size)
    if smooth:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 1.2)).reshape(size)
    building = image >= np.quantile(image, share)
    found = outlines(building)
    assert shapely.is_valid(found).all()
    expected = shapely.normalize(shapely.remove_repeated_points(by_gdal(building)))
    np.testing.assert_array_equal(
        shapely.to_wkb(shapely.normalize(found)), shapely.to_wkb(expected)
    )
    for each in found:
        turns = np.diff(shapely.get_coordinates(each.exterior), axis=0)
        assert (np.count_nonzero(turns, axis=1) == 1).all()
        assert each.exterior.is_ccw is False  # which it is where rows count downwards


def test_a_component_that_touches_itself_at_a_corner_has_a_hole() -> None:
    building = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=bool)
    (ring,) = outlines(building)
    assert ring.is_valid
    assert len(ring.interiors) == 1
    assert ring.area == 7


def test_components_that_touch_at_a_corner_stay_two() -> None:
    found = outlines(np.eye(3, dtype=bool))
    assert [each.bounds for each in found] == [(0, 0, 1, 1), (1, 1, 2, 2), (2, 2, 3, 3)]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_corners_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    building = rng.random((20, 20)) < 0.6
    labels = label(building, connectivity=1)  # type: ignore[no-untyped-call]
    labels = np.pad(labels, ((1, 1), (0, 0)))
    corners = corners_between(labels, labels - 1, (0, 0))
    mixed = corners[rng.permutation(len(corners))]
    halves = Corners.joined(mixed[np.arange(10)], mixed[np.arange(10, len(mixed))])
    expected = shapely.to_wkb(outlined(corners, labels.max()))
    np.testing.assert_array_equal(shapely.to_wkb(outlined(halves, labels.max())), expected)


def test_nothing_has_no_outline() -> None:
    assert len(outlines(np.zeros((3, 4), dtype=bool))) == 0
