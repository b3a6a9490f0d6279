"""Laws of the random pixel-wise shifts; oracle of the hue's turn: scikit-image."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.color import hsv2rgb, rgb2hsv

from rhm.colour.lookup import PixelMap
from rhm.colour.shifts import BAND_SHIFTS, SHIFTS, HsvShift, check_band_shift, shift_of
from rhm.errors import ConfigError

RANGES = [
    ("uint8", 255.0),
    ("uint8", 90.0),
    ("uint16", 2047.0),
    ("uint16", 65535.0),
    ("int16", 900.0),
    ("float32", 1.0),
]
TABLES = sorted(set(SHIFTS) - {"hsv"})
"""The families that treat each band by itself."""


def table_of(
    family: str, name: str = "a", *, imagery: tuple[str, float], bands: int = 3, seed: int = 0
) -> PixelMap:
    dtype, high = imagery
    shift = shift_of(family, name, dtype=np.dtype(dtype), bands=bands, high=high, seed=seed)
    assert isinstance(shift, PixelMap)
    return shift


def colours(dtype: str, high: float, *, seed: int = 0) -> NDArray[Any]:
    """Random pixels, grays, black and white among them."""
    image = np.random.default_rng(seed).uniform(0.0, high, (20, 30, 3))
    image[:3] = image[:3, :, :1]
    image[0, :2] = [[0.0], [high]]
    return np.asarray(image.astype(dtype))


@given(
    st.sampled_from(TABLES),
    st.sampled_from([*RANGES, ("uint16", 65536.0)]),
    st.integers(1, 8),
    st.integers(0, 1 << 31),
    st.text(max_size=5),
)
def test_a_shift_keeps_the_order_of_values_and_the_range(
    family: str, imagery: tuple[str, float], bands: int, seed: int, name: str
) -> None:
    shift = table_of(family, name, imagery=imagery, bands=bands, seed=seed)
    dtype, high = imagery
    assert shift.bands == bands
    assert shift.input_dtype.name == shift.output_dtype.name == dtype
    tables = shift.tables.astype(np.float64)
    assert (np.diff(tables, axis=1) >= 0).all()
    assert 0 <= tables.min() <= tables.max() <= high


@pytest.mark.parametrize("family", sorted(SHIFTS))
@pytest.mark.parametrize(("dtype", "high"), RANGES)
def test_seed_and_name_decide_the_shift(family: str, dtype: str, high: float) -> None:
    image = colours(dtype, high)

    def shifted(name: str, seed: int) -> bytes:
        drawn = shift_of(family, name, dtype=np.dtype(dtype), bands=3, high=high, seed=seed)
        seen = drawn.apply(image)
        assert (seen.dtype, seen.shape) == (image.dtype, image.shape)
        return seen.tobytes()

    assert shifted("a.tif", 1) == shifted("a.tif", 1)
    seen = {shifted(name, seed) for name in ("a.tif", "b.tif") for seed in (1, 2)}
    assert len(seen | {image.tobytes()}) == 5


@pytest.mark.parametrize("family", TABLES)
def test_bands_are_shifted_differently(family: str) -> None:
    drawn = table_of(family, imagery=("uint8", 255.0))
    assert len({table.tobytes() for table in drawn.tables}) == 3


@pytest.mark.parametrize("family", TABLES)
def test_shifts_vary_around_the_image_as_it_is(family: str) -> None:
    heights = [
        table_of(family, imagery=("uint8", 255.0), bands=1, seed=seed).tables[0, 128]
        for seed in range(200)
    ]
    assert min(heights) < 90
    assert max(heights) > 165


def test_hue_saturation_and_value_are_drawn_from_their_ranges() -> None:
    drawn = [
        shift_of("hsv", "a", dtype=np.dtype("uint8"), bands=3, high=255.0, seed=seed)
        for seed in range(200)
    ]
    for name, first, last in (
        ("degrees", -40.0, 40.0),
        ("saturation", 0.5, 1.5),
        ("value", 0.5, 1.5),
    ):
        values = [getattr(each, name) for each in drawn]
        margin = 0.1 * (last - first)
        assert first <= min(values) < first + margin
        assert last >= max(values) > last - margin


@pytest.mark.parametrize(("dtype", "high"), RANGES)
@pytest.mark.parametrize(
    ("degrees", "saturation", "value"),
    [(0.0, 1.0, 1.0), (30.0, 1.0, 1.0), (-40.0, 0.6, 1.4), (360.0, 1.5, 0.5), (0.0, 0.0, 1.0)],
)
def test_a_turn_of_the_hue_is_scikit_images(
    dtype: str, high: float, degrees: float, saturation: float, value: float
) -> None:
    image = colours(dtype, high)
    seen = HsvShift(degrees, saturation, value, high).apply(image)
    assert (seen.dtype, seen.shape) == (image.dtype, image.shape)
    hsv = rgb2hsv(image.astype(np.float64) / high)
    hsv[..., 0] = (hsv[..., 0] + degrees / 360.0) % 1.0
    hsv[..., 1:] = np.clip(hsv[..., 1:] * [saturation, value], 0.0, 1.0)
    expected = high * hsv2rgb(hsv)
    rounding = 0.0 if dtype == "float32" else 0.5
    assert np.abs(seen - expected).max() <= rounding + 2e-5 * high


@pytest.mark.parametrize(("dtype", "high"), RANGES)
def test_no_turn_changes_nothing(dtype: str, high: float) -> None:
    image = colours(dtype, high)
    seen = HsvShift(0.0, 1.0, 1.0, high).apply(image).astype(np.float64)
    # Single precision, which 16 bits do not fit into twice over, is all that is lost.
    np.testing.assert_allclose(seen, image, atol=1 if dtype == "uint16" else 1e-5)


def test_white_beyond_the_type_does_not_wrap_around() -> None:
    image = colours("uint16", 65535.0)
    seen = HsvShift(0.0, 1.0, 1.5, 65536.0).apply(image)
    assert (seen.max(axis=2) >= image.max(axis=2)).all()
    assert seen.max() == 65535


@pytest.mark.parametrize(("dtype", "high"), RANGES)
def test_pixels_without_data_keep_their_values(dtype: str, high: float) -> None:
    image = colours(dtype, high)
    valid = np.random.default_rng(1).random(image.shape[:2]) < 0.5
    if dtype == "float32":
        image[~valid] = np.nan
    shift = HsvShift(40.0, 0.5, 0.7, high)
    before = image.copy()
    seen = shift.apply(image, valid=valid)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(seen[~valid], image[~valid])
    np.testing.assert_array_equal(seen[valid], shift.apply(image)[valid])
    assert (seen[valid] != image[valid]).any()


@pytest.mark.parametrize("bands", [1, 2, 4, 8])
def test_only_three_bands_have_a_hue(bands: int) -> None:
    with pytest.raises(
        ConfigError, match=f"'hsv' needs red, green and blue, but the imagery has {bands}"
    ):
        shift_of("hsv", "a", dtype=np.dtype("uint8"), bands=bands, high=255.0, seed=0)


def test_a_file_name_need_not_be_utf_8() -> None:
    name = b"caf\xe9.tif".decode(errors="surrogateescape")
    assert table_of("gamma", name, imagery=("uint8", 255.0), bands=1).tables[0, 255] == 255


def test_an_unknown_family_is_refused_with_what_there_is() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown shift 'sepia': choose affine, gamma, monotone, hsv"
    ):
        shift_of("sepia", "a", dtype=np.dtype(np.uint8), bands=1, high=255.0, seed=0)


@pytest.mark.parametrize("family", SHIFTS)
def test_families_of_single_bands_are_those_that_are_lookup_tables(family: str) -> None:
    shift = shift_of(family, "a", dtype=np.dtype(np.uint8), bands=3, high=255.0, seed=0)
    assert (family in BAND_SHIFTS) == isinstance(shift, PixelMap)
    if family in BAND_SHIFTS:
        check_band_shift(family)
        return
    with pytest.raises(ConfigError, match=f"'{family}' mixes bands.* choose affine, gamma, mono"):
        check_band_shift(family)


def test_an_unknown_family_is_none_of_single_bands() -> None:
    with pytest.raises(ConfigError, match=r"unknown shift 'sepia': choose affine, gamma, monotone"):
        check_band_shift("sepia")
