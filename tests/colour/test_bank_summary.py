"""What a bank shows of itself; oracles: numpy's quantiles and histograms of the images."""

import json
import tracemalloc

import numpy as np
import pytest

from rhm.colour.bank_summary import picture_of
from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.packed_histogram import PackedHistogram
from tests.colour.banks import imagery


def test_the_summary_describes_each_domain_and_type() -> None:
    first, deep, third = imagery()
    images = [first, deep, third, first]
    bank = HistogramBank.from_images(images, names=["town/a", "town/b", "town/c", "d"])
    summary = json.loads(json.dumps(bank.summary()))
    assert (summary["images"], summary["bands"]) == (4, 3)
    kinds = {(each["domain"], each["dtype"]): each for each in summary["domains"]}
    assert list(kinds) == [("", "uint8"), ("town", "uint16"), ("town", "uint8")]
    town = kinds["town", "uint8"]
    assert (town["images"], town["pixels"]) == (2, 9 * 11 + 14 * 3)
    together = np.concatenate([first.reshape(-1, 3), third.reshape(-1, 3)])
    expected = np.quantile(together, summary["quantile_shares"], axis=0, method="inverted_cdf").T
    np.testing.assert_array_equal(town["quantiles"], expected)
    assert kinds["town", "uint16"]["images"] == kinds["", "uint8"]["images"] == 1


def test_many_domains_are_summarised_one_after_another() -> None:
    """Law: memory is that of a few unpacked histograms, however many domains there are."""
    entry = PackedHistogram.of(Histogram.of(np.array([[[0]], [[60000]]], dtype=np.uint16)))
    bank = HistogramBank([entry] * 40, [f"{number}/a" for number in range(40)])
    tracemalloc.start()
    try:
        assert len(bank.summary()["domains"]) == 40
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * entry.unpacked_bytes


def test_the_picture_has_the_share_of_every_value_but_the_rarest() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(40, 200, (64, 64, 2), dtype=np.uint8)
    picture = picture_of(Histogram.of(image))
    assert list(picture.lines) == ["band 1", "band 2"]
    for across, shares in picture.lines.values():
        assert 40 <= min(across) < max(across) <= 200
        assert sum(shares) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_one_value_is_a_picture(dtype: type) -> None:
    picture = picture_of(Histogram.of(np.full((4, 4, 1), 1, dtype)))
    (_, shares) = picture.lines["band 1"]
    assert sum(shares) == pytest.approx(1.0)
