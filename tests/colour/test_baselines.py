"""Laws of the simpler treatments of colour; oracles: OpenCV's and scikit-image's equalisation."""

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.exposure import equalize_hist

from rhm.colour.baselines import (
    STANDARDIZE,
    equalize,
    gray_world,
    jitter,
    mean_std,
    standardized,
)
from rhm.colour.histogram import Histogram
from rhm.colour.lookup import PixelMap

Image = NDArray[Any]
RANGES = {
    "uint8": (0.0, 255.0),
    "uint16": (0.0, 2047.0),
    "int16": (-400.0, 600.0),
    "float32": (-0.5, 2.0),
}
KINDS = [(dtype, bands) for dtype in RANGES for bands in (1, 3, 5, 32)]


def imagery(dtype: str, bands: int, *, seed: int = 0, span: float = 1.0) -> Image:
    """Random pixels around the middle of the range, every band differently spread."""
    rng = np.random.default_rng(seed)
    low, high = RANGES[dtype]
    widths = rng.uniform(0.1, 0.5, bands) * span
    shares = 0.5 + widths * rng.uniform(-1.0, 1.0, (20, 30, bands))
    return np.asarray((low + shares * (high - low)).astype(dtype))


def ends(dtype: str, bands: int) -> tuple[list[float], list[float]]:
    low, high = RANGES[dtype]
    return [low] * bands, [high] * bands


def binned(image: Image) -> Image:
    """The image with every pixel at the value of its level."""
    return PixelMap.identity(image.dtype, image.shape[-1]).apply(image)


def step(dtype: str) -> float:
    """How far rounding may move a value of the range."""
    return 2.0 / 2048 if dtype == "float32" else 0.5


@pytest.mark.parametrize(("dtype", "bands"), KINDS)
def test_equalisation_is_its_definition(dtype: str, bands: int) -> None:
    image = imagery(dtype, bands)
    low, high = RANGES[dtype]
    seen = equalize(Histogram.of(image), *ends(dtype, bands)).apply(image)
    assert seen.dtype == image.dtype
    for band in range(bands):
        pixels = binned(image)[..., band]
        _, places, counts = np.unique(pixels, return_inverse=True, return_counts=True)
        reached = np.cumsum(counts) / pixels.size
        shares = (reached - reached[0]) / (1.0 - reached[0])
        expected = (low + shares * (high - low))[places].reshape(pixels.shape)
        np.testing.assert_allclose(seen[..., band], expected, rtol=1e-6, atol=step(dtype) + 1e-9)


def test_equalisation_of_8_bit_is_opencvs() -> None:
    image = imagery("uint8", 3)
    seen = equalize(Histogram.of(image), *ends("uint8", 3)).apply(image)
    for band in range(3):
        expected = cv2.equalizeHist(np.ascontiguousarray(image[..., band]))
        np.testing.assert_array_equal(seen[..., band], expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_equalisation_is_scikit_images_stretched_to_the_range(dtype: str) -> None:
    image = imagery(dtype, 1)
    low, high = RANGES[dtype]
    shares = equalize_hist(image[..., 0])  # type: ignore[no-untyped-call]
    stretched = (shares - shares.min()) / (1.0 - shares.min())
    seen = equalize(Histogram.of(image), [low], [high]).apply(image)[..., 0]
    assert np.abs(seen - (low + stretched * (high - low))).max() <= 0.5 + 1e-6


@given(
    st.sampled_from(sorted(RANGES)),
    st.integers(1, 4),
    st.integers(2, 60),
    st.integers(0, 1 << 31),
)
def test_equalisation_undoes_every_rising_map(
    dtype: str, bands: int, levels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, levels, (9, 11, bands))
    low, high = RANGES[dtype]

    def seen() -> Image:
        steps = np.cumsum(rng.uniform(1.0, 4.0, (bands, levels)), axis=1)
        values = low + steps / (4.0 * levels) * (high - low)
        image = np.stack([values[band][numbers[..., band]] for band in range(bands)], axis=-1)
        image = binned(image.astype(dtype))
        kept = [np.unique(image[..., band]).size for band in range(bands)]
        assert kept == [np.unique(numbers[..., band]).size for band in range(bands)]
        return equalize(Histogram.of(image), *ends(dtype, bands)).apply(image)

    np.testing.assert_array_equal(seen(), seen())


@pytest.mark.parametrize(("dtype", "bands"), KINDS)
def test_gray_world_gives_all_bands_one_mean(dtype: str, bands: int) -> None:
    image = imagery(dtype, bands, span=0.4)
    low, high = RANGES[dtype]
    seen = gray_world(Histogram.of(image), *ends(dtype, bands)).apply(image)
    assert (seen > low).all()
    assert (seen < high).all()
    means = seen.mean(axis=(0, 1), dtype=np.float64)
    wanted = binned(image).mean(dtype=np.float64)
    np.testing.assert_allclose(means, wanted, atol=step(dtype))


@given(st.sampled_from(["uint16", "float32"]), st.integers(0, 1 << 31))
def test_gray_world_undoes_gains_of_bands_up_to_one_of_all(dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.uniform(300.0, 900.0, (20, 30, 3))
    gains = rng.uniform(0.6, 1.6, 3)
    # A common factor shows in the result: here the gains keep the mean of all bands.
    means = image.mean(axis=(0, 1))
    gains *= means.mean() / (gains * means).mean()

    def seen(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        stored = (np.rint(pixels) if dtype == "uint16" else pixels).astype(dtype)
        table = gray_world(Histogram.of(stored), [0.0] * 3, [2047.0] * 3)
        return table.apply(stored).astype(np.float64)

    # Rounding before the gain counts as often as it is large.
    np.testing.assert_allclose(seen(image), seen(image * gains), atol=3.0)


@pytest.mark.parametrize(("dtype", "bands"), KINDS)
def test_mean_and_spread_become_the_targets(dtype: str, bands: int) -> None:
    image, target = (imagery(dtype, bands, seed=seed, span=0.5) for seed in (1, 2))
    low, high = RANGES[dtype]
    # Another place in the range, with room left for the source's longer tails.
    target = (low + 0.4 * (target - low) + 0.2 * (high - low)).astype(dtype)
    table = mean_std(Histogram.of(image), Histogram.of(target), *ends(dtype, bands))
    seen = table.apply(image).astype(np.float64)
    assert (seen > low).all()
    assert (seen < high).all()
    wanted = binned(target).astype(np.float64)
    for moment in (np.mean, np.std):
        np.testing.assert_allclose(
            moment(seen, axis=(0, 1)), moment(wanted, axis=(0, 1)), atol=step(dtype)
        )
    # A straight line, up to rounding: Reinhard's.
    line = (binned(image) - binned(image).mean(axis=(0, 1), dtype=np.float64)) / binned(image).std(
        axis=(0, 1), dtype=np.float64
    )
    expected = line * wanted.std(axis=(0, 1)) + wanted.mean(axis=(0, 1))
    np.testing.assert_allclose(seen, expected, atol=step(dtype))


def test_mean_and_spread_of_other_imagery_are_refused() -> None:
    source = Histogram.of(imagery("uint8", 3))
    for other in (imagery("uint8", 4), imagery("uint16", 3)):
        with pytest.raises(ValueError, match="cannot match 3 x uint8 to"):
            mean_std(source, Histogram.of(other), *ends("uint8", 3))


@pytest.mark.parametrize("name", sorted(STANDARDIZE))
@pytest.mark.parametrize(("dtype", "bands"), KINDS)
def test_standardisations_keep_order_and_range(name: str, dtype: str, bands: int) -> None:
    image = imagery(dtype, bands)
    low, high = RANGES[dtype]
    table = standardized(name, Histogram.of(image), *ends(dtype, bands))
    assert (table.input_dtype, table.output_dtype) == (image.dtype, image.dtype)
    assert (np.diff(table.tables.astype(np.float64), axis=1) >= 0).all()
    if name != "none":
        assert low <= table.tables.min() <= table.tables.max() <= high
        assert (table.apply(image) != image).any() or bands == 1
    else:
        np.testing.assert_array_equal(table.apply(image), binned(image))


@pytest.mark.parametrize("dtype", sorted(RANGES))
@pytest.mark.parametrize("value", ["low", "middle", "high", "largest"])
def test_constant_bands_and_images_without_data_have_maps(dtype: str, value: str) -> None:
    low, high = RANGES[dtype]
    if value == "largest":
        # White of a band that is constant at the end of its type lies one beyond.
        low = 65504.0 if dtype == "float32" else float(np.iinfo(dtype).max)
        high = low + 1.0
    level = {"low": low, "middle": (low + high) / 2, "high": high, "largest": low}[value]
    image = np.full((4, 5, 2), level, dtype=np.float64).astype(dtype)
    known = Histogram.of(image)
    nothing = Histogram.of(image, valid=np.zeros((4, 5), dtype=bool))
    for histogram in (known, nothing):
        for made in (
            equalize(histogram, [low] * 2, [high] * 2),
            gray_world(histogram, [low] * 2, [high] * 2),
            mean_std(histogram, known, [low] * 2, [high] * 2),
        ):
            seen = made.apply(image).astype(np.float64)
            assert low <= seen.min() == seen.max() <= high
    target = Histogram.of(imagery(dtype, 2))
    flat = mean_std(known, target, *ends(dtype, 2)).apply(image).astype(np.float64)
    np.testing.assert_allclose(flat[0, 0], target.moments()[0], atol=step(dtype))


def test_an_unknown_standardisation_is_refused_with_what_there_is() -> None:
    histogram = Histogram.of(imagery("uint8", 3))
    with pytest.raises(ValueError, match=r"unknown .* 'sepia': choose none, equalize, gray-world"):
        standardized("sepia", histogram, *ends("uint8", 3))


@given(
    st.sampled_from(sorted(RANGES)),
    st.floats(0.3, 3.0),
    st.floats(0.0, 2.0),
    st.floats(-0.5, 0.5),
)
def test_jitter_is_its_formula_between_black_and_white(
    dtype: str, gamma: float, gain: float, offset: float
) -> None:
    image = binned(imagery(dtype, 2))
    low, high = RANGES[dtype]
    lows, highs = np.array([low, low + 1.0]), np.array([high, high - 1.0])
    table = jitter(dtype, lows.tolist(), highs.tolist(), gamma=gamma, gain=gain, offset=offset)
    shares = np.clip((image - lows) / (highs - lows), 0.0, 1.0)
    shares = np.clip(gain * shares**gamma + offset, 0.0, 1.0)
    expected = lows + shares * (highs - lows)
    np.testing.assert_allclose(table.apply(image), expected, rtol=1e-6, atol=step(dtype) + 1e-9)


@pytest.mark.parametrize("dtype", sorted(RANGES))
def test_jitter_by_nothing_changes_nothing_in_the_range(dtype: str) -> None:
    image = binned(imagery(dtype, 3))
    table = jitter(dtype, *ends(dtype, 3), gamma=1.0, gain=1.0, offset=0.0)
    np.testing.assert_allclose(table.apply(image), image, rtol=1e-6, atol=1e-6)
