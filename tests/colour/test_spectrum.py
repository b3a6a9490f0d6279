"""Spectra; oracle: the program of the FDA paper, with full transforms and the target's image."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rhm.colour.spectrum import Spectrum, reach_of, swap_amplitudes, windows_of

Image = NDArray[Any]


def texture(size: tuple[int, int], *, bands: int = 3, seed: int = 0, level: float = 90.0) -> Image:
    """Values with long and short waves, as towns have."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[: size[0], : size[1]]
    image = np.full((*size, bands), level)
    for band in range(bands):
        for scale in (60.0, 23.0, 9.0):
            angle, phase = rng.uniform(0, 2 * np.pi, 2)
            along = np.cos(angle) * rows + np.sin(angle) * cols
            image[..., band] += 14.0 * np.sin(2 * np.pi * along / scale + phase)
    return image + rng.normal(0, 5.0, image.shape)


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


def spectrum_of(image: Image, side: int, **options: Any) -> Spectrum:
    everywhere = np.ones(image.shape[:2], dtype=bool)
    found = Spectrum.of(windows_of(image, everywhere, side), side, **options)
    alone = Spectrum.of_image(image, side=side)
    assert alone is not None
    assert found is not None
    np.testing.assert_array_equal(found.amplitudes, alone.amplitudes)
    return found


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


def test_windows_are_averaged_by_their_valid_pixels() -> None:
    image = texture((64, 192), seed=5)
    valid = np.ones((64, 192), dtype=bool)
    valid[:20, 64:128] = False
    valid[:, 150:] = False  # of the last window, a third is left
    parts = [
        Spectrum.of([(image[:, at : at + 64], valid[:, at : at + 64])], 64) for at in (0, 64, 128)
    ]
    whole = Spectrum.of(windows_of(image, valid, 64), 64)
    assert whole is not None
    first, second, last = (each.amplitudes for each in parts if each is not None)
    expected = (first * 64 * 64 + second * 44 * 64) / (64 * 64 + 44 * 64)
    np.testing.assert_allclose(whole.amplitudes, expected, rtol=1e-5)
    only = Spectrum.of(windows_of(image[:, 128:], valid[:, 128:], 64), 64)
    assert only is not None
    np.testing.assert_array_equal(only.amplitudes, last)
    assert Spectrum.of(windows_of(image, np.zeros_like(valid), 64), 64) is None


def test_nodata_has_no_influence() -> None:
    image, valid = texture((64, 64), seed=6), np.ones((64, 64), dtype=bool)
    valid[10:20, 30:] = False
    other = image.copy()
    other[~valid] = 60000.0
    first, second = (Spectrum.of([(each, valid)], 64) for each in (image, other))
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.amplitudes, second.amplitudes)


def test_the_spectrum_of_a_stretched_image_is_the_stretched_spectrum() -> None:
    image = texture((96, 96), seed=7)
    gain, offset = np.array([2.0, 0.5, 7.0]), np.array([10.0, -3.0, 0.0])
    found = spectrum_of(image, 96).stretched(gain, offset).amplitudes
    expected = spectrum_of(image * gain + offset, 96).amplitudes
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def white_noise(side: int, count: int, seed: int) -> list[Image]:
    rng = np.random.default_rng(seed)
    return [rng.normal(50.0, 9.0, (side, side, 1)) for _ in range(count)]


def mean_magnitudes(images: list[Image], reach: int) -> Image:
    rows = np.arange(-reach, reach + 1)
    each = [np.abs(np.fft.fft2(image[..., 0]))[rows][:, : reach + 1] for image in images]
    return np.asarray(np.mean(each, axis=0))


def test_amplitudes_of_another_size_are_those_of_the_same_texture() -> None:
    """Of white noise, whose mean magnitudes at any size are known."""
    windows = [(each, np.ones((64, 64), dtype=bool)) for each in white_noise(64, 300, 8)]
    spectrum = Spectrum.of(windows, 64)
    assert spectrum is not None
    found = spectrum.at(96, 96, 9)[0]
    expected = mean_magnitudes(white_noise(96, 300, 9), 9)
    assert found[9, 0] == pytest.approx(expected[9, 0], rel=0.01)
    known = np.isfinite(found)
    # Six cycles in 64 pixels are nine in 96, and 96 pixels have longer waves than 64.
    np.testing.assert_array_equal(np.argwhere(~known), [[8, 0], [8, 1], [9, 1], [10, 0], [10, 1]])
    known[9, 0] = False
    assert np.mean(found[known] / expected[known]) == pytest.approx(1.0, abs=0.02)
    assert np.std(found[known] / expected[known]) < 0.06


def test_a_spectrum_of_finer_imagery_is_read_at_the_same_ground_frequencies() -> None:
    """A wave of 12 m has the same place in a spectrum of 0.5 m and in an image of 1 m."""
    fine = np.sin(2 * np.pi * np.arange(192) * 0.5 / 12.0)[None, :, None] * np.ones((192, 1, 1))
    coarse = np.sin(2 * np.pi * np.arange(96) * 1.0 / 12.0)[None, :, None] * np.ones((96, 1, 1))
    spectrum = spectrum_of(fine + 3.0, 192, gsd_m=0.5)
    found = spectrum.at(96, 96, 9, gsd_m=1.0)[0]
    expected = np.abs(np.fft.fft2(coarse[..., 0] + 3.0))
    assert found[9, 8] == pytest.approx(expected[0, 8], rel=1e-4)
    assert found[9, 0] == pytest.approx(expected[0, 0], rel=1e-6)
    # What is finer than the coarser spectrum keeps is unknown.
    other = spectrum_of(coarse + 3.0, 96, gsd_m=2.0).at(96, 96, 9, gsd_m=1.0)[0]
    assert np.isnan(other[9, 5])
    assert np.isfinite(other[9, 4])


def scene_of_two_resolutions(seed: int) -> tuple[Image, Image]:
    """Return a scene of 0.125 m per pixel, and the same of 1 m: the means of 8 x 8 pixels."""
    rng = np.random.default_rng(seed)
    noise = np.fft.rfft2(rng.normal(0, 1.0, (1536, 1536)))
    waves = np.hypot(np.fft.fftfreq(1536)[:, None], np.fft.rfftfreq(1536)) * 1536
    # As in most imagery, the longer the waves the higher; 192 m are the longest.
    fine = np.fft.irfft2(noise / np.maximum(waves, 1.0))
    fine = 100.0 + 20.0 * (fine - fine.mean()) / fine.std()
    coarse = fine.reshape(192, 8, 192, 8).mean(axis=(1, 3))
    return fine[..., None], coarse[..., None]


@pytest.mark.parametrize("side", [96, 128, 160])
def test_what_small_windows_cannot_know_is_left_to_the_image(side: int) -> None:
    """Oracle: the wavelengths in metres, and the spectrum of the same scene at 1 m per pixel."""
    fine, coarse = scene_of_two_resolutions(11)
    reach, spectrum = side // 10, spectrum_of(fine, 128, gsd_m=0.125)
    found = spectrum.at(side, side, reach, gsd_m=1.0)[0]
    # Windows of 16 m hold waves of up to 16 m, and 0.1 cycles per pixel are waves of 1.25 m.
    for row in range(-reach, reach + 1):
        for col in range(reach + 1):
            shortest = side / max(abs(row), col, 1e-9)
            known = shortest <= 16.0 or row == col == 0
            assert np.isfinite(found[row + reach, col]) == known
    true = mean_magnitudes([coarse[:side, :side], coarse[-side:, -side:]], reach)
    ratios = (found / true)[np.isfinite(found)]
    assert np.median(ratios) == pytest.approx(1.0, abs=0.25)
    # The other amplitudes, and so the shadows of clouds and hills, stay those of the image.
    image = texture((side, side), bands=1, seed=12)
    before, after = (
        np.abs(np.fft.fft2(each[..., 0]))[np.arange(-reach, reach + 1), : reach + 1]
        for each in (image, swap_amplitudes(image, found[None]))
    )
    expected = np.where(np.isnan(found), before, found)
    np.testing.assert_allclose(after, expected, rtol=1e-6, atol=1e-6 * before.max())


@pytest.mark.parametrize(("gsd_m", "chips_m"), [(0.3, 0.1), (0.1, 0.3), (0.9, 0.3), (1 / 3, 0.1)])
def test_the_ends_of_what_is_known_are_not_lost_to_rounding(gsd_m: float, chips_m: float) -> None:
    """A wave as long as the windows, and the shortest that they keep, are known."""
    spectrum = Spectrum(100, np.full((1, 21, 11), 3.0, np.float32), gsd_m)
    side = round(100 * gsd_m / chips_m * 3)
    found = spectrum.at(side, side, 33, gsd_m=chips_m)[0]
    zoom = 100 * gsd_m / chips_m / side
    first, last = round(1 / zoom), round(10 / zoom)
    assert zoom * first == pytest.approx(1.0, abs=1e-12)
    assert np.isfinite(found[33, 1:]).tolist() == [first <= col <= last for col in range(1, 34)]
    assert np.nanmax(np.abs(found[33, 1:] / found[33, first] - 1.0)) < 1e-6


@pytest.mark.parametrize(
    ("shape", "value", "gsd_m"),
    [((3, 5, 2), 1.0, None), ((3, 19, 10), -1.0, None), ((3, 19, 10), np.inf, None)],
)
def test_impossible_amplitudes_are_refused(
    shape: tuple[int, ...], value: float, gsd_m: float | None
) -> None:
    with pytest.raises(ValueError, match="amplitudes"):
        Spectrum(96, np.full(shape, value, np.float32), gsd_m)


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
