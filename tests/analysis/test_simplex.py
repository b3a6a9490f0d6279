"""The simplex equiangular tight frame; law: unit vectors at equal angles that add up to zero."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.analysis.simplex import simplex_etf
from rhm.errors import ConfigError


@given(st.integers(2, 40))
def test_it_is_the_gram_matrix_of_unit_vectors_that_add_up_to_zero(classes: int) -> None:
    gram = simplex_etf(classes)
    values = np.linalg.eigvalsh(gram)
    # Rank K - 1, all directions alike: a tight frame of the space that the vectors span.
    assert values[0] == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(values[1:], classes / (classes - 1))
    np.testing.assert_allclose(np.diag(gram), 1.0)
    np.testing.assert_allclose(gram.sum(axis=0), 0.0, atol=1e-12)


@given(st.integers(2, 12), st.integers(0, 1 << 20))
def test_no_unit_vectors_are_further_apart(classes: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(classes, classes))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    others = ~np.eye(classes, dtype=bool)
    nearest = (vectors @ vectors.T)[others].max()
    assert simplex_etf(classes)[others].max() <= nearest + 1e-12


def test_one_class_makes_no_simplex() -> None:
    with pytest.raises(ConfigError, match="at least 2 classes, got 1"):
        simplex_etf(1)
