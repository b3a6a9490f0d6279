"""Planes of bands; oracle: numpy's own transposition and comparison."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rhm.data.rasters.pixels import any_differs, bands_last

SHAPES = st.tuples(st.integers(1, 10), st.integers(1, 7), st.integers(1, 7))
PLANES = st.sampled_from([np.uint8, np.uint16, np.int16, np.float32]).flatmap(
    lambda dtype: SHAPES.flatmap(
        lambda shape: hnp.arrays(dtype, shape, elements=st.integers(0, 3).map(dtype))
    )
)


@given(PLANES)
def test_bands_come_last_and_lie_side_by_side(planes: np.ndarray) -> None:
    pixels = bands_last(planes)
    assert pixels.flags.c_contiguous
    assert pixels.dtype == planes.dtype
    np.testing.assert_array_equal(pixels, np.moveaxis(planes, 0, -1))


@given(PLANES, st.integers(0, 3))
def test_a_pixel_differs_where_some_band_does(planes: np.ndarray, value: int) -> None:
    before = planes.copy()
    np.testing.assert_array_equal(any_differs(planes, value), (planes != value).any(axis=0))
    np.testing.assert_array_equal(planes, before)


@pytest.mark.parametrize("bands", [1, 3, 4, 5, 513])
def test_any_number_of_bands_will_do(bands: int) -> None:
    planes = np.arange(bands * 6, dtype=np.uint16).reshape(bands, 2, 3)
    np.testing.assert_array_equal(bands_last(planes), planes.transpose(1, 2, 0))
