"""Descent by hand; oracles: automatic gradients, and the residual written out."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rhm.adapters.descent import (
    DenseResidual,
    Residual,
    SparseResidual,
    descend,
    losses,
    residual_of,
)
from tests.adapters.problems import problem


@given(
    sizes=st.lists(st.integers(1, 6), min_size=3, max_size=6),
    known=st.floats(0.1, 1.0),
    sparse=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_step_goes_against_the_automatic_gradient(
    sizes: list[int], known: float, sparse: bool, seed: int
) -> None:
    target, mask = problem(sizes[-1], sizes[0], 1, known, seed=seed)
    mask[0, 0] = True
    generator = torch.Generator().manual_seed(seed)
    factors = [
        torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
        for inputs, outputs in pairwise(sizes)
    ]
    steps = [0.1 * (number + 1) for number in range(len(factors))]
    leaves = [factor.clone().requires_grad_() for factor in factors]
    product = leaves[0]
    for leaf in leaves[1:]:
        product = leaf @ product
    loss = 0.5 * (mask * (product - target)).square().sum()
    gradients = torch.autograd.grad(loss, leaves)
    expected = [
        factor - step * gradient
        for factor, step, gradient in zip(factors, steps, gradients, strict=True)
    ]
    residual: Residual = (SparseResidual if sparse else DenseResidual)(target, mask)
    half_squares = losses(factors, target, mask)[0] * target.numel()
    assert half_squares == pytest.approx(float(loss.detach()))
    descend(factors, residual, steps)
    torch.testing.assert_close(factors, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocks_and_known_entries_give_the_same_products(dtype: torch.dtype) -> None:
    target, mask = (each.to(dtype) for each in problem(700, 500, 3, 0.03))
    generator = torch.Generator().manual_seed(1)
    left = torch.randn(700, 6, generator=generator, dtype=dtype)
    right = torch.randn(6, 500, generator=generator, dtype=dtype)
    residual = mask * (left @ right - target)
    for form in (DenseResidual, SparseResidual):
        onto_rows, onto_columns = form(target, mask.bool()).products(left, right)
        torch.testing.assert_close(onto_rows, residual @ right.T, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(onto_columns, left.T @ residual, rtol=1e-4, atol=1e-3)


def test_the_residual_takes_the_faster_form() -> None:
    target, mask = problem(100, 100, 2, 0.01)
    if torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        assert isinstance(residual_of(target, mask), SparseResidual)
    assert isinstance(residual_of(target, ~mask), DenseResidual)


@given(known=st.floats(0.0, 1.0), seed=st.integers(0, 99))
def test_losses_are_half_the_mean_squares_of_known_and_unknown_entries(
    known: float, seed: int
) -> None:
    target, mask = problem(7, 9, 2, known, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    shapes = ((4, 9), (4, 4), (7, 4))
    factors = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    squares = (factors[2] @ factors[1] @ factors[0] - target).square()
    train, test = losses(factors, target, mask)
    assert train == pytest.approx(0.5 * float(squares[mask].sum()) / 63)
    assert test == pytest.approx(0.5 * float(squares[~mask].sum()) / 63)


def test_what_is_not_known_is_not_read() -> None:
    target, mask = problem(40, 30, 2, 0.3)
    unknown = torch.where(mask, target, torch.nan)
    left, right = (torch.randn(size, dtype=torch.float64) for size in ((40, 3), (3, 30)))
    for form in (DenseResidual, SparseResidual):
        found, expected = (form(each, mask).products(left, right) for each in (unknown, target))
        torch.testing.assert_close(found, expected)
    train, test = losses([right, left], unknown, mask)
    assert train == losses([right, left], target, mask)[0]
    assert np.isnan(test)


def test_a_factor_of_step_zero_stays() -> None:
    target, mask = problem(6, 6, 1, 0.5)
    factors = [torch.eye(6, dtype=torch.float64) for _ in range(3)]
    descend(factors, DenseResidual(target, mask), [0.1, 0.0, 0.1])
    assert torch.equal(factors[1], torch.eye(6, dtype=torch.float64))
    assert not torch.equal(factors[0], factors[1])
    assert not torch.equal(factors[2], factors[1])
