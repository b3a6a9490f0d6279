"""The adversarial method; oracles: the two losses of AdaptSegNet written out, and its Adam."""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rhm.data.labels import IGNORE
from rhm.models.build import SegmentationModel
from rhm.training.unlabelled.adversarial import AdversarialOutputs, discriminator
from tests.training.unlabelled.batches import batch_of, small_model


def method_of(seed: int = 0) -> AdversarialOutputs:
    torch.manual_seed(seed)
    return AdversarialOutputs(1, width=4, learning_rate=1e-2).train()


def outputs(model: SegmentationModel, seed: int) -> tuple[Tensor, Tensor]:
    """Probability maps of both domains, each from a pass of its own in training."""
    batch = batch_of(seed)
    images = batch["image"], batch["target"]["image"]
    # In the same layout: Adam follows even gradients that are no more than rounding.
    layout = {"memory_format": torch.channels_last}
    ours, theirs = (copy.deepcopy(model)(each.contiguous(**layout)).sigmoid() for each in images)
    return ours.detach(), theirs.detach()


def told(logits: Tensor, truth: float) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, truth))


def test_the_discriminator_has_the_layers_of_the_paper() -> None:
    network = discriminator(19, 64)
    layers = [each for each in network if isinstance(each, torch.nn.Conv2d)]
    assert [each.out_channels for each in layers] == [64, 128, 256, 512, 1]
    assert {(each.kernel_size, each.stride, each.padding) for each in layers} == {
        ((4, 4), (2, 2), (1, 1))
    }
    assert network(torch.zeros(2, 19, 96, 64)).shape == (2, 1, 3, 2)


def test_the_network_is_to_be_taken_for_source_and_the_discriminator_is_left_alone() -> None:
    model, method = small_model(), method_of()
    _, theirs = outputs(model, 1)
    step = method.step(model, batch_of(1))
    expected = told(method.discriminator(theirs), 1.0)
    assert step.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.autograd.backward(step.loss)
    assert all(each.grad is None for each in method.discriminator.parameters())
    assert any(each.grad is not None for each in model.parameters())
    assert all(each.requires_grad for each in method.discriminator.parameters())


def test_the_discriminator_learns_by_adam_to_tell_the_detached_outputs() -> None:
    model, method = small_model(), method_of()
    twin = copy.deepcopy(method.discriminator)
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-2, betas=(0.9, 0.99))
    for seed in (1, 2, 3):
        ours, theirs = outputs(model, seed)
        optimizer.zero_grad()
        torch.autograd.backward(0.5 * (told(twin(ours), 1.0) + told(twin(theirs), 0.0)))
        optimizer.step()
        method.step(model, batch_of(seed))
        method.after_batch(model, stepped=True)
    for mine, other in zip(method.discriminator.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-3)  # of 1e-2 a step


def test_accumulated_batches_make_one_step_of_their_mean() -> None:
    model, method = small_model(), method_of()
    twin = copy.deepcopy(method.discriminator)
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-2, betas=(0.9, 0.99))
    for seed, stepped in ((1, False), (2, True)):
        ours, theirs = outputs(model, seed)
        torch.autograd.backward(0.25 * (told(twin(ours), 1.0) + told(twin(theirs), 0.0)))
        method.step(model, batch_of(seed))
        method.after_batch(model, stepped=stepped)
    optimizer.step()
    for mine, other in zip(method.discriminator.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-3)  # of 1e-2 a step


def test_nodata_of_the_target_is_no_evidence() -> None:
    model, method = small_model(), method_of()
    batch = batch_of(4)
    batch["target"]["valid"][:] = False
    step = method.step(model, batch)
    nothing = method.discriminator(torch.zeros(4, 1, 64, 64))
    assert step.loss.item() == pytest.approx(told(nothing, 1.0).item(), rel=1e-5)


def test_the_state_of_the_optimiser_is_part_of_the_state() -> None:
    model, method, other = small_model(), method_of(), method_of(seed=9)
    for each in (method, method, other):
        each.step(model, batch_of(1))
        each.after_batch(model, stepped=True)
    other.load_state_dict(method.state_dict())
    for each in (method, other):
        each.step(model, batch_of(2))
        each.after_batch(model, stepped=True)
    for mine, theirs in zip(
        method.discriminator.parameters(), other.discriminator.parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_the_shape_of_nodata_does_not_give_the_domain_away() -> None:
    """Law: what one chip of a pair lacks is hidden in both; the same chip gives the same maps."""
    model, method = small_model().eval(), method_of()
    batch = batch_of(0)
    batch["target"]["image"] = batch["image"].clone()
    batch["mask"][..., :24] = IGNORE
    batch["target"]["valid"][..., :24] = False
    batch["target"]["valid"][..., 40:] = False
    method.step(model, batch)
    ((ours, theirs),) = method._maps
    torch.testing.assert_close(ours, theirs)
    assert (ours[..., 24:40] > 0).all()
    assert not ours[..., :24].any()
    assert not ours[..., 40:].any()
