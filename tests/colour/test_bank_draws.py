"""Laws of drawing from a bank: a draw is an entry, which is unpacked once if memory allows."""

import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest

from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.packed_histogram import PackedHistogram

KINDS = {"uint8": 255, "uint16": 2047, "int16": 20000, "float32": 1.0}


def bank_of(dtype: str, count: int = 6) -> HistogramBank:
    rng = np.random.default_rng(0)
    shades = np.linspace(0.3, 1.0, count)
    return HistogramBank.from_images(
        (rng.beta(2, 5, (40, 30, 3)) * KINDS[dtype] * shade).astype(dtype) for shade in shades
    )


def drawn(bank: HistogramBank, draws: int, *, seed: int = 0) -> list[Histogram]:
    rng = np.random.default_rng(seed)
    return [bank.sample(rng=rng) for _ in range(draws)]


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each entry, by its identity, has been unpacked."""
    counted: Counter[int] = Counter()
    unpack = PackedHistogram.unpack

    def count(entry: PackedHistogram) -> Histogram:
        counted[id(entry)] += 1
        return unpack(entry)

    monkeypatch.setattr(PackedHistogram, "unpack", count)
    return counted


@pytest.mark.parametrize("dtype", sorted(KINDS))
def test_a_draw_is_an_entry_as_it_unpacks_however_often_it_was_drawn(dtype: str) -> None:
    bank = bank_of(dtype)
    for _ in range(2):
        for numbers, histogram in zip(
            np.random.default_rng(1).random(40), drawn(bank, 40, seed=1), strict=True
        ):
            entry = bank.entries[int(numbers * len(bank))].unpack()
            np.testing.assert_array_equal(histogram.counts, entry.counts, strict=True)
            assert (histogram.first, histogram.dtype) == (entry.first, entry.dtype)
            for ours, theirs in zip(histogram.steps, entry.steps, strict=True):
                np.testing.assert_array_equal(ours[0], theirs[0], strict=True)
                np.testing.assert_array_equal(ours[1], theirs[1], strict=True)


def test_an_entry_is_unpacked_once(unpacked: Counter[int]) -> None:
    bank = bank_of("uint16")
    assert len(drawn(bank, 200)) == 200
    assert unpacked == {id(entry): 1 for entry in bank.entries}


def test_memory_is_bounded_and_draws_stay_the_same(
    unpacked: Counter[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = bank_of("uint16")
    ample = drawn(bank, 60)
    monkeypatch.setattr(
        "rhm.colour.histogram_bank.UNPACKED_BYTES",
        2 * max(entry.unpacked_bytes for entry in bank.entries),
    )
    tight = bank_of("uint16")
    for one, other in zip(ample, drawn(tight, 60), strict=True):
        np.testing.assert_array_equal(one.counts, other.counts)
    # Six are drawn in turns, and two are kept.
    assert sum(unpacked[id(entry)] for entry in tight.entries) > 30


@pytest.mark.parametrize("dtype", sorted(KINDS))
def test_an_entry_knows_what_it_takes_unpacked(dtype: str) -> None:
    for entry in bank_of(dtype).entries:
        histogram = entry.unpack()
        kept: list[Any] = [histogram.counts, *(each for pair in histogram.steps for each in pair)]
        taken = sum(array.nbytes for array in kept)
        assert taken <= entry.unpacked_bytes <= 1.5 * taken


def test_a_bank_that_has_been_drawn_from_travels_without_what_it_unpacked() -> None:
    bank = bank_of("uint16", 12)
    before = len(pickle.dumps(bank_of("uint16", 12)))
    expected = drawn(bank, 50)
    packed = pickle.dumps(bank)
    # What was worked out of the weights travels along.
    assert len(packed) < before + 2000
    for one, other in zip(expected, drawn(pickle.loads(packed), 50), strict=True):  # noqa: S301
        np.testing.assert_array_equal(one.counts, other.counts)
