"""Images with long and short waves, and their spectra."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.colour.spectra.spectrum import Spectrum
from rhm.colour.spectra.window_amplitudes import windows_of

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


def spectrum_of(image: Image, side: int, **options: Any) -> Spectrum:
    everywhere = np.ones(image.shape[:2], dtype=bool)
    found = Spectrum.of(windows_of(image, everywhere, side), side)
    alone = Spectrum.of_image(image, side=side)
    assert alone is not None
    assert found is not None
    np.testing.assert_array_equal(found.amplitudes, alone.amplitudes)
    return replace(alone, **options)


def white_noise(side: int, count: int, seed: int) -> list[Image]:
    rng = np.random.default_rng(seed)
    return [rng.normal(50.0, 9.0, (side, side, 1)) for _ in range(count)]


def mean_magnitudes(images: list[Image], reach: int) -> Image:
    rows = np.arange(-reach, reach + 1)
    each = [np.abs(np.fft.fft2(image[..., 0]))[rows][:, : reach + 1] for image in images]
    return np.asarray(np.mean(each, axis=0))


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
