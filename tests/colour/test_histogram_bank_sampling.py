"""The chances of a bank's images: drawn in proportion to weights, and which weights are refused."""

from collections.abc import Sequence

import numpy as np
import pytest

from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import SAMPLING, HistogramBank
from rhm.errors import BankError
from tests.colour.banks import flat_bank, imagery


def test_merging_keeps_each_banks_chances_and_weighs_banks_by_their_images() -> None:
    first = flat_bank([1, 2], weights=[3.0, 1.0])
    second = flat_bank([3, 4, 5, 6], weights=[0.0, 1.0, 1.0, 2.0])
    weights = first.merge(second).weights
    np.testing.assert_allclose(weights / weights.sum(), np.array([6, 2, 0, 4, 4, 8]) / 24)


def assert_drawn_in_proportion(bank: HistogramBank, chances: Sequence[float]) -> None:
    """Draw often; counts may stray from their expectation by five standard deviations."""
    rng = np.random.default_rng(0)
    draws = 4000
    values = [int(bank.sample(rng=rng).quantile(0.5)[0]) for _ in range(draws)]
    expected = draws * np.array(chances) / np.sum(chances)
    for entry, mean in zip(bank.histograms, expected, strict=True):
        count = values.count(int(entry.quantile(0.5)[0]))
        assert abs(count - mean) <= 5 * np.sqrt(mean * (1 - mean / draws))


def test_every_image_is_drawn_equally_often() -> None:
    bank = flat_bank([5, 9, 200, 30])
    assert_drawn_in_proportion(bank, [1, 1, 1, 1])
    assert_drawn_in_proportion(
        bank.weighted("distance", bank.histograms[0]).weighted("uniform"), [1] * 4
    )


def test_every_domain_is_drawn_equally_often() -> None:
    names = ["a/0", "a/1", "a/2", "b/0", "c/x/0", "c/x/1"]
    bank = flat_bank(range(6), names).weighted("domain")
    assert bank.domains == ("a", "a", "a", "b", "c/x", "c/x")
    assert_drawn_in_proportion(bank, [1 / 3, 1 / 3, 1 / 3, 1, 1 / 2, 1 / 2])


def test_every_domain_is_drawn_equally_often_among_the_images_of_each_type() -> None:
    bytes_ = flat_bank([1, 2, 3, 4], ["a/0", "b/0", "b/1", "b/2"])
    words = flat_bank([5, 6, 7, 8], ["a/1", "a/2", "a/3", "b/3"], dtype=np.uint16)
    bank = bytes_.merge(words).weighted("domain")
    rng = np.random.default_rng(0)
    for dtype, of_a in ((np.uint8, {1}), (np.uint16, {5, 6, 7})):
        drawn = [bank.sample(dtype=np.dtype(dtype), rng=rng) for _ in range(2000)]
        count = sum(int(each.quantile(0.5)[0]) in of_a for each in drawn)
        # A binomial of mean 1000 and standard deviation 22.
        assert 890 < count < 1110


def test_images_of_a_domain_keep_their_weights_relative_to_one_another() -> None:
    names = ["a/0", "a/1", "b/0", "b/1", "c/0"]
    drawn = flat_bank(range(5), names)
    bank = HistogramBank(drawn.entries, names, weights=np.array([3.0, 1.0, 0.2, 0.2, 0.0]))
    assert_drawn_in_proportion(bank.weighted("domain"), [0.75, 0.25, 0.5, 0.5, 0.0])


def test_images_are_drawn_in_proportion_to_their_distance() -> None:
    source = Histogram.of(np.full((4, 4), 10, dtype=np.uint8))
    bank = flat_bank([10, 11, 13, 30, 8]).weighted("distance", source)
    assert_drawn_in_proportion(bank, [0, 1, 3, 20, 2])
    alike = flat_bank([10, 10]).weighted("distance", source)
    assert alike.weights.tolist() == [1.0, 1.0]


def test_images_of_another_type_keep_the_mean_chance() -> None:
    source = Histogram.of(np.full((4, 4), 10, dtype=np.uint8))
    bank = flat_bank([11, 13]).merge(flat_bank([7], dtype=np.uint16))
    weights = bank.weighted("distance", source).weights
    np.testing.assert_allclose(weights / weights.sum(), np.array([0.5, 1.5, 1.0]) / 3)


def test_wrong_ways_to_sample_are_one_line() -> None:
    bank = HistogramBank.from_images(imagery()[:1])
    for told, by, reference in (
        (f"choose {', '.join(SAMPLING)}", "luck", None),
        ("needs the histogram of the source", "distance", None),
        ("cannot be compared with imagery of 3 x uint16", "distance", Histogram.of(imagery()[1])),
        (
            "cannot be compared with imagery of 4 x uint8",
            "distance",
            Histogram.of(imagery(bands=4)[0]),
        ),
    ):
        with pytest.raises(BankError, match=told):
            bank.weighted(by, reference)


@pytest.mark.parametrize(
    "weights",
    [
        [1.0],
        [[1.0, 1.0, 1.0]],
        [1.0, 1.0, np.nan],
        [1.0, np.inf, 1.0],
        [1.0, -0.1, 1.0],
        [0.0, 0.0, 0.0],
        [1.0, 0.0, 1.0],
    ],
)
def test_weights_that_are_no_chances_are_refused(weights: list[float]) -> None:
    # In the last case the one image of 16 bit can never be drawn.
    with pytest.raises(BankError, match="weight"):
        HistogramBank(HistogramBank.from_images(imagery()).entries, weights=np.array(weights))


def test_a_draw_can_be_of_one_type() -> None:
    bank = flat_bank([1, 2]).merge(flat_bank([3, 4], dtype=np.uint16))
    rng = np.random.default_rng(0)
    for dtype, values in ((np.uint8, {1, 2}), (np.uint16, {3, 4})):
        drawn = [bank.sample(dtype=np.dtype(dtype), rng=rng) for _ in range(50)]
        assert {int(each.quantile(0.5)[0]) for each in drawn} == values
        assert {each.dtype for each in drawn} == {np.dtype(dtype)}
    with pytest.raises(BankError, match="the bank holds uint8 images and no target for uint16"):
        flat_bank([1]).sample(dtype=np.dtype(np.uint16), rng=rng)


def test_the_same_seed_draws_the_same() -> None:
    bank = HistogramBank.from_images(imagery()).weighted("domain")
    first, second = np.random.default_rng(7), np.random.default_rng(7)
    for _ in range(20):
        one, other = bank.sample(rng=first), bank.sample(rng=second)
        np.testing.assert_array_equal(one.counts, other.counts)
