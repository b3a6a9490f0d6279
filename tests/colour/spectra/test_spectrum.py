"""Spectra, read at other sizes and distances; oracles: the windows of the images themselves."""

import numpy as np
import pytest

from rhm.colour.spectra.amplitude_swap import swap_amplitudes
from rhm.colour.spectra.spectrum import Spectrum
from rhm.colour.spectra.window_amplitudes import reach_of, windows_of
from tests.colour.spectra.textures import (
    Image,
    mean_magnitudes,
    scene_of_two_resolutions,
    spectrum_of,
    texture,
    white_noise,
)


def test_the_spectrum_of_a_stretched_image_is_the_stretched_spectrum() -> None:
    image = texture((96, 96), seed=7)
    gain, offset = np.array([2.0, 0.5, 7.0]), np.array([10.0, -3.0, 0.0])
    found = spectrum_of(image, 96).stretched(gain, offset).amplitudes
    expected = spectrum_of(image * gain + offset, 96).amplitudes
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    moved, true = spectrum_of(image, 48).stretched(gain, offset), spectrum_of(image * gain, 48)
    assert sorted(moved.others) == sorted(true.others) == [12, 24, 96]
    for side, amplitudes in moved.others.items():
        np.testing.assert_allclose(amplitudes, true.others[side], rtol=1e-4, atol=1e-5)


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
    # What is finer than the smallest windows of the coarser spectrum keep is unknown.
    coarser = spectrum_of(coarse + 3.0, 96, gsd_m=8.0)
    other = coarser.at(96, 96, 9, gsd_m=1.0)[0]
    assert coarser.waves_px == (24 / 9, 96.0)
    assert np.isnan(other[9, 5])  # waves of 19.2 m; 24 m in 9 cycles are waves of 21.3 m
    assert np.isfinite(other[9, 4])


@pytest.mark.parametrize("side", [96, 128, 160])
def test_what_small_windows_cannot_know_is_left_to_the_image(side: int) -> None:
    """Oracle: the wavelengths in metres, and the spectrum of the same scene at 1 m per pixel."""
    fine, coarse = scene_of_two_resolutions(11)
    reach, spectrum = side // 10, spectrum_of(fine, 128, gsd_m=0.125)
    alone = Spectrum(128, spectrum.amplitudes, 0.125)
    found = alone.at(side, side, reach, gsd_m=1.0)[0]
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


def windows_amplitudes(image: Image, side: int) -> Image:
    """Mean magnitudes of the windows of an image of one band, at all frequencies."""
    parts = [part[..., 0] for part, _ in windows_of(image, image[..., 0] > -np.inf, side)]
    return np.asarray(np.mean([np.abs(np.fft.fft2(part)) for part in parts], axis=0))


@pytest.mark.parametrize(("side", "reach"), [(16, 6), (32, 6), (128, 1), (256, 1), (1024, 1)])
def test_other_windows_know_the_waves_that_are_too_long_or_too_short(side: int, reach: int) -> None:
    """Oracle: the windows of the image itself, of the size at which its spectrum is read."""
    fine, _ = scene_of_two_resolutions(21)
    spectrum = spectrum_of(fine, 64)
    assert sorted(spectrum.others) == [16, 32, 128, 256, 512, 1024]
    found = spectrum.at(side, side, reach)[0]
    expected = windows_amplitudes(fine, side)[np.arange(-reach, reach + 1), : reach + 1]
    waves = np.ones(found.shape, dtype=bool)
    if side < 64:
        # These have the waves of longer windows, where those know them: of 64 pixels, up to 6.
        cycles = np.maximum(np.abs(np.arange(-reach, reach + 1))[:, None], np.arange(reach + 1))
        waves = cycles * 64 / side > (6 if side == 32 else 12)
    waves[reach, 0] = False
    assert waves.any()
    np.testing.assert_allclose(found[waves], expected[waves], rtol=2e-3)
    assert found[reach, 0] == pytest.approx(side**2 * fine[:1536, :1536].mean(), rel=1e-5)


@pytest.mark.parametrize(("gsd_m", "chip_px"), [(0.125, 96), (0.125, 128), (0.25, 64)])
def test_a_spectrum_at_its_own_distance_serves_coarser_chips(gsd_m: float, chip_px: int) -> None:
    """Oracle: the amplitudes of windows that were read at the distance of the chips."""
    reach = chip_px // 10
    found, expected = np.zeros((2, 2 * reach + 1, reach + 1))
    for seed in range(4):
        fine, coarse = scene_of_two_resolutions(seed)
        scene = fine if gsd_m == 0.125 else fine.reshape(768, 2, 768, 2, 1).mean(axis=(1, 3))
        spectrum = spectrum_of(scene, 128, gsd_m=gsd_m)
        found += spectrum.at(chip_px, chip_px, reach, gsd_m=1.0)[0]
        parts = [part for part, _ in windows_of(coarse, coarse[..., 0] > -np.inf, chip_px)]
        expected += mean_magnitudes(parts, reach)
    ratios = np.log(found / expected)
    assert np.isfinite(ratios).all()
    cycles = np.maximum(np.abs(np.arange(-reach, reach + 1))[:, None], np.arange(reach + 1))
    # Each range of frequencies comes from other windows; of the longest waves there are few draws.
    for low, high in ((1, 1), (2, 2), (3, reach)):
        of_range = ratios[(cycles >= low) & (cycles <= high)]
        assert of_range.mean() == pytest.approx(0.0, abs=0.2)


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


@pytest.mark.parametrize(
    ("side", "shape", "value"),
    [
        (48, (3, 5, 3), 1.0),
        (192, (3, 19, 10), 1.0),
        (192, (3, 5, 3), -1),
        (96, (3, 19, 10), 1.0),
        (256, (3, 5, 3), 1.0),
        (3072, (3, 5, 3), 1.0),
        (12, (3, 19, 10), 1.0),
    ],
)
def test_impossible_amplitudes_of_other_windows_are_refused(
    side: int, shape: tuple[int, ...], value: float
) -> None:
    amplitudes = np.ones((3, 19, 10), np.float32)
    with pytest.raises(ValueError, match=r"amplitudes|windows of"):
        Spectrum(96, amplitudes, None, {side: np.full(shape, value, np.float32)})


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 9, 10, 16, 101])
@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (40, 33), (260, 190)])
def test_windows_and_images_of_any_size_have_spectra(side: int, shape: tuple[int, int]) -> None:
    """Law: all waves that are known have as many cycles in their window as it can tell apart."""
    image = texture(shape, bands=2, seed=1)
    found = Spectrum.of_image(image, side=side)
    assert found is not None
    for size, amplitudes in found.others.items():
        assert amplitudes.shape[2] - 1 <= min(size, side) // 2
        assert size <= side or size <= min(shape)
    known, most = found.at(*shape, 3)[:, 3, 0], reach_of(side)
    means = found.amplitudes[:, most, 0]
    np.testing.assert_allclose(known, means * image[..., 0].size, rtol=1e-5)
