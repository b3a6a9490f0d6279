"""Linear probes; oracle: ridge regression of one-hot labels, written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.analysis.probes import LinearProbe, ProbeScore, clear_lead, linear_probe
from rhm.errors import AnalysisError
from tests.analysis.samples import blobs, moments_of


@given(st.integers(0, 1 << 20), st.sampled_from([1e-4, 1e-1, 10.0]))
def test_a_probe_is_ridge_regression_of_one_hot_labels(seed: int, ridge: float) -> None:
    rows, labels = blobs(3, 5, 20, seed=seed)
    even = np.concatenate([np.flatnonzero(labels == k)[:20] for k in range(3)])
    rows, labels = rows[even], labels[even]
    probe = linear_probe(moments_of(rows, labels), ridge=ridge)
    centred, wanted = rows - rows.mean(0), np.eye(3)[labels]
    penalty = ridge * centred.var(axis=0).mean() * len(rows)
    weight = np.linalg.solve(
        centred.T @ centred + penalty * np.eye(5), centred.T @ (wanted - wanted.mean(0))
    ).T
    np.testing.assert_allclose(probe.weight, weight, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(probe.bias, wanted.mean(0) - weight @ rows.mean(0), atol=1e-9)


def test_a_probe_tells_classes_apart_whatever_their_sizes() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [5000, 50])
    rows = rng.normal(size=(5050, 4)) + 2.0 * labels[:, None]
    probe = linear_probe(moments_of(rows, labels))
    assert probe.balanced_accuracy(rows, labels) > 0.95
    assert (probe.predict(rows[labels == 1]) == 1).mean() > 0.9
    assert np.isnan(probe.balanced_accuracy(rows[:0], labels[:0]))
    assert probe.balanced_accuracy(rows[labels == 0], labels[labels == 0]) > 0.9


def test_a_probe_needs_covariance_and_a_penalty() -> None:
    rows, labels = blobs(2)
    with pytest.raises(ValueError, match="covariance"):
        linear_probe(moments_of(rows, labels, covariance=False))
    with pytest.raises(ValueError, match="ridge must be above 0"):
        linear_probe(moments_of(rows, labels), ridge=0.0)


def test_a_probe_finds_no_features_to_read() -> None:
    with pytest.raises(AnalysisError, match="features do not vary"):
        linear_probe(moments_of(np.full((6, 3), 0.1), np.array([0, 1] * 3)))


def test_the_standard_error_is_the_spread_of_repeated_samples() -> None:
    rng = np.random.default_rng(0)
    probe = LinearProbe(np.array([[-1.0], [1.0]]), np.zeros(2))
    found = []
    for _ in range(400):
        labels = np.repeat([0, 1], [60, 20])
        rows = (2.0 * labels - 1.0 + 1.5 * rng.normal(size=80))[:, None]
        score = probe.score(rows, labels, np.arange(80))
        assert score.accuracy == probe.balanced_accuracy(rows, labels)
        assert score.deviations.sum() == pytest.approx(0.0, abs=1e-12)
        found.append((score.accuracy, score.error))
    accuracies, errors = np.array(found).T
    assert errors.mean() == pytest.approx(accuracies.std(), rel=0.1)


SIGN = LinearProbe(np.array([[-1.0], [1.0]]), np.zeros(2))


def images(
    rng: np.random.Generator, spread: float, stages: int, built: int = 20
) -> list[ProbeScore]:
    """Return scores of equally good stages on 50 cells of each class of each of 20 images.

    Only some images have cells of the second class.
    """
    labels, groups = np.tile([0, 1], 1000), np.repeat(np.arange(20), 100)
    kept = (labels == 0) | (groups < built)
    labels, groups = labels[kept], groups[kept]
    found = []
    for _ in range(stages):
        share = np.clip(0.8 + spread * rng.normal(size=20), 0.0, 1.0)[groups]
        right = rng.random(len(labels)) < share
        rows = (2.0 * labels - 1.0) * np.where(right, 1.0, -1.0)
        found.append(SIGN.score(rows[:, None], labels, groups))
    return found


@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_the_standard_error_is_that_of_images_whose_cells_are_alike(spread: float) -> None:
    rng = np.random.default_rng(1)
    scores = [images(rng, spread, 1)[0] for _ in range(300)]
    accuracies = np.array([score.accuracy for score in scores])
    assert np.mean([s.error for s in scores]) == pytest.approx(accuracies.std(), rel=0.1)


@pytest.mark.parametrize("built", [1, 2, 3, 6, 20])
def test_the_best_of_equally_good_probes_is_seldom_clearly_better(built: int) -> None:
    rng, clear = np.random.default_rng(2), 0
    for _ in range(200):
        *others, last = images(rng, 0.1, 6, built)
        best = max(others, key=lambda score: score.accuracy)
        clear += best.accuracy - last.accuracy > clear_lead([(best, last)], len(others))
    assert clear <= 12  # 5 are to be expected


def test_a_probe_that_is_always_better_is_clearly_better() -> None:
    better, worse = (
        ProbeScore(accuracy, deviations, 2.0)
        for accuracy, deviations in ((0.9, np.array([0.01, -0.01])), (0.8, np.array([0.01, -0.01])))
    )
    assert clear_lead([(better, worse)] * 3, 5) == 0.0


def test_a_single_image_does_not_tell_which_probe_is_better() -> None:
    one = SIGN.score(np.ones((4, 1)), np.ones(4, int), np.zeros(4, int))
    assert one.accuracy == 1.0
    assert np.isnan(one.error)
    assert np.isnan(clear_lead([(one, one)], 3))
