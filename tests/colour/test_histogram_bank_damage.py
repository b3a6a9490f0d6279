"""Files that are no bank, incomplete, damaged or hostile are refused in one line."""

import base64
import io
import pickle
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rhm.colour import bank_file
from rhm.colour.bank_file import FORMAT
from rhm.colour.histogram_bank import HistogramBank
from rhm.errors import BankError
from tests.colour.banks import MEMBERS, Image, assert_same, imagery, refusal, rewritten


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.bank").startswith("no histogram bank at")
    assert refusal(tmp_path).startswith("no histogram bank at")


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 500, b"not a bank", b"PK\x03\x04 or so", pickle.dumps([1, 2])]
)
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "target.bank"
    path.write_bytes(content)
    assert "damaged or not a ZIP archive" in refusal(path)


def test_other_numpy_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "target.npy"
    np.save(path, np.zeros(3))
    refusal(path)
    np.savez(tmp_path / "other.npz", pixels=np.zeros(3))
    assert "format" in refusal(tmp_path / "other.npz")
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        archive.writestr("format.npy", "text")
    refusal(tmp_path / "text.zip")


def test_other_versions_are_refused_with_what_to_do(tmp_path: Path) -> None:
    later = refusal(rewritten(tmp_path / "target.bank", {"format": np.array(FORMAT + 1)}))
    assert f"a later version of rhm (format {FORMAT + 1}, expected {FORMAT}): update rhm" in later
    earlier = refusal(rewritten(tmp_path / "target.bank", {"format": np.array(1)}, lacking="sizes"))
    assert f"an earlier version of rhm (format 1, expected {FORMAT})" in earlier
    values = HistogramBank.from_images(imagery()).to_dict()
    for version, told in ((FORMAT + 1, "a later version"), (1, "an earlier version")):
        with pytest.raises(BankError, match=told):
            HistogramBank.from_dict(values | {"format": version})
        with pytest.raises(BankError, match=told):
            HistogramBank.from_dict({"format": version})


@pytest.mark.parametrize("member", [*MEMBERS, "summary.json"])
def test_an_incomplete_file_is_refused(tmp_path: Path, member: str) -> None:
    told = "has no format" if member == "format" else f"lacks {member}"
    assert told in refusal(rewritten(tmp_path / "target.bank", lacking=member))


def first_of(member: str, value: int, *, dtype: str = "int64") -> Image:
    """The true array of ``imagery``'s bank, but for its first value."""
    true = HistogramBank.from_images(imagery())._arrays()[member].astype(dtype)
    true[0] = value
    return true


WRONG: dict[str, list[Any]] = {
    "format": ["2", 2.0, [2], np.inf],
    "bands": [0, -3, 3.0, 1, 9, 2**40, [3], "3"],
    "names": [5, [1, 2, 3], ["a"], ["a", "b", "c", "d"], [["a", "b", "c"]], "abc"],
    "weights": [
        [1.0, 1.0, np.nan],
        [1.0, np.inf, 1.0],
        [1.0, -1.0, 1.0],
        [0.0, 0.0, 0.0],
        [1.0, 1.0],
        [[1.0, 1.0, 1.0]],
        [1j, 1j, 1j],
        ["1", "1", "1"],
        1.0,
    ],
    "dtypes": [
        ["float64"] * 3,
        ["uint8"] * 3,
        ["uint8", "uint16"],
        ["\x1b[31m", "\n", "x" * 9999],
        ["(9,)u1"] * 3,
        [],
        [8, 16, 8],
    ],
    "sizes": [
        first_of("sizes", 0),
        first_of("sizes", -1),
        first_of("sizes", 1),
        first_of("sizes", 65537),
        np.array([2**61] * 8 + [len(first_of("steps", 0))]),
        first_of("sizes", 2**62),
        first_of("sizes", 9)[:-1],
        first_of("sizes", 9)[None],
        first_of("sizes", 9).astype(np.float64),
        [],
    ],
    "steps": [
        first_of("steps", -1),
        first_of("steps", 256),
        first_of("steps", 65536),
        first_of("steps", 2**62),
        first_of("steps", 2**63, dtype="uint64"),
        np.zeros_like(first_of("steps", 0)),
        first_of("steps", 9)[1:],
        first_of("steps", 9).astype(np.float64),
        first_of("steps", 9)[:, None],
    ],
    "counts": [
        first_of("counts", 0),
        first_of("counts", -5),
        first_of("counts", 10**6),
        first_of("counts", 2**63 - 1),
        first_of("counts", 2**64 - 1, dtype="uint64"),
        np.full_like(first_of("counts", 0), 2**62),
        first_of("counts", 9)[1:],
        first_of("counts", 9).astype(np.float64),
        first_of("counts", 9)[None],
    ],
}


@pytest.mark.parametrize("member", WRONG)
def test_a_file_of_wrong_arrays_is_refused(tmp_path: Path, member: str) -> None:
    for wrong in WRONG[member]:
        message = refusal(rewritten(tmp_path / "target.bank", {member: np.array(wrong)}))
        assert len(message.replace(str(tmp_path), "")) < 400
        assert message.isprintable()


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("shape", ["10**30,", "10**15,", "-1,", "2**40, 2**40", "True,", "[9],"])
def test_a_file_that_declares_what_it_does_not_hold_is_refused(
    tmp_path: Path, member: str, shape: str
) -> None:
    path = rewritten(tmp_path / "target.bank", lacking=member)
    numbers = shape.replace("10**30", "1" + "0" * 30).replace("10**15", "1" + "0" * 15)
    numbers = numbers.replace("2**40", str(2**40))
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({numbers})}}".ljust(117) + "\n"
    with zipfile.ZipFile(path, "a") as archive:
        stored = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
        archive.writestr(f"{member}.npy", stored + bytes(80))
    refusal(path)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "target.bank"
    HistogramBank.from_images(imagery()).save(path)
    stored = bytearray(path.read_bytes())
    # The size in the central directory, from which zipfile takes it.
    place = stored.index(b"PK\x01\x02") + 24
    stored[place : place + 4] = (3 << 30).to_bytes(4, "little")
    path.write_bytes(bytes(stored))
    assert "unpacks to 3.2 GB" in refusal(path)


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("kind", ["<U0", "|S0", "|V0"])
def test_items_without_bytes_are_refused_before_they_are_made(
    tmp_path: Path, member: str, kind: str
) -> None:
    path = rewritten(tmp_path / "target.bank", lacking=member)
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({10**9},)}}".ljust(117) + "\n"
    with zipfile.ZipFile(path, "a") as archive:
        stored = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
        archive.writestr(f"{member}.npy", stored)
    tracemalloc.start()
    message = refusal(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert f"'{member}.npy' is " in message
    assert most < 1 << 22


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_of_compression_are_refused(tmp_path: Path, method: int) -> None:
    path = rewritten(tmp_path / "target.bank", lacking="counts")
    with zipfile.ZipFile(path, "a") as archive, io.BytesIO() as stored:
        np.save(stored, np.ones(3, dtype=np.int64))
        archive.writestr("counts.npy", stored.getvalue(), compress_type=method)
    assert "compressed by another method" in refusal(path)


def test_more_values_than_any_bank_has_are_refused_before_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = HistogramBank.from_images(imagery())
    bank.save(tmp_path / "target.bank")
    values = bank.to_dict()
    assert_same(HistogramBank.from_dict(values), bank)
    monkeypatch.setattr(bank_file, "_MOST_ITEMS", 20)
    # A file of this size may have as many.
    assert_same(HistogramBank.load(tmp_path / "target.bank"), bank)
    assert_same(HistogramBank.from_dict(values), bank)
    monkeypatch.setattr(bank_file, "_ITEMS_PER_BYTE", 0)
    assert "more than 20 values" in refusal(tmp_path / "target.bank")
    with pytest.raises(BankError, match="more than 20 values"):
        HistogramBank.from_dict(values)


def test_texts_that_unpack_to_gigabytes_are_refused_early() -> None:
    values = HistogramBank.from_images(imagery()).to_dict()
    bomb = base64.b64encode(zlib.compress(bytes(1 << 24))).decode()
    with pytest.raises(BankError, match="not a histogram bank"):
        HistogramBank.from_dict(values | {"steps": bomb})
    with pytest.raises(BankError, match="text of more than 4096 characters"):
        HistogramBank.from_dict(values | {"names": ["a", "b", "c" * 5000]})
    with pytest.raises(BankError, match="is incomplete"):
        HistogramBank.from_dict(values | {"steps": bomb[: len(bomb) // 8 * 4]})


class Bomb:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_a_pickle_is_refused_unopened(tmp_path: Path) -> None:
    path, trace = tmp_path / "target.npz", tmp_path / "trace"
    bomb = np.array([Bomb(trace)], dtype=object)
    for member in MEMBERS:
        assert "pickle" in refusal(rewritten(path, {member: bomb}))
    np.savez(path, **dict.fromkeys(MEMBERS, bomb))  # type: ignore[arg-type]
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
        with zipfile.ZipFile(path) as packed, io.BytesIO() as plain:
            with zipfile.ZipFile(plain, "w") as archive:
                for name in packed.namelist():
                    archive.writestr(name, packed.read(name))
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
