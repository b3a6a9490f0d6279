"""Matching one image to another; oracle: scikit-image."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.exposure import match_histograms as skimage_match

import rhm
from rhm.colour.histogram import Histogram
from rhm.colour.lookup import PixelMap
from rhm.colour.matching import match_histograms, matched_shares
from tests.imagery import KINDS, Image, drawn


def oracle(image: Image, reference: Image) -> Image:
    """scikit-image's answer in the image's type, to which it truncates arrays with bands itself."""
    axis = -1 if image.ndim == 3 else None
    matched: Image = skimage_match(image, reference, channel_axis=axis)
    return matched.astype(image.dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", KINDS)
def test_matching_is_bit_equal_to_scikit_image(dtype: type, kind: str) -> None:
    rng = np.random.default_rng([KINDS.index(kind), np.dtype(dtype).itemsize])
    for case in range(20):
        bands = () if case % 5 == 0 else (int(rng.integers(1, 9)),)
        size, other_size = rng.integers(1, 70, 2), rng.integers(1, 70, 2)
        image = drawn(kind, dtype, (*size, *bands), rng=rng)
        reference = drawn(str(rng.choice(KINDS)), dtype, (*other_size, *bands), rng=rng)
        matched = rhm.match_histograms(image, reference)
        np.testing.assert_array_equal(matched, oracle(image, reference), strict=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("nodata", [0, 7])
def test_nodata_is_excluded_and_untouched(dtype: type, nodata: int) -> None:
    rng = np.random.default_rng(nodata)
    drawn_twice: list[Image] = [rng.integers(0, 250, (40, 30, 3)).astype(dtype) for _ in range(2)]
    image, reference = drawn_twice
    image[5:15, 3:20] = nodata
    reference[20:] = nodata
    image[0, 0] = (nodata, nodata, 200)
    valid = (image != nodata).any(axis=-1)
    assert valid[0, 0]
    matched = match_histograms(image, reference, nodata=nodata)
    assert (matched[~valid] == nodata).all()
    used = reference[(reference != nodata).any(axis=-1)]
    np.testing.assert_array_equal(
        matched[valid], oracle(image[valid][:, None], used[:, None])[:, 0], strict=True
    )


def test_an_image_without_valid_pixels_is_left_as_it_is() -> None:
    blank = np.zeros((4, 5, 3), dtype=np.uint8)
    reference = np.full((2, 2, 3), 9, dtype=np.uint8)
    np.testing.assert_array_equal(match_histograms(blank, reference, nodata=0), blank)
    empty = np.zeros((0, 5, 3), dtype=np.uint8)
    assert match_histograms(empty, reference).shape == empty.shape
    with pytest.raises(ValueError, match="without pixels"):
        match_histograms(reference, blank, nodata=0)


@pytest.mark.shared
def test_matching_real_16_bit_imagery_is_bit_equal_to_scikit_image(shared_data: Any) -> None:
    rasterio = pytest.importorskip("rasterio")
    paths = sorted((shared_data / "spacenet2_vegas" / "images").glob("*.tif"))[:2]
    read = []
    for path in paths:
        with rasterio.open(path) as raster:
            read.append(np.moveaxis(raster.read(), 0, -1))
    image, reference = read
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(
        match_histograms(image, reference), oracle(image, reference), strict=True
    )


@given(st.integers(0, 1 << 32), st.sampled_from([np.int16, np.float32]))
def test_signed_and_float_images_match_like_scikit_image(seed: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    scale = 300.0 if dtype is np.int16 else 2.0
    image: Image = rng.normal(0.0, scale, (17, 23, 2)).astype(dtype)
    reference: Image = (rng.gamma(2.0, scale, (31, 9, 2)) - scale).astype(dtype)
    matched = match_histograms(image, reference)
    np.testing.assert_array_equal(matched, oracle(image, reference), strict=True)
    table = PixelMap.matching(Histogram.of(image), Histogram.of(reference))
    assert (np.diff(table.tables.astype(np.float64), axis=1) >= 0.0).all()
    if dtype is np.int16:
        np.testing.assert_array_equal(table.apply(image), matched, strict=True)


def test_binned_floats_differ_from_sorted_ones_by_about_a_bin() -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(0.1, 0.9, (200, 200, 3)).astype(np.float32)
    reference = rng.beta(2.0, 5.0, (200, 200, 3)).astype(np.float32)
    table = PixelMap.matching(Histogram.of(image), Histogram.of(reference))
    gap = np.abs(table.apply(image) - match_histograms(image, reference))
    # Where values are rare, one more or less moves the match by the gap between them.
    assert np.median(gap) < 1e-3
    assert np.quantile(gap, 0.99) < 5e-3


def test_floats_that_are_no_numbers_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((20, 20, 2)).astype(np.float32)
    image[3, 4, 0], image[5, 6] = np.nan, -9999.0
    holes = np.isnan(image).any(axis=-1) | (image == -9999.0).all(axis=-1)
    matched = match_histograms(image, 2.0 + rng.random((9, 9, 2)).astype(np.float32), nodata=-9999)
    np.testing.assert_array_equal(matched[holes], image[holes])
    assert matched[~holes].min() >= 2.0


def test_images_that_cannot_be_matched_are_refused() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    for reference in (image.astype(np.uint16), image[..., :2], image[..., 0]):
        with pytest.raises(ValueError, match=r"cannot match|differ in bands"):
            match_histograms(image, reference)
    with pytest.raises(TypeError, match="expected imagery of uint8, uint16, int16, float32"):
        match_histograms(image.astype(np.float64), image.astype(np.float64))
    for masked in ((np.ma.array(image), image), (image, np.ma.array(image))):
        with pytest.raises(TypeError, match="masked arrays"):
            match_histograms(*masked)
    with pytest.raises(ValueError, match="must have the shape of the image"):
        match_histograms(image, image, valid=np.ones((3, 4), bool))
    floats = image.astype(np.float32)
    with pytest.raises(ValueError, match="without valid pixels"):
        match_histograms(floats, floats, reference_valid=np.zeros((4, 4)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_pixels_that_are_not_valid_neither_count_nor_change(dtype: type) -> None:
    rng = np.random.default_rng(4)
    image: Image = rng.integers(0, 200, (30, 20, 3)).astype(dtype)
    reference: Image = rng.integers(50, 120, (20, 30, 3)).astype(dtype)
    valid, target = rng.random((30, 20)) < 0.6, rng.random((20, 30)) < 0.6
    matched = match_histograms(image, reference, valid=valid, reference_valid=target)
    np.testing.assert_array_equal(matched[~valid], image[~valid])
    wanted = oracle(image[valid][:, None], reference[target][:, None])[:, 0]
    np.testing.assert_array_equal(matched[valid], wanted, strict=True)
    nothing = np.zeros((30, 20), bool)
    np.testing.assert_array_equal(match_histograms(image, reference, valid=nothing), image)


def test_floats_beyond_the_bins_are_matched_too() -> None:
    image = np.linspace(-1e6, 1e6, 300, dtype=np.float32).reshape(10, 30)
    np.testing.assert_array_equal(match_histograms(image, 2 * image), oracle(image, 2 * image))


def shares(image: Image) -> list[float]:
    """The shares of the 256 levels of an 8-bit image of one band."""
    return list(np.bincount(image.ravel(), minlength=256) / image.size)


def test_the_shares_after_matching_are_those_of_the_matched_image() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(90, 20, (256, 256)).clip(0, 255).astype(np.uint8)
    target = rng.gamma(4, 30, (512, 512)).clip(0, 255).astype(np.uint8)
    after = matched_shares(shares(source), shares(target))
    assert after == pytest.approx(shares(oracle(source, target)), abs=1e-6)


def test_one_value_stays_one_value() -> None:
    flat = [0.0] * 256
    flat[10] = 1.0
    assert max(matched_shares(flat, [1 / 256] * 256)) == 1.0
