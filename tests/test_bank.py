"""Laws of the histogram bank and of its file; oracle of distance: scipy."""

import io
import json
import os
import pickle
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance  # type: ignore[import-untyped]

from rhm.bank import FORMAT, HistogramBank
from rhm.errors import BankError, OutputError
from rhm.histogram import Histogram

Image = NDArray[Any]


def imagery(*, bands: int = 3, seed: int = 0) -> list[Image]:
    """Images of both types and several sizes."""
    rng = np.random.default_rng(seed)
    return [
        rng.integers(20, 230, (9, 11, bands)).astype(np.uint8),
        rng.integers(0, 2047, (8, 5, bands)).astype(np.uint16),
        rng.integers(100, 130, (14, 3, bands)).astype(np.uint8),
    ]


def assert_same(first: HistogramBank, second: HistogramBank) -> None:
    assert first.names == second.names
    assert len(first) == len(second)
    for one, two in zip(first.histograms, second.histograms, strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one.counts, two.counts, strict=True)


def refusal(path: Path) -> str:
    """The one line with which loading ``path`` is refused."""
    with pytest.raises(BankError) as caught:
        HistogramBank.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "rhm bank build" in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("bands", [1, 3, 8])
def test_a_saved_bank_loads_as_it_was(tmp_path: Path, bands: int) -> None:
    bank = HistogramBank.from_images(imagery(bands=bands), names=["a", "b", "Łódź 東京"])
    bank.save(tmp_path / "new" / "target.bank")
    loaded = HistogramBank.load(tmp_path / "new" / "target.bank")
    assert_same(loaded, bank)
    assert loaded.bands == bands
    assert [dtype.name for dtype in loaded.dtypes] == ["uint8", "uint16"]
    assert os.listdir(tmp_path / "new") == ["target.bank"]


def test_a_bank_survives_json_and_pickle() -> None:
    bank = HistogramBank.from_images(imagery())
    assert_same(HistogramBank.from_dict(json.loads(json.dumps(bank.to_dict()))), bank)
    assert bank.pooled
    assert_same(pickle.loads(pickle.dumps(bank)), bank)  # noqa: S301


def test_images_are_taken_one_at_a_time_and_blank_ones_left_out() -> None:
    images = imagery()
    blank = np.zeros((4, 4, 3), dtype=np.uint8)
    stream = iter([images[0], blank, images[2]])
    bank = HistogramBank.from_images(stream, nodata=0, names=["a", "blank", "c"])
    assert bank.names == ("a", "c")
    assert bank.histograms[1].pixels == 14 * 3
    with pytest.raises(BankError, match="at least one image"):
        HistogramBank.from_images([blank], nodata=0)
    with pytest.raises(BankError, match="at least one image"):
        HistogramBank.from_images([])


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c", "d"]])
def test_as_many_names_as_images(names: list[str]) -> None:
    with pytest.raises(BankError, match=f"{len(names)} names for 3"):
        HistogramBank.from_images(imagery(), names=names)


def test_merging_banks_puts_their_images_together() -> None:
    first, second = (HistogramBank.from_images(imagery(seed=seed)) for seed in (0, 1))
    assert_same(
        first.merge(second),
        HistogramBank.from_images(
            imagery(seed=0) + imagery(seed=1), names=first.names + second.names
        ),
    )
    with pytest.raises(BankError, match="cannot share one bank"):
        first.merge(HistogramBank.from_images(imagery(bands=4)))


def test_every_image_is_drawn_equally_often() -> None:
    bank = HistogramBank.from_images(imagery())
    rng = np.random.default_rng(0)
    drawn = Counter(id(bank.sample(rng=rng)) for _ in range(3000))
    assert set(drawn) == set(map(id, bank.histograms))
    assert all(900 < count < 1100 for count in drawn.values())


def test_a_draw_can_be_of_one_type() -> None:
    bank = HistogramBank.from_images(imagery())
    rng = np.random.default_rng(0)
    drawn = [bank.sample(dtype=np.dtype(np.uint8), rng=rng) for _ in range(50)]
    assert set(map(id, drawn)) == {id(bank.histograms[0]), id(bank.histograms[2])}
    eight_bit = HistogramBank.from_images(imagery()[:1])
    with pytest.raises(BankError, match="a bank of uint8 imagery has no target for uint16"):
        eight_bit.sample(dtype=np.dtype(np.uint16), rng=rng)


def test_distance_is_scipys_to_all_pixels_of_the_type_together() -> None:
    first, deep, third = imagery()
    bank = HistogramBank.from_images([first, deep, third])
    image = np.random.default_rng(9).integers(0, 90, (6, 6, 3)).astype(np.uint8)
    together = np.concatenate([first.reshape(-1, 3), third.reshape(-1, 3)])
    expected = [wasserstein_distance(together[:, b], image[..., b].ravel()) for b in range(3)]
    np.testing.assert_allclose(bank.distance(Histogram.of(image)), expected, rtol=1e-9)
    assert not bank.distance(Histogram.of(deep)).any()


def test_there_is_no_distance_to_other_imagery() -> None:
    bank = HistogramBank.from_images(imagery()[:1])
    for other in (imagery()[1], imagery(bands=4)[0]):
        with pytest.raises(BankError, match="no distance to"):
            bank.distance(Histogram.of(other))


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.bank").startswith("no histogram bank at")
    assert refusal(tmp_path).startswith("no histogram bank at")


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 500, b"not a bank", b"PK\x03\x04 or so", pickle.dumps([1, 2])]
)
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "target.bank"
    path.write_bytes(content)
    assert "damaged or of another kind" in refusal(path)


def test_other_numpy_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "target.npy"
    np.save(path, np.zeros(3))
    refusal(path)
    np.savez(tmp_path / "other.npz", pixels=np.zeros(3))
    assert "format" in refusal(tmp_path / "other.npz")
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        archive.writestr("format.npy", "text")
    refusal(tmp_path / "text.zip")


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "target.bank"
    bank = HistogramBank.from_images(imagery())
    bank.save(path)
    with np.load(path) as arrays:
        later = dict(arrays) | {"format": np.array(FORMAT + 1)}
    with path.open("wb") as file:
        np.savez(file, **later)
    assert f"later version (format {FORMAT + 1}" in refusal(path)
    with pytest.raises(BankError, match="later version"):
        HistogramBank.from_dict(bank.to_dict() | {"format": FORMAT + 1})


class Bomb:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_a_pickle_is_refused_unopened(tmp_path: Path) -> None:
    path, trace = tmp_path / "target.npz", tmp_path / "trace"
    bomb = np.array([Bomb(trace)], dtype=object)
    np.savez(path, format=bomb, bands=bomb, names=bomb, dtypes=bomb, levels=bomb, counts=bomb)
    refusal(path)
    path.write_bytes(pickle.dumps(Bomb(trace)))
    refusal(path)
    assert not trace.exists()


@pytest.mark.parametrize("compressed", [True, False])
def test_a_damaged_file_is_refused_or_reads_as_it_was(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "target.bank"
    bank = HistogramBank.from_images(imagery())
    bank.save(path)
    if not compressed:
        with np.load(path) as arrays, io.BytesIO() as plain:
            np.savez(plain, **arrays)
            path.write_bytes(plain.getvalue())
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refusals = []
    for case in range(300):
        damaged = bytearray(whole)
        if case % 3 == 0:
            del damaged[int(rng.integers(len(whole))) :]
        else:
            damaged[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            loaded = HistogramBank.load(path)
        except BankError as error:
            refusals.append(str(error))
        else:
            assert_same(loaded, bank)
    assert len(refusals) > 150
    assert not any("\n" in message for message in refusals)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "x"},
        {"format": float("inf")},
        {"bands": 0},
        {"bands": -3},
        {"bands": 1e30},
        {"levels": [256, 5]},
        {"levels": [1e300, 1e300, 1e300]},
        {"levels": None},
        {"dtypes": ["float32"] * 3},
        {"dtypes": []},
        {"names": 5},
        {"names": ["a"]},
        {"counts": "é"},
        {"counts": "aaaa"},
        {"counts": 5},
    ],
)
def test_values_that_contradict_each_other_are_refused(change: dict[str, Any]) -> None:
    values = HistogramBank.from_images(imagery()).to_dict()
    with pytest.raises(BankError, match=r"^not a histogram bank: .+") as caught:
        HistogramBank.from_dict(values | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [[], "bank", None, 5, {}])
def test_what_is_no_mapping_of_a_bank_is_refused(values: Any) -> None:
    with pytest.raises(BankError, match="not a histogram bank"):
        HistogramBank.from_dict(values)


def test_an_entry_that_counts_nothing_is_refused() -> None:
    empty = Histogram.of(np.zeros((0, 3, 3), dtype=np.uint8))
    values = HistogramBank((empty,)).to_dict()
    with pytest.raises(BankError, match="counts no pixels"):
        HistogramBank.from_dict(values)


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


def test_a_bank_is_some_kilobytes_an_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.normal(500, 90, (200, 200, 3)).clip(0, 2047).astype(np.uint16) for _ in range(9)]
    HistogramBank.from_images(images).save(tmp_path / "target.bank")
    assert (tmp_path / "target.bank").stat().st_size < 9 * 8192
