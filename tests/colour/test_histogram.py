"""Laws of histograms; oracles: numpy's counts and quantiles, scipy's Wasserstein distance."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from rhm.colour.histogram import OPENCV_CHANNELS, Histogram, valid_pixels
from rhm.colour.levels import levels_of

Image = NDArray[Any]


@st.composite
def images(draw: st.DrawFn, *, bands: int = 2, smallest: int = 0) -> Image:
    """Small images (H, W, bands) of either type, 11 bits of uint16 among them."""
    dtype, high = draw(
        st.sampled_from([(np.uint8, 255), (np.uint8, 3), (np.uint16, 2047), (np.uint16, 65535)])
    )
    side = st.integers(smallest, 9)
    shape = (draw(side), draw(side), bands)
    return draw(arrays(dtype, shape, elements=st.integers(0, high)))


@st.composite
def alike(draw: st.DrawFn, *, count: int) -> list[Image]:
    """So many small images (H, W, 2) of one type; floats are exact in half precision."""
    dtype, low, high = draw(
        st.sampled_from(
            [
                (np.uint8, 0, 255),
                (np.uint16, 0, 2047),
                (np.uint16, 0, 65535),
                (np.int16, -32768, 32767),
                (np.int16, -2, 2),
                (np.float32, -1024, 1024),
            ]
        )
    )
    side = st.integers(1, 9)
    scale = 1 / 16 if dtype is np.float32 else 1
    values = st.integers(low, high)
    shapes = [(draw(side), draw(side), 2) for _ in range(count)]
    drawn = [draw(arrays(np.int64, shape, elements=values)) for shape in shapes]
    return [(each * scale).astype(dtype) for each in drawn]


def counted(image: Image, levels: int) -> NDArray[np.int64]:
    """Counts by numpy, band by band."""
    bands = np.moveaxis(image, -1, 0).reshape(image.shape[-1], -1)
    return np.stack([np.bincount(band, minlength=levels) for band in bands]).astype(np.int64)


def dense(histogram: Histogram, levels: int) -> NDArray[np.int64]:
    """A histogram's counts of the values from 0 up."""
    counts = np.zeros((histogram.bands, levels), dtype=np.int64)
    counts[:, histogram.first :][:, : histogram.counts.shape[1]] = histogram.counts
    return counts


@given(images())
def test_counts_are_numpys(image: Image) -> None:
    histogram = Histogram.of(image)
    levels = 256 if image.dtype == np.uint8 else int(image.max(initial=0)) + 1
    np.testing.assert_array_equal(dense(histogram, levels), counted(image, levels))
    assert histogram.pixels == image.shape[0] * image.shape[1]
    assert histogram.dtype == image.dtype


@pytest.mark.parametrize("shape", [(5001, 4001), (1, 20_009_001)])
def test_counts_are_exact_above_what_float32_counts(shape: tuple[int, int]) -> None:
    pixels = shape[0] * shape[1]
    assert int(np.float32(pixels)) != pixels
    histogram = Histogram.of(np.full(shape, 7, dtype=np.uint8))
    assert histogram.counts[0, 7] == histogram.pixels == pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [1, 8, OPENCV_CHANNELS, OPENCV_CHANNELS + 1, 240])
def test_any_number_of_bands(dtype: type, bands: int) -> None:
    image: Image = np.random.default_rng(bands).integers(0, 256, (6, 7, bands)).astype(dtype)
    np.testing.assert_array_equal(dense(Histogram.of(image), 256), counted(image, 256))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_views_count_like_their_copies(dtype: type) -> None:
    image: Image = np.random.default_rng(0).integers(0, 200, (30, 40, 4)).astype(dtype)
    for view in (image[::2, 3:-1], image.transpose(1, 0, 2), image[..., :3], image[..., 1]):
        np.testing.assert_array_equal(
            Histogram.of(view).counts, Histogram.of(np.ascontiguousarray(view)).counts
        )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (0, 0, 3)])
def test_an_empty_image_counts_nothing(dtype: type, shape: tuple[int, ...]) -> None:
    histogram = Histogram.of(np.zeros(shape, dtype=dtype))
    assert (histogram.bands, histogram.pixels) == (3, 0)
    assert not histogram.distribution().any()
    assert histogram.quantile([0.0, 0.5]).tolist() == [[0, 0]] * 3


@given(alike(count=1), st.data())
def test_only_valid_pixels_count(images: list[Image], data: st.DataObject) -> None:
    (image,) = images
    valid = data.draw(arrays(np.bool_, image.shape[:2]))
    expected = Histogram.of(image[valid][:, None])
    for given_valid in (valid, valid.astype(np.uint8) * 255):
        np.testing.assert_array_equal(
            Histogram.of(image, valid=given_valid).counts, expected.counts
        )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_nodata_is_a_pixel_whose_bands_all_equal_it(dtype: type) -> None:
    image: Image = np.array([[[0, 0], [0, 9]], [[9, 0], [9, 9]]], dtype=dtype)
    histogram = Histogram.of(image, nodata=0)
    assert histogram.pixels == 3
    assert histogram.counts[:, [0, 9]].tolist() == [[1, 2], [1, 2]]
    known = np.array([[True, True], [False, True]])
    assert Histogram.of(image, nodata=0, valid=known).pixels == 2


@pytest.mark.parametrize("nodata", [-9999, 70000, 0.5, float("nan")])
def test_a_nodata_value_outside_the_type_excludes_nothing(nodata: float) -> None:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    assert Histogram.of(image, nodata=nodata).pixels == 16


def test_without_nodata_nothing_is_known_to_be_invalid() -> None:
    assert valid_pixels(np.zeros((2, 2, 3), dtype=np.uint8)) is None


@given(alike(count=3))
def test_merging_is_counting_the_union(parts: list[Image]) -> None:
    union = Histogram.of(np.concatenate([part.reshape(-1, 1, 2) for part in parts]))
    one, two, three = map(Histogram.of, parts)
    for merged in (one.merge(two).merge(three), three.merge(one.merge(two))):
        assert merged.first == union.first
        np.testing.assert_array_equal(merged.counts, union.counts)


@given(alike(count=2))
def test_distance_is_scipys_wasserstein_distance(pair: list[Image]) -> None:
    first, second = pair
    expected = [wasserstein_distance(first[..., b].ravel(), second[..., b].ravel()) for b in (0, 1)]
    one, two = Histogram.of(first), Histogram.of(second)
    np.testing.assert_allclose(one.distance(two), expected, rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(two.distance(one), one.distance(two), rtol=0, atol=1e-7)
    assert not one.distance(one).any()


@given(alike(count=1))
def test_moments_are_numpys(images: list[Image]) -> None:
    (image,) = images
    mean, deviation = Histogram.of(image).moments()
    pixels = image.astype(np.float64)
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 1)), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(deviation, pixels.std(axis=(0, 1)), rtol=1e-6, atol=1e-6)


@given(alike(count=1))
def test_pooled_bands_are_the_values_of_all_bands_in_each(images: list[Image]) -> None:
    (image,) = images
    together = np.concatenate([image[..., 0], image[..., 1]])
    pooled = Histogram.of(image).pool_bands()
    expected = Histogram.of(np.stack([together, together], axis=-1))
    assert pooled.first == expected.first
    np.testing.assert_array_equal(pooled.counts, expected.counts)


def test_distance_is_in_value_units() -> None:
    dark = np.full((3, 4, 2), 100, dtype=np.uint16)
    bright = dark + np.array([25, 1000], dtype=np.uint16)
    assert Histogram.of(dark).distance(Histogram.of(bright)).tolist() == [25.0, 1000.0]


@given(images(smallest=1), st.floats(0.0, 1.0))
def test_quantile_is_the_lowest_value_that_reaches_the_share(image: Image, share: float) -> None:
    histogram = Histogram.of(image)
    levels = int(np.iinfo(image.dtype).max) + 1
    cumulative = np.cumsum(dense(histogram, levels), axis=1) / histogram.pixels
    for band, value in enumerate(histogram.quantile(share)):
        assert cumulative[band, value] >= share - 1e-9
        below = cumulative[band, value - 1] if value else 0.0
        assert below < share or below == share == 0.0


@given(images(smallest=1))
def test_the_quantiles_of_all_and_none_are_the_extremes_of_each_band(image: Image) -> None:
    expected = np.stack([image.min(axis=(0, 1)), image.max(axis=(0, 1))], axis=1)
    np.testing.assert_array_equal(Histogram.of(image).quantile([0.0, 1.0]), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_quantiles_are_numpys(dtype: type) -> None:
    rng = np.random.default_rng(5)
    image: Image = rng.integers(0, 250, (37, 41, 3)).astype(dtype)
    shares = rng.random(50)
    expected = np.quantile(image, shares, axis=(0, 1), method="inverted_cdf").T
    np.testing.assert_array_equal(Histogram.of(image).quantile(shares), expected)


def test_quantiles_are_exact_where_a_sum_of_shares_falls_short() -> None:
    assert np.cumsum([0.1] * 10)[7] < 0.8
    histogram = Histogram.of(np.arange(10, dtype=np.uint8)[None])
    assert histogram.quantile(np.arange(1, 11) / 10).tolist() == [list(range(10))]


def test_distribution_sums_to_one() -> None:
    image = np.random.default_rng(1).integers(0, 99, (13, 17, 3)).astype(np.uint8)
    np.testing.assert_allclose(Histogram.of(image).distribution().sum(axis=1), 1.0, rtol=1e-12)


def test_a_16_bit_histogram_holds_the_levels_between_its_first_and_last() -> None:
    counts = np.zeros((2, 4096), dtype=np.int64)
    counts[0, 3] = counts[1, 11] = 5
    histogram = Histogram(counts, np.dtype(np.uint16), first=100)
    assert histogram.counts.shape == (2, 9)
    assert histogram.values.tolist() == list(range(103, 112))


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (np.int16, [-32768, -300, -1, 0, 7, 32767]),
        (np.float32, [-65504.0, -1.5, 0.0, 0.25, 0.333251953125, 65504.0]),
    ],
)
def test_signed_and_float_values_are_counted_by_level(dtype: type, values: list[float]) -> None:
    image: Image = np.repeat(np.array(values, dtype=dtype), [1, 2, 3, 4, 5, 6])[None]
    histogram = Histogram.of(image)
    present = histogram.counts[0] > 0
    assert histogram.values[present].tolist() == values
    assert histogram.counts[0, present].tolist() == [1, 2, 3, 4, 5, 6]
    assert histogram.quantile(0.5).tolist() == [values[4]]
    moved = Histogram.of(np.array([[values[2]]], dtype=dtype))
    expected = np.abs(image.astype(np.float64) - values[2]).mean()
    np.testing.assert_allclose(histogram.distance(moved), [expected], rtol=1e-6)


def test_floats_share_a_bin_of_half_precision_and_lose_what_is_no_number() -> None:
    image = np.array([[1.0, 1.0004, np.nan], [1e30, np.inf, 70000.0]], dtype=np.float32)
    histogram = Histogram.of(image)
    assert histogram.pixels == 4
    present = histogram.counts[0] > 0
    assert histogram.values[present].tolist() == [1.0, 65504.0]
    assert histogram.counts[0, present].tolist() == [2, 2]


def test_a_histogram_keeps_its_own_counts() -> None:
    counts = np.ones((1, 256), dtype=np.int64)
    histogram = Histogram(counts, np.dtype(np.uint8))
    counts[:] = 0
    assert histogram.pixels == 256
    with pytest.raises(ValueError, match="read-only"):
        histogram.counts[0, 0] = 2


@pytest.mark.parametrize(
    ("counts", "dtype"),
    [
        (np.zeros((1, 257)), np.uint8),
        (np.zeros((1, 10)), np.uint8),
        (np.zeros((0, 256)), np.uint8),
        (np.zeros((1, 0)), np.uint16),
        (np.zeros((1, 65537)), np.uint16),
        (np.zeros(256), np.uint8),
        (np.full((1, 256), -1), np.uint8),
        (np.array([[1, 2], [1, 1]]), np.uint16),
    ],
)
def test_what_is_no_histogram_is_refused(counts: Image, dtype: type) -> None:
    with pytest.raises(ValueError, match=r"histogram|^counts must be at least 0 and have the same"):
        Histogram(counts, np.dtype(dtype))


@pytest.mark.parametrize("dtype", ["int8", "int32", "float64", "bool", ">u2"])
def test_other_types_are_refused_by_name(dtype: str) -> None:
    with pytest.raises(TypeError, match=f"got {np.dtype(dtype)}"):
        levels_of(np.dtype(dtype))
    with pytest.raises(TypeError, match="expected imagery of uint8, uint16, int16, float32"):
        Histogram.of(np.zeros((2, 2), dtype=dtype))


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4, 1), (3, 3, 0)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected an image"):
        Histogram.of(np.zeros(shape, dtype=np.uint8))


def test_validity_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="valid must have the shape of the image"):
        Histogram.of(np.zeros((4, 5), dtype=np.uint8), valid=np.ones((5, 4), dtype=np.bool_))


def test_histograms_of_other_imagery_do_not_mix() -> None:
    gray = Histogram.of(np.ones((2, 2), dtype=np.uint8))
    colour = Histogram.of(np.ones((2, 2, 3), dtype=np.uint8))
    deep = Histogram.of(np.ones((2, 2), dtype=np.uint16))
    for other in (colour, deep):
        with pytest.raises(ValueError, match="cannot be combined"):
            gray.merge(other)
        with pytest.raises(ValueError, match="cannot be combined"):
            gray.distance(other)


def test_there_is_no_distance_to_nothing() -> None:
    some = Histogram.of(np.ones((2, 2), dtype=np.uint8))
    nothing = Histogram.of(np.ones((0, 2), dtype=np.uint8))
    for first, second in ((some, nothing), (nothing, some)):
        with pytest.raises(ValueError, match="without pixels"):
            first.distance(second)
