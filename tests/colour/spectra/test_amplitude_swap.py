"""Swapping amplitudes; oracle: the program of the FDA paper, with full transforms and the image."""

import numpy as np
import pytest

from rhm.colour.spectra.amplitude_swap import swap_amplitudes
from rhm.colour.spectra.window_amplitudes import reach_of
from tests.colour.spectra.textures import (
    Image,
    spectrum_of,
    texture,
)


def fda(source: Image, target: Image, beta: float) -> Image:
    """``FDA_source_to_target_np`` of the authors, written out for one band after another."""
    result = np.empty(source.shape)
    reach = int(np.floor(min(source.shape[:2]) * beta))
    middle = [size // 2 for size in source.shape[:2]]
    part = tuple(slice(each - reach, each + reach + 1) for each in middle)
    for band in range(source.shape[-1]):
        ours = np.fft.fftshift(np.fft.fft2(source[..., band].astype(np.float64)))
        theirs = np.fft.fftshift(np.fft.fft2(target[..., band].astype(np.float64)))
        amplitude = np.abs(ours)
        amplitude[part] = np.abs(theirs)[part]
        mixed = np.fft.ifftshift(amplitude * np.exp(1j * np.angle(ours)))
        result[..., band] = np.real(np.fft.ifft2(mixed))
    return result


@pytest.mark.parametrize("side", [96, 101])
@pytest.mark.parametrize("beta", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_swapping_the_kept_amplitudes_is_fda_with_the_image(
    side: int, beta: float, bands: int
) -> None:
    source = texture((side, side), bands=bands, seed=1)
    target = texture((side, side), bands=bands, seed=2, level=400.0)
    reach = int(np.floor(side * beta))
    found = swap_amplitudes(source, spectrum_of(target, side).at(side, side, reach))
    expected = fda(source, target, beta)
    # The amplitudes are kept in single precision.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("side", "reach"), [(96, 6), (256, 24)])
@pytest.mark.parametrize("level", [90.0, 60_000.0])
def test_in_single_precision_16_bits_differ_by_less_than_one(
    side: int, reach: int, level: float
) -> None:
    image = np.rint(texture((side, side), seed=3, level=level)).astype(np.float32)
    target = texture((side, side), seed=4, level=0.9 * level)
    amplitudes = spectrum_of(target, side).at(side, side, reach)
    single = swap_amplitudes(image, amplitudes)
    assert single.dtype == np.float32
    double = swap_amplitudes(image.astype(np.float64), amplitudes)
    np.testing.assert_allclose(single, double, rtol=0, atol=0.5)


def test_an_image_with_its_own_amplitudes_is_itself() -> None:
    image = texture((96, 96))
    own = spectrum_of(image, 96).at(96, 96, reach_of(96))
    np.testing.assert_allclose(swap_amplitudes(image, own), image, atol=1e-3)
    nothing = np.full_like(own, np.nan)
    np.testing.assert_allclose(swap_amplitudes(image, nothing), image, atol=1e-9)


def test_the_mean_becomes_that_of_the_target_and_high_frequencies_stay() -> None:
    source, target = texture((96, 96), seed=3), texture((96, 96), seed=4, level=300.0)
    found = swap_amplitudes(source, spectrum_of(target, 96).at(96, 96, 4))
    np.testing.assert_allclose(found.mean(axis=(0, 1)), target.mean(axis=(0, 1)), rtol=1e-5)
    before, after = (np.fft.fft2(each, axes=(0, 1)) for each in (source, found))
    np.testing.assert_allclose(after[5:-4], before[5:-4], atol=1e-6 * np.abs(before).max())


@pytest.mark.parametrize("side", [96, 97, 100])
def test_a_constant_image_takes_the_phase_of_nothing(side: int) -> None:
    amplitudes = spectrum_of(texture((side, side)), side).at(side, side, 9)
    for dtype in (np.float32, np.float64):
        found = swap_amplitudes(np.full((side, side, 3), 7, dtype), amplitudes)
        # All waves have their crest in the first pixel; rounding must not give them a phase.
        assert (found.reshape(-1, 3).argmax(axis=0) == 0).all()
        even = amplitudes[..., 1:].sum(axis=(1, 2)) * 2 + amplitudes[..., 0].sum(axis=1)
        np.testing.assert_allclose(found[0, 0], even / side**2, rtol=1e-4)


def test_negative_means_keep_their_sign() -> None:
    """Of decibels, for instance; also on the way to imagery that has another sign."""
    decibels = texture((96, 96), seed=8, level=5.0) - 20.0
    assert decibels.mean() < -5.0
    spectrum = spectrum_of(decibels, 96)
    np.testing.assert_allclose(
        spectrum.amplitudes[:, reach_of(96), 0], decibels.mean(axis=(0, 1)), rtol=1e-5
    )
    gain, offset = np.full(3, 12.75), np.full(3, 255.0)
    stretched = spectrum.stretched(gain, offset)
    for image, target, level in (
        (texture((96, 96), seed=9), spectrum, decibels),
        (decibels, stretched, decibels * gain + offset),
        (decibels, spectrum_of(texture((96, 96), seed=9), 96), texture((96, 96), seed=9)),
    ):
        found = swap_amplitudes(image, target.at(96, 96, 4))
        np.testing.assert_allclose(
            found.mean(axis=(0, 1)), level.mean(axis=(0, 1)), rtol=1e-4, atol=1e-3
        )
