"""Laws of the histogram bank and of its values as JSON; oracle of distance: scipy."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.lookup import PixelMap
from rhm.colour.matching import match_histograms
from rhm.errors import BankError
from tests.colour.banks import MEMBERS, Image, assert_same, imagery


@given(st.lists(st.floats(1e-100, 1e100) | st.just(0.0), min_size=3, max_size=3))
def test_a_bank_survives_json_and_pickle(weights: list[float]) -> None:
    # One of each type needs a chance.
    weights[1:] = [each or 1.0 for each in weights[1:]]
    entries = HistogramBank.from_images(imagery()).entries
    bank = HistogramBank(entries, ["a/0", "a/1", "b/2"], weights=np.array(weights))
    assert_same(HistogramBank.from_dict(json.loads(json.dumps(bank.to_dict()))), bank)
    assert bank.pooled
    assert_same(pickle.loads(pickle.dumps(bank)), bank)  # noqa: S301


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_banks_of_signed_and_float_imagery_are_matched_to(tmp_path: Path, dtype: type) -> None:
    rng = np.random.default_rng(0)
    scale = 1 / 1024 if dtype is np.float32 else 1
    source, target = (rng.normal(at, 80, (40, 50, 3)).round() * scale for at in (-300, 200))
    image: Image = source.astype(dtype)
    wanted: Image = target.astype(dtype)
    HistogramBank.from_images([wanted]).save(tmp_path / "target.bank")
    bank = HistogramBank.load(tmp_path / "target.bank")
    drawn = bank.sample(dtype=np.dtype(dtype), rng=rng)
    matched = PixelMap.matching(Histogram.of(image), drawn).apply(image)
    # These floats are exact in half precision, so that no bin holds two of them.
    np.testing.assert_allclose(matched, match_histograms(image, wanted), rtol=1e-6)
    np.testing.assert_allclose(
        bank.distance(Histogram.of(image)),
        [wasserstein_distance(wanted[..., b].ravel(), image[..., b].ravel()) for b in range(3)],
        rtol=1e-9,
    )


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
    with pytest.raises(BankError, match=f"expected 3 names, one per image, got {len(names)}"):
        HistogramBank.from_images(imagery(), names=names)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True), st.data())
def test_a_merged_bank_is_the_bank_of_all_images(seeds: list[int], data: st.DataObject) -> None:
    images = [image for seed in seeds for image in imagery(seed=seed)]
    names = [f"{chr(97 + number % 3)}/{number}" for number in range(len(images))]
    cut = data.draw(st.integers(1, len(images) - 1))
    first = HistogramBank.from_images(images[:cut], names=names[:cut])
    second = HistogramBank.from_images(images[cut:], names=names[cut:])
    union = HistogramBank.from_images(images, names=names)
    assert_same(first.merge(second), union)
    assert first.merge(second).summary() == union.summary()


def test_banks_of_other_bands_do_not_merge() -> None:
    with pytest.raises(BankError, match="cannot share one bank"):
        HistogramBank.from_images(imagery()).merge(HistogramBank.from_images(imagery(bands=4)))


def test_distance_is_scipys_to_all_pixels_of_the_type_together() -> None:
    first, deep, third = imagery()
    bank = HistogramBank.from_images([first, deep, third])
    image = np.random.default_rng(9).integers(0, 90, (6, 6, 3)).astype(np.uint8)
    together = np.concatenate([first.reshape(-1, 3), third.reshape(-1, 3)])
    expected = [wasserstein_distance(together[:, b], image[..., b].ravel()) for b in range(3)]
    np.testing.assert_allclose(bank.distance(Histogram.of(image)), expected, rtol=1e-9)
    assert not bank.distance(Histogram.of(deep)).any()


@pytest.mark.parametrize(("dtype", "high"), [(np.uint8, 256), (np.uint16, 2048)])
def test_distance_to_packed_images_is_scipys(tmp_path: Path, dtype: type, high: int) -> None:
    rng = np.random.default_rng(high)
    images: list[Image] = [rng.integers(0, high, (99, 98, 3)).astype(dtype) for _ in range(3)]
    one, two, image = images
    HistogramBank.from_images([one, two]).save(tmp_path / "target.bank")
    together = np.concatenate([one, two])
    expected = [
        wasserstein_distance(together[..., b].ravel(), image[..., b].ravel()) for b in range(3)
    ]
    bank = HistogramBank.load(tmp_path / "target.bank")
    np.testing.assert_allclose(bank.distance(Histogram.of(image)), expected, rtol=1e-9)


def test_there_is_no_distance_to_other_imagery() -> None:
    bank = HistogramBank.from_images(imagery()[:1])
    for other in (imagery()[1], imagery(bands=4)[0]):
        with pytest.raises(BankError, match="cannot be compared with"):
            bank.distance(Histogram.of(other))
    nothing = Histogram(np.zeros((3, 256), dtype=np.int64), np.dtype(np.uint8))
    with pytest.raises(BankError, match="cannot be compared with an image without valid pixels"):
        bank.distance(nothing)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "x"},
        {"format": float("inf")},
        {"bands": 0},
        {"bands": -3},
        {"bands": 1e30},
        {"bands": 10**30},
        {"weights": [1.0, 2.0]},
        {"weights": [float("nan")] * 3},
        {"weights": None},
        {"dtypes": ["float64"] * 3},
        {"dtypes": []},
        {"names": 5},
        {"names": ["a"]},
        {"names": [["a"], ["b", "c"]]},
        {"sizes": "aaaa"},
        {"sizes": [1] * 9},
        {"steps": None},
        {"counts": "é"},
        {"counts": "aaaa"},
        {"counts": 5},
        {"counts": HistogramBank.from_images(imagery(seed=1)).to_dict()["sizes"]},
    ],
)
def test_values_that_contradict_each_other_are_refused(change: dict[str, Any]) -> None:
    values = HistogramBank.from_images(imagery()).to_dict()
    with pytest.raises(BankError, match=r"^not a histogram bank: .+") as caught:
        HistogramBank.from_dict(values | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("member", MEMBERS)
def test_incomplete_values_are_refused(member: str) -> None:
    values = HistogramBank.from_images(imagery()).to_dict()
    del values[member]
    with pytest.raises(BankError, match=f"^not a histogram bank: it .*{member}"):
        HistogramBank.from_dict(values)


@pytest.mark.parametrize("values", [[], "bank", None, 5, {}])
def test_what_is_no_mapping_of_a_bank_is_refused(values: Any) -> None:
    with pytest.raises(BankError, match="not a histogram bank"):
        HistogramBank.from_dict(values)


def test_an_entry_that_counts_nothing_is_refused() -> None:
    empty = Histogram(np.zeros((3, 256), dtype=np.int64), np.dtype(np.uint8))
    with pytest.raises(BankError, match="at least one valid pixel"):
        HistogramBank((empty,))
