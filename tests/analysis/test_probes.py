"""Linear probes; oracle: ridge regression of one-hot labels, written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.analysis.probes import LinearProbe, linear_probe
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
        found.append(probe.score(rows, labels))
    accuracies, errors = np.array(found).T
    assert errors.mean() == pytest.approx(accuracies.std(), rel=0.1)
