"""Domains; oracle: features constructed with class means that are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.analysis.domains import domain_shift, variance_shares
from rhm.analysis.moments import ClassMoments
from rhm.errors import AnalysisError
from tests.analysis.samples import moments_of


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
