"""Laws of levels; oracles: the order of the values, numpy's half precision."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.levels import DTYPES, LARGEST_HALF, levels_of, to_levels, values_of
from rhm.colour.lookup import PixelMap


@pytest.mark.parametrize("dtype", DTYPES)
def test_levels_are_numbered_by_rising_value(dtype: np.dtype) -> None:
    values = values_of(dtype)
    assert values.shape == (levels_of(dtype),)
    assert values.dtype == dtype
    assert (np.diff(values.astype(np.float64)) >= 0.0).all()
    np.testing.assert_array_equal(values[to_levels(values)], values, strict=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_every_integer_has_its_own_level(dtype: type) -> None:
    assert np.unique(to_levels(values_of(dtype))).size == levels_of(dtype)


@given(arrays(np.float32, 20, elements=st.floats(-60000, 60000, width=32)))
def test_floats_are_rounded_to_half_precision_in_order(values: np.ndarray) -> None:
    levels = to_levels(values)
    np.testing.assert_array_equal(values_of(np.float32)[levels], values.astype(np.float16))
    order = np.argsort(values, kind="stable")
    assert (np.diff(levels[order].astype(int)) >= 0).all()


def test_what_is_beyond_half_precision_is_in_the_outermost_bins() -> None:
    values = np.array([-np.inf, -1e9, 1e9, np.inf, np.nan], dtype=np.float32)
    binned = values_of(np.float32)[to_levels(values)]
    assert binned.tolist() == [-LARGEST_HALF] * 2 + [LARGEST_HALF] * 2 + [-LARGEST_HALF]


def test_views_have_the_levels_of_their_copies() -> None:
    for dtype in DTYPES:
        image = np.random.default_rng(0).integers(0, 99, (12, 10, 3)).astype(dtype)
        view = image[::2, :, ::-1]
        np.testing.assert_array_equal(to_levels(view), to_levels(view.copy()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_a_mask_hides_is_not_counted_unasked(dtype: np.dtype) -> None:
    image = np.ma.masked_less(np.arange(256).reshape(16, 16).astype(dtype), 128)
    for use in (
        to_levels,
        Histogram.of,
        PixelMap.identity(dtype, 1).apply,
        lambda each: HistogramBank.from_images([each]),
    ):
        with pytest.raises(TypeError, match="masked arrays are not supported"):
            use(image)
