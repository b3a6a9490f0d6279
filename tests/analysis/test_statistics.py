"""Fits, probes and domains; oracles: scikit-learn's formulas written out, and constructed data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.analysis.domains import domain_shift, variance_shares
from rhm.analysis.fits import fit_line
from rhm.analysis.moments import ClassMoments
from rhm.analysis.probes import linear_probe
from rhm.errors import AnalysisError
from tests.analysis.test_collapse import blobs, moments_of


def test_a_line_is_found_again() -> None:
    fit = fit_line(range(6), [3.0 - 2.0 * x for x in range(6)])
    assert fit.slope == pytest.approx(-2.0)
    assert fit.intercept == pytest.approx(3.0)
    assert fit.r_squared == pytest.approx(1.0)
    assert fit.low == pytest.approx(-2.0)
    flat = fit_line([1, 2, 3], [5.0, 5.0, 5.0])
    assert (flat.r_squared, flat.low, flat.high) == (1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
        fit_line([0, 1, 2], [0, 1, 2], confidence=95)
    assert np.isnan(fit_line([0, 1], [0.0, 1.0]).low)


def test_the_interval_holds_the_slope_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    x = np.arange(8.0)
    held = 0
    for _ in range(2000):
        fit = fit_line(x, 0.3 * x + rng.normal(size=8), confidence=0.9)
        held += fit.low <= 0.3 <= fit.high
    # Four standard deviations of 2000 draws.
    assert abs(held / 2000 - 0.9) < 4 * np.sqrt(0.09 / 2000)


def test_r_squared_is_the_share_explained() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=20), rng.normal(size=20)
    fit = fit_line(x, y)
    rest = y - fit.intercept - fit.slope * x
    assert fit.r_squared == pytest.approx(1 - (rest**2).sum() / ((y - y.mean()) ** 2).sum())


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1], [1]),
        ([1, 1], [1, 2]),
        ([1, 2], [1, 2, 3]),
        ([0, 1], [1, np.nan]),
        ([0, 1], [1, np.inf]),
    ],
)
def test_what_gives_no_line_is_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(AnalysisError, match="fitting a line needs"):
        fit_line(x, y)


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


def cells(
    means: np.ndarray, *, seed: int = 0, samples: int = 4000, spread: float = 1.0
) -> ClassMoments:
    """Moments of one domain, whose class means are exactly these (K, D)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(means)), samples)
    noise = rng.normal(size=(len(labels), means.shape[1]))
    for k in range(len(means)):
        noise[labels == k] -= noise[labels == k].mean(0)
    scale = spread / np.sqrt(np.mean(np.sum(noise**2, axis=1)))
    return moments_of(means[labels] + scale * noise, labels)


def test_a_shift_is_in_units_of_the_spread() -> None:
    here = np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
    there = here + np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
    found = domain_shift(cells(here, spread=2.0), cells(there, spread=2.0, seed=1))
    np.testing.assert_allclose(found.shift, [np.sqrt(2) / 2, 1.0])
    np.testing.assert_allclose(found.gap, [[0.0, 2.0], [2.0, 0.0]])
    np.testing.assert_allclose(found.advance, [[0.0, 0.25], [0.0, 0.0]], atol=1e-12)
    wider = domain_shift(cells(here, spread=2.0), cells(there, spread=4.0, seed=1))
    np.testing.assert_allclose(wider.shift, np.array([np.sqrt(2), 2.0]) / np.sqrt(10))
    nothing = domain_shift(cells(here), cells(here, seed=2))
    np.testing.assert_allclose(nothing.shift, 0.0, atol=1e-12)


def test_variance_goes_to_where_it_comes_from() -> None:
    classes = np.array([[1.0, 0.0], [-1.0, 0.0]])
    shift = np.array([0.0, 2.0])
    apart = variance_shares({"a": cells(classes + shift), "b": cells(classes - shift, seed=1)})
    assert apart.classes == pytest.approx(1 / 6)
    assert apart.domains == pytest.approx(4 / 6)
    assert apart.interaction == pytest.approx(0.0, abs=1e-12)
    assert apart.within == pytest.approx(1 / 6)
    turned = variance_shares({"a": cells(classes), "b": cells(-classes, seed=1)})
    assert turned.interaction == pytest.approx(0.5)
    assert turned.classes + turned.domains == pytest.approx(0.0, abs=1e-12)


@given(st.integers(0, 1 << 20), st.integers(2, 4), st.integers(2, 3))
def test_shares_add_up(seed: int, domains: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    moments = {
        str(domain): cells(rng.normal(size=(classes, 3)), seed=seed + domain, samples=10)
        for domain in range(domains)
    }
    shares = variance_shares(moments)
    parts = [shares.classes, shares.domains, shares.interaction, shares.within]
    assert min(parts) >= 0.0
    assert sum(parts) == pytest.approx(1.0)


def test_domains_that_do_not_compare_are_refused() -> None:
    two, three = cells(np.eye(2)), cells(np.eye(3))
    with pytest.raises(ValueError, match="cannot be compared"):
        domain_shift(two, three)
    with pytest.raises(AnalysisError, match="at least two domains"):
        variance_shares({"a": two})
    empty = ClassMoments(2, 2)
    with pytest.raises(AnalysisError, match="no samples of class 0, 1"):
        domain_shift(two, empty)
    frozen = moments_of(np.eye(2), np.arange(2))
    with pytest.raises(AnalysisError, match="do not vary within any class"):
        domain_shift(frozen, frozen)
    still = moments_of(np.ones((2, 2)), np.arange(2))
    with pytest.raises(AnalysisError, match="do not vary at all"):
        variance_shares({"a": still, "b": still})
