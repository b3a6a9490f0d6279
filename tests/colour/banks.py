"""Small banks, their files, and the one line with which a file is refused."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rhm.colour.histogram_bank import HistogramBank
from rhm.errors import BankError

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
    np.testing.assert_array_equal(first.weights, second.weights, strict=True)
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


def flat_bank(
    values: Sequence[int],
    names: Sequence[str] | None = None,
    *,
    dtype: type = np.uint8,
    weights: Sequence[float] | None = None,
) -> HistogramBank:
    """A bank of images of one value each, which tell their draws apart."""
    images: list[Image] = [np.full((2, 3), value, dtype=dtype) for value in values]
    bank = HistogramBank.from_images(images, names=names)
    return bank if weights is None else HistogramBank(bank.entries, weights=np.array(weights))


def rewritten(
    path: Path,
    changes: Mapping[str, Image] = MappingProxyType({}),
    *,
    lacking: str = "",
    bank: HistogramBank | None = None,
) -> Path:
    """Write a bank, then the same file with some arrays changed, or one member missing."""
    (bank or HistogramBank.from_images(imagery())).save(path)
    with np.load(path) as archive:
        members = {name: archive[name] for name in archive.files}
    summary = members.pop("summary.json")
    arrays = {name: each for name, each in (members | dict(changes)).items() if name != lacking}
    with path.open("wb") as file:
        np.savez(file, **arrays)
    if lacking != "summary.json":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("summary.json", summary)
    return path


MEMBERS = ("format", "bands", "names", "weights", "dtypes", "sizes", "steps", "counts")
