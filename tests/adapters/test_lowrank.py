"""Low-rank updates as parametrisations; oracles: low-rank branches, PEFT, products written out."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rhm.adapters import (
    DeepLoRA,
    LoRA,
    attach,
)
from rhm.adapters.attach import updates
from rhm.adapters.lowrank import DeepLoRAUpdate, LoRAUpdate
from tests.adapters.layers import LAYERS, stirred


def test_lora_is_the_low_rank_branch() -> None:
    torch.manual_seed(0)
    model, rows = nn.Sequential(nn.Linear(12, 20)), torch.randn(5, 12)
    plain = model(rows)
    attach(model, LoRA(4, alpha=8.0))
    stirred(model)
    ((_, update),) = updates(model)
    assert isinstance(update, LoRAUpdate)
    branch = 2.0 * (rows @ update.a.T) @ update.b.T
    torch.testing.assert_close(model(rows), plain + branch)


@pytest.mark.parametrize("kind", ["linear", "conv2d", "conv2d, pointwise"])
def test_lora_equals_peft(kind: str) -> None:
    peft: Any = pytest.importorskip("peft", reason="peft is not installed")
    make, shape = LAYERS[kind]
    torch.manual_seed(0)
    model, inputs = nn.Sequential(make()), torch.randn(shape)
    settings = peft.LoraConfig(r=4, lora_alpha=12, target_modules=["0"])
    theirs = peft.get_peft_model(copy.deepcopy(model), settings)
    attach(model, LoRA(4, alpha=12.0))
    stirred(model)
    ((_, update),) = updates(model)
    assert isinstance(update, LoRAUpdate)
    layer = theirs.base_model.model[0]
    with torch.no_grad():
        for given, ours in ((layer.lora_A, update.a), (layer.lora_B, update.b)):
            weight = given["default"].weight
            weight.copy_(ours.reshape(weight.shape))
    torch.testing.assert_close(model(inputs), theirs(inputs), rtol=1e-5, atol=1e-5)


def test_half_precision_does_not_lose_the_start() -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False))
    attach(model, DeepLoRA(4, init_scale=1e-3))
    ((_, update),) = updates(model)
    plain = update(torch.zeros(8, 8))
    with torch.autocast("cpu", dtype=torch.float16):
        formed = update(torch.zeros(8, 8))
    assert formed.dtype == torch.float32
    assert bool(formed.any())
    assert torch.equal(formed, plain)


SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


@given(SIZES, st.integers(1, 12))
def test_a_matrix_takes_no_more_rank_than_it_has(size: tuple[int, int], rank: int) -> None:
    assert LoRA(rank).fit(*size) == min(rank, *size)
    even = DeepLoRA(2 * rank).fit(*size)
    assert even % 2 == 0
    assert even == 2 * (min(2 * rank, *size) // 2)


def deep(rows: int, columns: int, adapter: DeepLoRA, *, seed: int = 0) -> DeepLoRAUpdate:
    """A deep update whose factors are all random."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(n, adapter.rank, generator=generator) for n in (rows, columns))
    update = DeepLoRAUpdate(left, right, adapter)
    with torch.no_grad():
        update.inner.copy_(torch.randn(update.inner.shape, generator=generator))
    return update


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_deep_update_is_the_product_of_its_factors(depth: int) -> None:
    update = deep(9, 7, DeepLoRA(4, depth=depth))
    expected = torch.linalg.multi_dot([update.left, *update.inner.flip(0), update.right.T])
    torch.testing.assert_close(update.update(), expected)
    weight = torch.randn(9, 7)
    torch.testing.assert_close(update(weight), weight + expected)
    assert (update.rank, torch.linalg.matrix_rank(expected)) == (4, 4)


def test_a_weight_of_any_shape_is_a_matrix_of_its_outputs() -> None:
    update, kernel = deep(6, 12, DeepLoRA(2)), torch.randn(6, 3, 2, 2)
    torch.testing.assert_close(update(kernel), kernel + update.update().reshape(6, 3, 2, 2))


def test_outer_factors_are_trained_unless_their_rate_is_zero() -> None:
    for ratio in (0.0, 0.01):
        update = deep(5, 5, DeepLoRA(2, outer_lr_ratio=ratio))
        assert [each.requires_grad for each in update.outer()] == [ratio > 0.0] * 2
        assert update.inner.requires_grad
    assert LoRAUpdate(5, 5, 2, 1.0).outer() == []


def test_a_plain_update_begins_at_nothing_with_a_as_peft_draws_it() -> None:
    torch.manual_seed(0)
    update = LoRAUpdate(50, 400, 8, 2.0)
    assert not update.update().any()
    # Uniform between plus and minus one over the root of the inputs.
    assert update.a.abs().max() <= 400**-0.5
    assert update.a.std().item() == pytest.approx((3 * 400) ** -0.5, rel=0.05)


def test_how_factors_lie_in_memory_does_not_change_the_update() -> None:
    """An adapter's file lays factors out row by row, whatever training began with."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(4, n, generator=generator).T for n in (37, 53))
    columns, rows = (
        DeepLoRAUpdate(*factors, DeepLoRA(4))
        for factors in ((left, right), (left.contiguous(), right.contiguous()))
    )
    for ours, theirs in zip(columns.parameters(), rows.parameters(), strict=True):
        assert ours.stride() == theirs.stride()
    weight = torch.randn(37, 53, generator=generator)
    assert torch.equal(columns(weight), rows(weight))
