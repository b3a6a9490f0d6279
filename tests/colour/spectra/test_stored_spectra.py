"""Spectra in files: what does not fit is refused, and earlier banks are read."""

from pathlib import Path

import numpy as np
import pytest

from rhm.colour.bank_file import read_archive
from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.spectra.spectrum import Spectrum
from rhm.errors import BankError
from tests.colour.banks import refusal, rewritten
from tests.colour.spectra.banks import assert_same_spectra, bank_of


def test_spectra_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BankError, match="windows of one size"):
        bank_of().merge(bank_of(side=32))
    with pytest.raises(BankError, match="one per image"):
        HistogramBank(bank_of().entries, spectra=[None])
    with pytest.raises(BankError, match="with its bands"):
        HistogramBank(bank_of().entries, spectra=bank_of(bands=4).spectra)
    path = tmp_path / "target.bank"
    bank_of().save(path)
    amplitudes = read_archive(path)["amplitudes"]
    for changed, told in (
        ({"amplitudes": amplitudes[:-1]}, "its spectra do not belong to 3 images of 3 bands"),
        ({"amplitudes": -amplitudes}, "finite and at least 0"),
        ({"amplitudes": np.zeros(amplitudes.shape, np.int64)}, "its array 'amplitudes' is int64"),
        ({"spectrum_side": np.array(0)}, "windows of 0 pixels"),
        ({"spectrum_side": np.array(1 << 40)}, "windows of 1099511627776 pixels"),
        ({"spectrum_gsd_m": np.array([1.0])}, "do not belong to"),
        ({"spectrum_gsd_m": np.array([-1.0, 1.0, 1.0])}, "must be positive"),
        ({"other_sides": np.array([16, 32])}, "its other windows do not belong to 3 images"),
        ({"other_sides": np.array([], int)}, "other windows of [] pixels"),
        ({"other_sides": np.array([16, 32, -1])}, "other windows of [16, 32, -1] pixels"),
        ({"other_sides": np.array([16, 32, 64])}, "other windows of [16, 32, 64] pixels"),
        ({"other_sides": np.array([16, 16, 128])}, "other windows of [16, 16, 128] pixels"),
        ({"other_sides": np.arange(1, 10_000)}, "other windows of [1, 2, 3, 4"),
        ({"other_sides": np.array([16.0, 32.0])}, "'other_sides' is float64"),
        ({"other_amplitudes": np.ones(7, np.float32)}, "its other windows do not belong to"),
    ):
        assert told in refusal(rewritten(path, changed, bank=bank_of()))
    for lacking in ("other_sides", "other_amplitudes", "amplitudes"):
        told = f"it lacks {lacking}"
        assert told in refusal(rewritten(path, lacking=lacking, bank=bank_of()))


def test_banks_of_earlier_versions_have_windows_of_one_size(tmp_path: Path) -> None:
    path, bank = tmp_path / "earlier.bank", bank_of()
    spectra = [each and Spectrum(each.side, each.amplitudes, each.gsd_m) for each in bank.spectra]
    HistogramBank(bank.entries, bank.names, spectra=spectra).save(path)
    assert not {"other_sides", "other_amplitudes"} & set(np.load(path).files)
    again = HistogramBank.load(path)
    assert [each and dict(each.others) for each in again.spectra] == [{}, None, {}]
    # Together with one that has others, each keeps its own.
    both = again.merge(bank)
    both.save(path)
    assert_same_spectra(HistogramBank.load(path), both)


def test_banks_have_magnitudes_and_their_histograms_the_signs(tmp_path: Path) -> None:
    """Also those that were built when spectra had no signs."""
    rng = np.random.default_rng(5)
    image = rng.normal([-12.0, 3.0], 2.0, (40, 40, 2)).astype(np.float32)
    found = Spectrum.of_image(image, side=16)
    assert found is not None
    assert np.sign(found.amplitudes[:, 1, 0]).tolist() == [-1, 1]
    bank = HistogramBank([Histogram.of(image)], spectra=[found])
    bank.save(tmp_path / "a.bank")
    again = HistogramBank.load(tmp_path / "a.bank")
    assert_same_spectra(again, bank)
    assert_same_spectra(HistogramBank.load(tmp_path / "a.bank"), again)
    magnitudes = Spectrum(16, np.abs(found.amplitudes), None, found.others)
    HistogramBank([Histogram.of(image)], spectra=[magnitudes]).save(tmp_path / "earlier.bank")
    assert (tmp_path / "earlier.bank").read_bytes() == (tmp_path / "a.bank").read_bytes()
