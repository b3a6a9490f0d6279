"""Banks with spectra."""

import numpy as np

from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.spectra.spectrum import Spectrum
from tests.colour.spectra.textures import texture


def bank_of(count: int = 3, *, bands: int = 3, side: int = 64) -> HistogramBank:
    """A bank whose second image has no spectrum, and whose third knows its resolution."""
    images = [
        np.clip(texture((70, 90), bands=bands, seed=seed), 0, 255).astype(np.uint8)
        for seed in range(count)
    ]
    bank = HistogramBank.from_images(images, spectrum_px=side)
    spectra = list(bank.spectra)
    if count == 3:
        first = spectra[0]
        assert first is not None
        assert {side // 4, side // 2} <= set(first.others)
        longer = {2 * side: np.full((bands, 5, 3), 2.5, np.float32)}
        spectra[1:] = [None, Spectrum(side, first.amplitudes * 2, 0.25, longer)]
    return HistogramBank(bank.entries, bank.names, spectra=spectra)


def assert_same_spectra(one: HistogramBank, other: HistogramBank) -> None:
    assert len(one.spectra) == len(other.spectra)
    for first, second in zip(one.spectra, other.spectra, strict=True):
        assert (first is None) == (second is None)
        if first is not None and second is not None:
            assert (first.side, first.gsd_m) == (second.side, second.gsd_m)
            np.testing.assert_array_equal(first.amplitudes, second.amplitudes, strict=True)
            assert sorted(first.others) == sorted(second.others)
            for side, amplitudes in first.others.items():
                np.testing.assert_array_equal(amplitudes, second.others[side], strict=True)
