"""Random convolutions; oracle: torch's convolution with the same kernels."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from rhm.augmentation.random_convolution import (
    KERNELS_PX,
    RandomConvolution,
    convolved,
    to_dtype,
)
from tests.augmentation.chips import chip, ends, hole


@pytest.mark.parametrize("side", KERNELS_PX)
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_a_convolution_is_torchs_with_mirrored_edges(side: int, bands: int) -> None:
    rng = np.random.default_rng(side)
    image = rng.normal(size=(20, 17, bands)).astype(np.float32)
    kernels = rng.normal(size=(bands, bands, side, side)).astype(np.float32)
    padded = functional.pad(
        torch.from_numpy(image.transpose(2, 0, 1))[None], (side // 2,) * 4, mode="reflect"
    )
    expected = functional.conv2d(padded, torch.from_numpy(kernels))[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(convolved(image, kernels), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_a_chip_is_mixed_with_its_convolution_about_its_mean(dtype: str) -> None:
    image, valid = chip(dtype), np.ones((16, 16), np.uint8)
    black, white = ends(dtype, 3)
    low, high = np.array(black), np.array(white)
    for seed in range(8):
        found = RandomConvolution(black, white)(image, valid, rng=np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        side = int(rng.choice(KERNELS_PX))
        kernels = rng.normal(0.0, 1.0 / np.sqrt(3 * side**2), (3, 3, side, side))
        share = rng.random()
        shares = (image.astype(np.float64) - low) / (high - low)
        mean = shares.mean(axis=(0, 1))
        about = torch.from_numpy((shares - mean).transpose(2, 0, 1))[None]
        padded = functional.pad(about, (side // 2,) * 4, mode="reflect")
        other = functional.conv2d(padded, torch.from_numpy(kernels))[0].permute(1, 2, 0).numpy()
        mixed = np.clip(share * (shares - mean) + (1 - share) * other + mean, 0.0, 1.0)
        expected = low + (high - low) * mixed
        step = 1.0 if dtype != "float32" else 1e-4
        assert np.abs(found.astype(np.float64) - expected).max() <= 0.51 * step + 1e-4
        assert found.dtype == image.dtype


def test_nodata_has_no_influence() -> None:
    image, valid = chip("uint16"), hole()
    other = image.copy()
    other[valid == 0] = 65535
    low, high = ends("uint16", 3)
    for seed in range(5):
        first, second = (
            RandomConvolution(low, high)(each, valid, rng=np.random.default_rng(seed))
            for each in (image, other)
        )
        np.testing.assert_array_equal(first[valid > 0], second[valid > 0])
    nothing = np.zeros_like(valid)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(RandomConvolution(low, high)(image, nothing, rng=rng), image)


def test_brightness_and_contrast_stay_near_those_of_the_chip() -> None:
    """Kernels of independent weights of variance 1 / (side^2 bands) keep the variance of noise."""
    rng = np.random.default_rng(0)
    image = rng.normal(0.5, 0.05, (128, 128, 3)).astype(np.float32)
    augment = RandomConvolution((0.0,) * 3, (1.0,) * 3)
    valid = np.ones((128, 128), np.uint8)
    found = [augment(image, valid, rng=np.random.default_rng(seed)) for seed in range(60)]
    assert np.mean([each.mean() for each in found]) == pytest.approx(0.5, abs=0.01)
    # With shares s uniform in [0, 1], the mean of s^2 + (1 - s)^2 is 2/3.
    variance = np.mean([each.var(axis=(0, 1)) for each in found]) / 0.05**2
    assert variance == pytest.approx(2 / 3, abs=0.15)


def test_values_are_rounded_into_the_range_of_their_type() -> None:
    values = np.array([-3.0, 0.4, 0.6, 254.6, 300.0])
    assert to_dtype(values, np.dtype(np.uint8)).tolist() == [0, 0, 1, 255, 255]
    assert to_dtype(values, np.dtype(np.int16)).tolist() == [-3, 0, 1, 255, 300]
    assert to_dtype(values, np.dtype(np.float32)).dtype == np.float32
