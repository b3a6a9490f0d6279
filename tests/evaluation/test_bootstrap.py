"""The cluster bootstrap: covers the truth, draws groups, agrees with SciPy's."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap, t

from rhm.evaluation.bootstrap import bootstrap_interval, expanded_tail
from rhm.evaluation.scores import Interval
from rhm.training.metrics import (
    BoundaryCounts,
    CalibrationBins,
    ConfusionCounts,
    ObjectScores,
    boundary_score,
    calibration_error,
    f1_score,
    jaccard_score,
)


def known(interval: Interval) -> tuple[float, float, float]:
    """The lower end, the value and the upper end of an interval that has all three."""
    assert interval.low is not None
    assert interval.value is not None
    assert interval.high is not None
    return interval.low, interval.value, interval.high


@pytest.mark.parametrize("count", [5, 10, 40])
def test_bootstrap_interval_covers_the_truth_as_often_as_it_says(count: int) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        rates = np.clip(rng.normal(0.7, 0.1, count), 0, 1)  # each group has a rate of its own
        hits = rng.binomial(100, rates)
        counts = [ObjectScores(int(hit), 0, 100 - int(hit)) for hit in hits]
        groups = [f"tile {index}" for index in range(count)]
        interval = bootstrap_interval(counts, groups, lambda c: c[..., 0] / 100 / count, seed=trial)
        low, _, high = known(interval)
        covered += low <= 0.7 <= high
    assert 0.91 <= covered / 300 <= 0.99


@pytest.mark.parametrize("count", [8, 30])
def test_the_interval_of_a_mean_is_that_of_student(count: int) -> None:
    values = np.random.default_rng(1).integers(0, 1000, count)
    counts = [ObjectScores(int(value), 0, 1000) for value in values]
    names = [str(index) for index in range(count)]
    interval = bootstrap_interval(counts, names, lambda c: c[..., 0] / count, seed=0)
    low, mean, high = known(interval)
    half = t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count)

    assert mean == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(half, rel=0.06)


def test_bootstrap_draws_groups_not_images() -> None:
    # Within a group all images agree, so splitting them into more images changes nothing.
    few = [ConfusionCounts(10, 5, 5, 0), ConfusionCounts(30, 1, 2, 0), ConfusionCounts(5, 9, 9, 0)]
    many = [count for count in few for _ in range(4)]
    apart = bootstrap_interval(few, ["a", "b", "c"], jaccard_score, seed=1)
    split = bootstrap_interval(many, list("aaaabbbbcccc"), jaccard_score, seed=1)
    assert (split.value, split.low, split.high) == (apart.value, apart.low, apart.high)
    assert apart.value == (few[0] + few[1] + few[2]).iou
    low, value, high = known(apart)
    assert low < value < high
    assert apart == bootstrap_interval(few, ["a", "b", "c"], jaccard_score, seed=1)
    counts = [ConfusionCounts(tp, 50 - tp, 10, 0) for tp in range(0, 50, 3)]
    names = [str(tp) for tp in range(0, 50, 3)]
    first, second = (
        bootstrap_interval(counts, names, jaccard_score, resamples=300, seed=seed)
        for seed in (1, 2)
    )
    assert first.value == second.value
    assert first != second


def test_bootstrap_without_two_groups_or_a_defined_score_has_no_ends() -> None:
    alone = bootstrap_interval([ObjectScores(3, 1, 1)], ["a"], f1_score, seed=0)
    assert alone == Interval(0.75, None, None)
    empty = bootstrap_interval([BoundaryCounts(), BoundaryCounts()], "ab", boundary_score, seed=0)
    assert empty == Interval(None, None, None)
    with pytest.raises(ValueError, match="got 1 names for 2 images"):
        bootstrap_interval([ObjectScores(), ObjectScores()], ["a"], f1_score, seed=0)


def test_bootstrap_takes_calibration_bins_too() -> None:
    rng = np.random.default_rng(3)
    maps = [rng.random((8, 8)) for _ in range(6)]
    counts = [CalibrationBins.of(each, each > 0.5) for each in maps]
    interval = bootstrap_interval(counts, list("abcdef"), calibration_error, seed=0)
    low, value, high = known(interval)
    assert low <= value <= high
    assert value == pytest.approx(sum(counts[1:], counts[0]).expected_calibration_error)


def test_bootstrap_agrees_with_scipy() -> None:
    rng = np.random.default_rng(7)
    images = [ConfusionCounts(*rng.integers(1, 400, 4).tolist()) for _ in range(60)]
    groups = [f"place {index % 15}" for index in range(60)]
    ours = bootstrap_interval(images, groups, jaccard_score, resamples=20_000, seed=0)
    by_group = np.array(
        [sum(image.vector for image in images[place::15]) for place in range(15)], dtype=float
    )

    def pooled_iou(drawn: NDArray[np.intp], axis: int = -1) -> NDArray[np.float64]:
        hits, extra, missed = by_group[drawn][..., :3].sum(axis=axis - 1).T
        return np.asarray((hits / (hits + extra + missed)).T)

    theirs = bootstrap(
        (np.arange(15),),
        pooled_iou,
        n_resamples=20_000,
        confidence_level=1 - 2 * expanded_tail(15),
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)
