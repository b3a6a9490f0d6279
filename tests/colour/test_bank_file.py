"""Banks with spectra: files and JSON bring them back, and banks without are as they always were."""

import json
from pathlib import Path

import numpy as np
import pytest

from rhm.colour.bank_file import FORMAT, PLAIN_FORMAT, read_archive
from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.spectrum import Spectrum
from rhm.errors import BankError
from tests.colour.banks import assert_same, imagery, refusal, rewritten
from tests.colour.test_spectrum import texture


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
        spectra[1:] = [None, Spectrum(side, first.amplitudes * 2, 0.25)]
    return HistogramBank(bank.entries, bank.names, spectra=spectra)


def assert_same_spectra(one: HistogramBank, other: HistogramBank) -> None:
    assert len(one.spectra) == len(other.spectra)
    for first, second in zip(one.spectra, other.spectra, strict=True):
        assert (first is None) == (second is None)
        if first is not None and second is not None:
            assert (first.side, first.gsd_m) == (second.side, second.gsd_m)
            np.testing.assert_array_equal(first.amplitudes, second.amplitudes, strict=True)


def test_spectra_survive_files_and_json(tmp_path: Path) -> None:
    bank = bank_of()
    bank.save(tmp_path / "target.bank")
    for again in (
        HistogramBank.load(tmp_path / "target.bank"),
        HistogramBank.from_dict(json.loads(json.dumps(bank.to_dict(), allow_nan=False))),
    ):
        assert_same(again, bank)
        assert_same_spectra(again, bank)


def test_a_bank_without_spectra_has_the_format_that_earlier_versions_read(tmp_path: Path) -> None:
    path = tmp_path / "plain.bank"
    HistogramBank.from_images(imagery()).save(path)
    with np.load(path) as stored:
        names = set(stored.files) - {"summary.json"}
        assert int(stored["format"]) == PLAIN_FORMAT
    assert names == {"format", "bands", "names", "weights", "dtypes", "sizes", "steps", "counts"}
    assert HistogramBank.load(path).spectra == (None,) * 3
    assert HistogramBank.from_images(imagery()).to_dict()["format"] == PLAIN_FORMAT
    bank_of().save(path)
    with np.load(path) as stored:
        assert int(stored["format"]) == FORMAT
    assert "amplitudes" in read_archive(path)


def test_spectra_follow_their_images_into_other_banks() -> None:
    bank, plain = bank_of(), HistogramBank.from_images(imagery())
    assert_same_spectra(bank.weighted("domain"), bank)
    merged = plain.merge(bank)
    assert merged.spectra == (None, None, None, *bank.spectra)


def test_a_spectrum_is_drawn_by_the_weight_of_its_image() -> None:
    bank = bank_of(2).merge(bank_of(2, side=64))
    weighted = HistogramBank(
        bank.entries, bank.names, weights=np.array([1.0, 0.0, 0.0, 3.0]), spectra=bank.spectra
    )
    rng = np.random.default_rng(0)
    drawn = [weighted.sample_spectrum(dtype=np.dtype(np.uint8), rng=rng) for _ in range(400)]
    shares = [np.mean([each is spectrum for each in drawn]) for spectrum in bank.spectra]
    assert shares == pytest.approx([0.25, 0, 0, 0.75], abs=0.07)


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
    ):
        assert told in refusal(rewritten(path, changed, bank=bank_of()))


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
    magnitudes = Spectrum(16, np.abs(found.amplitudes))
    HistogramBank([Histogram.of(image)], spectra=[magnitudes]).save(tmp_path / "earlier.bank")
    assert (tmp_path / "earlier.bank").read_bytes() == (tmp_path / "a.bank").read_bytes()
