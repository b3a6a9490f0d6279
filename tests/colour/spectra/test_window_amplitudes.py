"""Amplitudes of windows, averaged."""

import numpy as np

from rhm.colour.spectra.spectrum import Spectrum
from rhm.colour.spectra.window_amplitudes import windows_of
from tests.colour.spectra.textures import (
    texture,
)


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


def test_nodata_has_no_influence_on_larger_windows() -> None:
    image, valid = texture((256, 256), seed=6), np.ones((256, 256), dtype=bool)
    valid[10:90, 30:] = False
    other = image.copy()
    other[~valid] = 60000.0
    first, second = (Spectrum.of_image(each, valid, 64) for each in (image, other))
    assert first is not None
    assert second is not None
    assert sorted(first.others) == [16, 32, 128, 256]
    for side, amplitudes in first.others.items():
        np.testing.assert_array_equal(amplitudes, second.others[side])
