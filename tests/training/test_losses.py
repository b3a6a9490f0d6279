"""Losses: their oracles are PyTorch and smp on the pixels that count."""

import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional

from rhm.data.labels import IGNORE
from rhm.training.losses import (
    LOSSES,
    LossConfig,
    MaskedCrossEntropy,
    MaskedFocalLoss,
    near_outline,
)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 16, 16, generator=generator)
    target = torch.randint(0, 2, (2, 1, 16, 16), generator=generator)
    target[0, :, :5] = IGNORE
    return logits, target


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_have_no_say_and_no_gradient(
    name: str, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    logits, target = batch
    loss = LOSSES[name](LossConfig(name=name))
    changed = logits.clone()
    changed[target == IGNORE] = 50.0
    torch.testing.assert_close(loss(logits, target), loss(changed, target))
    changed.requires_grad_(True)
    loss(changed, target).backward()
    assert changed.grad is not None
    assert (changed.grad[target == IGNORE] == 0).all()
    assert (changed.grad[target != IGNORE] != 0).any()


@pytest.mark.parametrize("name", LOSSES)
def test_perfect_is_better_than_wrong(name: str, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    _, target = batch
    loss = LOSSES[name](LossConfig(name=name))
    perfect = torch.where(target == 1, 12.0, -12.0)
    assert loss(perfect, target) < 0.01
    assert loss(-perfect, target) > 0.5


def test_cross_entropy_is_pytorchs_over_known_pixels(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    logits, target = batch
    known = target != IGNORE
    expected = functional.binary_cross_entropy_with_logits(logits[known], target[known].float())
    torch.testing.assert_close(MaskedCrossEntropy()(logits, target), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_the_focal_loss_is_that_of_smp(
    batch: tuple[torch.Tensor, torch.Tensor], gamma: float
) -> None:
    theirs = smp.losses.FocalLoss("binary", gamma=gamma, ignore_index=IGNORE)
    torch.testing.assert_close(MaskedFocalLoss(gamma)(*batch), theirs(*batch))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_certain_pixels_have_finite_focal_gradients(gamma: float) -> None:
    certain = torch.tensor([-200.0, -20.0, 20.0, 200.0], requires_grad=True)
    for truth in (0, 1):
        loss = MaskedFocalLoss(gamma)(certain, torch.full((4,), truth))
        (slope,) = torch.autograd.grad(loss, certain)
        assert torch.isfinite(slope).all()
        # Those that are wrong are pulled to the truth.
        wrong = slope[:2] if truth else slope[2:]
        assert ((wrong < 0) if truth else (wrong > 0)).all()


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_known_is_zero_and_differentiable(name: str) -> None:
    logits = torch.randn(1, 1, 8, 8, requires_grad=True)
    loss = LOSSES[name](LossConfig(name=name))(logits, torch.full((1, 1, 8, 8), IGNORE))
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_the_boundary_band_reaches_as_far_as_it_says() -> None:
    truth = torch.zeros(1, 1, 20, 20)
    truth[..., 6:14, 6:14] = 1.0
    band = near_outline(truth, 2, torch.ones_like(truth))[0, 0]
    expected = torch.zeros(20, 20)
    expected[4:16, 4:16] = 1.0
    expected[8:12, 8:12] = 0.0
    torch.testing.assert_close(band, expected)


def test_boundary_weight_makes_outlines_count_more() -> None:
    target = torch.zeros(1, 1, 20, 20, dtype=torch.int64)
    target[..., 6:14, 6:14] = 1
    at_outline, inside = torch.zeros(1, 1, 20, 20), torch.zeros(1, 1, 20, 20)
    at_outline[..., 5, 6:14] = 5.0
    inside[..., 0, 6:14] = 5.0
    plain, weighted = MaskedCrossEntropy(), MaskedCrossEntropy(4.0, 1)
    torch.testing.assert_close(plain(at_outline, target), plain(inside, target))
    assert weighted(at_outline, target) > 1.2 * weighted(inside, target)


@pytest.mark.parametrize("name", LOSSES)
def test_calling_everything_building_costs_something_where_there_is_none(name: str) -> None:
    logits = torch.full((1, 1, 8, 8), 3.0, requires_grad=True)
    target = torch.zeros(1, 1, 8, 8, dtype=torch.int64)
    target[..., :2] = IGNORE
    loss = LOSSES[name](LossConfig(name=name))(logits, target)
    loss.backward()
    assert loss > 0.5
    assert logits.grad is not None
    assert (logits.grad[..., 2:] > 0).all()
    assert not logits.grad[..., :2].any()


def test_there_is_no_outline_where_nothing_is_known() -> None:
    truth, known = torch.zeros(1, 1, 20, 20), torch.ones(1, 1, 20, 20)
    truth[..., 6:14, :10] = 1.0
    known[..., 10:] = 0.0
    band = near_outline(truth, 1, known)[0, 0]
    assert band[6, 2:10].all()
    assert not band[8:12, 5:10].any()
