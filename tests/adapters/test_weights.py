"""Weights of wide linear networks; oracles: automatic gradients, products written out."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rhm.adapters.weights import chain, compress_weights, first_gradient, orthogonal_weights
from rhm.errors import ConfigError
from tests.adapters.problems import low_rank, product

WIDTHS = st.lists(st.integers(1, 9), min_size=2, max_size=5)


@given(WIDTHS, st.floats(1e-3, 10.0), st.integers(0, 99))
def test_the_shorter_side_of_a_weight_is_orthonormal_up_to_the_scale(
    widths: list[int], scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = orthogonal_weights(widths, scale, generator=generator, dtype=torch.float64)
    for weight, (inputs, outputs) in zip(weights, pairwise(widths), strict=True):
        assert weight.shape == (outputs, inputs)
        short = weight if outputs <= inputs else weight.T
        expected = scale**2 * torch.eye(len(short), dtype=torch.float64)
        torch.testing.assert_close(short @ short.T, expected)


@given(WIDTHS, st.integers(0, 99))
def test_a_chain_applies_its_factors_one_after_another(widths: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    factors = [
        torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
        for inputs, outputs in pairwise(widths)
    ]
    vector = torch.randn(widths[0], generator=generator, dtype=torch.float64)
    expected = vector
    for factor in factors:
        expected = factor @ expected
    torch.testing.assert_close(chain(factors) @ vector, expected)


@given(WIDTHS, st.floats(0.1, 2.0), st.integers(0, 99))
def test_the_first_gradient_is_the_automatic_one_up_to_the_other_layers_scales(
    widths: list[int], scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = orthogonal_weights(widths, scale, generator=generator, dtype=torch.float64)
    leaf = weights[0].clone().requires_grad_()
    target = torch.randn(widths[-1], widths[0], generator=generator, dtype=torch.float64)
    residual = chain([leaf, *weights[1:]]) - target
    (gradient,) = torch.autograd.grad(0.5 * residual.square().sum(), [leaf])
    found = first_gradient(weights, residual.detach())
    torch.testing.assert_close(found * scale ** (len(weights) - 1), gradient)


@pytest.mark.parametrize("widths", [[20, 20, 20], [20, 20, 16], [24, 20, 16, 16]])
def test_the_small_network_begins_as_the_wide_one_on_its_subspace(widths: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = orthogonal_weights(widths, 0.3, generator=generator, dtype=torch.float64)
    gradient = first_gradient(weights, -low_rank(widths[-1], widths[0], 3))
    right, inner, left = compress_weights(weights, gradient, 3)
    eye = torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(right.T @ right, eye)
    torch.testing.assert_close(left.T @ left, eye)
    assert {factor.shape for factor in inner} == {(6, 6)}
    torch.testing.assert_close(product([*inner, left]), product(weights) @ right)


def test_layers_too_narrow_for_the_rank_are_refused() -> None:
    weights = orthogonal_weights([8, 4, 4], 1.0, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ConfigError, match="the narrowest has 4: choose a rank of at most 2"):
        compress_weights(weights, torch.ones(4, 8), 3)


@pytest.mark.parametrize(("widths", "scale"), [([4, 0], 1.0), ([4, 4], 0.0), ([4, 4], torch.nan)])
def test_an_impossible_start_is_refused(widths: list[int], scale: float) -> None:
    with pytest.raises(ConfigError):
        orthogonal_weights(widths, scale, generator=torch.Generator())
