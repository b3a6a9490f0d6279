"""Banks with spectra: files and JSON bring them back, and banks without are as they always were."""

import json
from pathlib import Path

import numpy as np
import pytest

from rhm.colour.bank_file import FORMAT, PLAIN_FORMAT, read_archive
from rhm.colour.histogram_bank import HistogramBank
from tests.colour.banks import assert_same, imagery
from tests.colour.spectra.banks import assert_same_spectra, bank_of


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
