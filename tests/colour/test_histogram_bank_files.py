"""A bank's file: read as it was written, small, equal for equal banks, complete or absent."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rhm.colour import bank_file
from rhm.colour.histogram_bank import HistogramBank
from rhm.errors import BankError, OutputError
from tests.colour.banks import assert_same, imagery


@pytest.mark.parametrize("bands", [1, 3, 8])
def test_a_saved_bank_loads_as_it_was(tmp_path: Path, bands: int) -> None:
    bank = HistogramBank.from_images(imagery(bands=bands), names=["a", "b", "Łódź 東京"])
    bank.save(tmp_path / "new" / "target.bank")
    loaded = HistogramBank.load(tmp_path / "new" / "target.bank")
    assert_same(loaded, bank)
    assert loaded.bands == bands
    assert [dtype.name for dtype in loaded.dtypes] == ["uint8", "uint16"]
    assert os.listdir(tmp_path / "new") == ["target.bank"]


def test_equal_banks_make_equal_files(tmp_path: Path) -> None:
    for name in ("a.bank", "b.bank"):
        HistogramBank.from_images(imagery()).save(tmp_path / name)
    HistogramBank.load(tmp_path / "a.bank").save(tmp_path / "c.bank")
    assert len({(tmp_path / f"{name}.bank").read_bytes() for name in "abc"}) == 1
    with zipfile.ZipFile(tmp_path / "a.bank") as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}


def test_weights_survive_the_file(tmp_path: Path) -> None:
    bank = HistogramBank.from_images(imagery(), names=["a/0", "a/1", "a/2"]).weighted("domain")
    assert set(bank.weights) == {0.5, 1.0}
    bank.save(tmp_path / "target.bank")
    assert_same(HistogramBank.load(tmp_path / "target.bank"), bank)


def test_banks_merge_alike_through_files(tmp_path: Path) -> None:
    banks = [HistogramBank.from_images(imagery(seed=seed)) for seed in range(3)]
    for number, bank in enumerate(banks):
        bank.save(tmp_path / f"{number}.bank")
    loaded = [HistogramBank.load(tmp_path / f"{number}.bank") for number in range(3)]
    images = [image for seed in range(3) for image in imagery(seed=seed)]
    union = HistogramBank.from_images(images, names=["0", "1", "2"] * 3)
    assert_same(loaded[0].merge(loaded[1]).merge(loaded[2]), union)
    assert_same(loaded[0].merge(loaded[1].merge(loaded[2])), union)
    union.save(tmp_path / "union.bank")
    loaded[0].merge(loaded[1]).merge(loaded[2]).save(tmp_path / "merged.bank")
    assert (tmp_path / "union.bank").read_bytes() == (tmp_path / "merged.bank").read_bytes()


def test_the_file_has_a_summary_for_people(tmp_path: Path) -> None:
    bank = HistogramBank.from_images(imagery(), names=["\x1b[31m/a", "b", "c"])
    bank.save(tmp_path / "target.bank")
    with zipfile.ZipFile(tmp_path / "target.bank") as archive:
        text = archive.read("summary.json").decode("ascii")
    assert json.loads(text) == bank.summary()
    assert text.replace("\n", "").isprintable()


def test_a_failed_save_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "target.bank"
    old = HistogramBank.from_images(imagery()[:1])
    old.save(path)
    large = HistogramBank.from_images(imagery(bands=8))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match=r"^cannot write .*target\.bank: .+"):
            large.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_same(HistogramBank.load(path), old)
    assert os.listdir(tmp_path) == ["target.bank"]


@pytest.mark.parametrize(("dtype", "high", "limit"), [("uint16", 2048, 8000), ("uint8", 256, 3000)])
def test_a_bank_is_some_kilobytes_an_image(
    tmp_path: Path, dtype: str, high: int, limit: int
) -> None:
    rng = np.random.default_rng(0)
    images = (rng.integers(0, high, (256, 256, 3)).astype(dtype) for _ in range(4))
    HistogramBank.from_images(images).save(tmp_path / "target.bank")
    assert (tmp_path / "target.bank").stat().st_size <= 4 * limit


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_imagery_of_any_depth_stays_small(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(0)
    images = (rng.normal(0, 9000, (500, 400, 3)).clip(0, 32767).astype(dtype) for _ in range(3))
    HistogramBank.from_images(images).save(tmp_path / "target.bank")
    assert (tmp_path / "target.bank").stat().st_size <= 3 * 8000


def test_a_file_that_is_no_bank_is_not_replaced(tmp_path: Path) -> None:
    image = tmp_path / "scene.tif"
    image.write_bytes(b"II*\0 pixels")
    bank = HistogramBank.from_images(imagery())
    with pytest.raises(OutputError, match="exists and is not a histogram bank"):
        bank.save(image)
    assert image.read_bytes() == b"II*\0 pixels"
    bank.save(tmp_path / "a.bank")
    bank.save(tmp_path / "a.bank")


@pytest.mark.parametrize("limit", ["_MOST_ITEMS", "_MOST_BYTES"])
def test_a_bank_that_could_not_be_read_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    path = tmp_path / "target.bank"
    old, large = (HistogramBank.from_images(imagery(seed=seed)) for seed in (0, 1))
    old.save(path)
    for name, value in ((limit, 20), ("_ITEMS_PER_BYTE", 0), ("_BYTES_PER_BYTE", 0)):
        monkeypatch.setattr(bank_file, name, value)
    with pytest.raises(BankError, match=r"too large to be read again: .*; build several banks"):
        large.save(path)
    if limit == "_MOST_ITEMS":
        with pytest.raises(BankError, match="too large to be read again"):
            large.to_dict()
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["target.bank"]
    assert_same(HistogramBank.load(path), old)


def test_names_are_as_short_as_those_that_are_read(tmp_path: Path) -> None:
    longest = ["a" * 4096, "b", "\udcff" * 4096]
    HistogramBank.from_images(imagery(), names=longest).save(tmp_path / "a.bank")
    assert HistogramBank.load(tmp_path / "a.bank").names == tuple(longest)
    with pytest.raises(BankError, match=r"^the name 'a{40}…' of an image has 4097 characters: "):
        HistogramBank.from_images(imagery(), names=["a" * 4097, "b", "c"])


def test_a_name_that_no_file_can_have_is_one_error(tmp_path: Path) -> None:
    bank = HistogramBank.from_images(imagery())
    for path in (tmp_path / f"{'x' * 300}.bank", tmp_path / "x\0.bank", tmp_path):
        with pytest.raises(OutputError, match=r"^cannot write "):
            bank.save(path)
