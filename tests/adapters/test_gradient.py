"""Factors determined by a gradient; oracles: the full decomposition, the wide update."""

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from rhm.adapters import (
    DeepLoRA,
)
from rhm.adapters.gradient import (
    gradient_factors,
    random_factors,
    signed_permutation,
    weight_gradients,
)
from rhm.adapters.lowrank import DeepLoRAUpdate
from rhm.adapters.subspace import principal_angles
from rhm.errors import ConfigError
from tests.adapters.layers import square_loss


def test_factors_span_what_the_gradient_asks_for() -> None:
    torch.manual_seed(0)
    for rows, columns in ((30, 30), (20, 50), (50, 20)):
        low = torch.randn(rows, 3, dtype=torch.float64) @ torch.randn(3, columns).double()
        left, right = gradient_factors(low, 6, seed=1)
        for factor, size in ((left, rows), (right, columns)):
            assert factor.shape == (size, 6)
            torch.testing.assert_close(factor.T @ factor, torch.eye(6, dtype=torch.float64))
        u, _, vt = torch.linalg.svd(low)
        for found, wanted in ((left, u[:, :3]), (right, vt[:3].T)):
            assert torch.linalg.norm(wanted - found @ (found.T @ wanted)) < 1e-9
        again = gradient_factors(low, 6, seed=1)
        assert torch.equal(again[0], left)
        other = gradient_factors(low, 6, seed=2)
        assert principal_angles(other[0], left).max() > 0.1


def test_square_factors_are_one_another_through_the_permutation() -> None:
    gradient = torch.randn(20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    left, right = gradient_factors(gradient, 6, seed=4)
    order, signs = signed_permutation(20, 20, like=gradient, seed=4)
    torch.testing.assert_close(left, signs * right[order])


def test_factors_move_as_the_wide_update_would() -> None:
    """One step of the wide deep update stays within the factors' spaces: U = P V."""
    torch.manual_seed(0)
    gradient = torch.randn(16, 2, dtype=torch.float64) @ torch.randn(2, 24).double()
    left, right = gradient_factors(gradient, 4, seed=3)
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(24, generator=generator)[:16]
    signs = torch.randint(0, 2, (16, 1), generator=generator).double() * 2 - 1
    carry = torch.zeros(16, 24, dtype=torch.float64)
    carry[torch.arange(16), order] = signs[:, 0]
    torch.testing.assert_close(carry @ carry.T, torch.eye(16, dtype=torch.float64))
    carried = carry @ right
    assert torch.linalg.norm(carried - left @ (left.T @ carried)) < 1e-9


def test_gradients_leave_no_trace() -> None:
    torch.manual_seed(0)
    model = smp.Unet("tu-tf_efficientnet_lite0", encoder_weights=None).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weight = model.get_parameter("segmentation_head.0.weight")
    (found,) = weight_gradients(model, {"head": weight}, [square_loss, square_loss]).values()
    model.eval()
    torch.autograd.backward(square_loss(model))
    torch.testing.assert_close(found, weight.grad)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    frozen = nn.Linear(3, 3)
    weight = frozen.get_parameter("weight")
    weight.requires_grad_(False)
    with pytest.raises(ConfigError, match="gradient of w is not finite"):
        weight_gradients(frozen, {"w": weight}, [lambda m: m(torch.full((1, 3), torch.inf)).sum()])
    assert not weight.requires_grad


def test_without_a_gradient_factors_are_random_and_orthonormal() -> None:
    like = torch.zeros(1, dtype=torch.float32)
    left, right = random_factors(7, 5, 4, like=like, seed=1)
    for factor in (left, right):
        torch.testing.assert_close(factor.T @ factor, torch.eye(4))
    zero = gradient_factors(torch.zeros(7, 5), 4, seed=1)
    assert torch.equal(zero[0], left)
    update = DeepLoRAUpdate(left, right, DeepLoRA(4, init_scale=0.1))
    torch.testing.assert_close(update.update(), 1e-3 * left @ right.T)
