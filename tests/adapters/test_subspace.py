"""Leading subspaces: against the full decomposition, the authors' program, and laws of angles."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rhm.adapters.subspace import active_subspace, principal_angles, top_singular_pairs
from rhm.adapters.weights import first_gradient, orthogonal_weights
from rhm.errors import ConfigError


def noisy_low_rank(
    rows: int, columns: int, rank: int, *, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(rows, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, columns, generator=generator, dtype=torch.float64)
    noise = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return (left @ right + noise).to(dtype)


def orthogonal(rows: int, columns: int, scale: float, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return orthogonal_weights([columns, rows], scale, generator=generator, dtype=torch.float64)[0]


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.shared
def test_the_active_subspace_is_that_of_the_authors_program(shared_oracles: Path) -> None:
    oracle = np.load(shared_oracles / "parsimony.npz")
    weights = [torch.tensor(oracle[name]) for name in ("W1", "W2", "W3")]
    target, mask = torch.tensor(oracle["target"]), torch.tensor(oracle["mask"])
    product = weights[2] @ weights[1] @ weights[0]
    gradient = (weights[2] @ weights[1]).T @ (mask * (product - target)) / target.numel()
    found = active_subspace(weights[0], gradient, int(oracle["r"]))
    assert principal_angles(found, torch.tensor(oracle["V"])).max() < 1e-6
    single = active_subspace(weights[0].float(), gradient.float(), int(oracle["r"]))
    assert principal_angles(single.double(), torch.tensor(oracle["V"])).max() < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(600, 500), (300, 900)])
def test_randomised_pairs_are_those_of_the_full_decomposition(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    matrix = noisy_low_rank(*shape, 6, dtype=dtype)
    left, values, right = top_singular_pairs(matrix, 6)
    exact_left, exact_values, exact_right = top_singular_pairs(matrix, 6, exact=True)
    assert principal_angles(left, exact_left).max() < 1e-3
    assert principal_angles(right, exact_right).max() < 1e-3
    torch.testing.assert_close(values, exact_values, rtol=1e-4, atol=0.0)
    torch.testing.assert_close(
        matrix @ right, left * values, rtol=0.0, atol=0.02 * float(values[0])
    )
    torch.testing.assert_close(top_singular_pairs(matrix, 6)[2], right, rtol=0.0, atol=0.0)


def test_a_gradient_of_any_scale_has_the_same_subspace() -> None:
    gradient = noisy_low_rank(400, 400, 4, dtype=torch.float32)
    weight = orthogonal(400, 400, 1e-3).float()
    usual = active_subspace(weight, gradient, 4)
    tiny = active_subspace(weight, 1e-30 * gradient, 4)
    assert principal_angles(usual, tiny).max() < 1e-4


@given(
    outputs=st.integers(4, 12),
    inputs=st.integers(4, 12),
    rank=st.integers(1, 2),
    found=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_the_active_subspace_holds_what_the_gradient_shows(
    outputs: int, inputs: int, rank: int, found: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(2, 12, found, generator=generator, dtype=torch.float64)
    gradient = factors[0, :outputs] @ factors[1, :inputs].T
    weight = orthogonal(outputs, inputs, 0.1, seed=seed)
    basis = active_subspace(weight, gradient, rank)
    identity = torch.eye(2 * rank, dtype=torch.float64)
    torch.testing.assert_close(basis.T @ basis, identity, rtol=0.0, atol=1e-12)
    left, _, right = top_singular_pairs(gradient, rank)
    for held in (right, weight.T @ left / 0.1):
        torch.testing.assert_close(basis @ (basis.T @ held), held, rtol=0.0, atol=1e-9)


def test_a_gradient_whose_sides_agree_still_has_an_orthonormal_basis() -> None:
    weight = 0.1 * torch.eye(8, dtype=torch.float64)
    gradient = torch.diag(torch.tensor([3.0, 2.0, 0, 0, 0, 0, 0, 0], dtype=torch.float64))
    basis = active_subspace(weight, gradient, 2)
    identity = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(basis.T @ basis, identity, rtol=0.0, atol=1e-12)


def test_the_subspace_of_a_large_layer_is_that_of_the_full_decomposition() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = orthogonal_weights([768] * 3, 1e-3, generator=generator)
    known = torch.rand(768, 768, generator=generator) < 0.2
    residual = noisy_low_rank(768, 768, 8, dtype=torch.float32) * known
    gradient = first_gradient(weights, residual)
    found = active_subspace(weights[0], gradient, 8)
    exact = active_subspace(weights[0], gradient, 8, exact=True)
    assert not torch.equal(found, exact)
    assert principal_angles(found, exact).max() < 1e-3


@settings(max_examples=50)
@given(st.floats(1e-14, np.pi / 2.0))
def test_principal_angles_are_accurate_from_nearly_0_to_right(angle: float) -> None:
    start = torch.tensor([[1, 0], [0, 0], [0, 1]], dtype=torch.float64)
    turned = torch.tensor(
        [[np.cos(angle), 0.0], [np.sin(angle), 0.0], [0.0, 1.0]], dtype=torch.float64
    )
    found = principal_angles(start, turned)
    assert float(found[0]) == pytest.approx(angle, rel=1e-6)
    assert float(found[1]) == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize(
    ("gradient", "rank", "message"),
    [
        (torch.ones(8, 8), 5, "rank 5 changes 10 directions of a layer with 8 inputs"),
        (torch.ones(8, 8), 0, "rank 0 must be from 1 to 8"),
        (torch.ones(2, 8), 3, "rank 3 must be from 1 to 2"),
        (torch.full((8, 8), torch.nan), 2, "the gradient is not finite"),
        (torch.full((8, 8), torch.inf), 2, "the gradient is not finite"),
        (torch.zeros(8, 8), 2, "the gradient is zero"),
    ],
)
def test_what_has_no_active_subspace_is_refused(gradient: Tensor, rank: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        active_subspace(torch.eye(*gradient.shape), gradient, rank)
    assert "\n" not in str(error.value)


def test_a_large_gradient_that_is_not_finite_is_refused() -> None:
    gradient = torch.ones(400, 400)
    gradient[17, 3] = torch.nan
    with pytest.raises(ConfigError, match="not finite"):
        active_subspace(torch.eye(400), gradient, 2)


def test_a_weight_without_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match="initial weight is zero"):
        active_subspace(torch.zeros(8, 8), torch.ones(8, 8), 2)


def test_a_gradient_of_another_shape_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="does not belong to a weight"):
        active_subspace(torch.eye(8), torch.ones(8, 7), 2)
    with pytest.raises(ValueError, match="bases of shapes"):
        principal_angles(torch.eye(8, 2), torch.eye(8, 3))
