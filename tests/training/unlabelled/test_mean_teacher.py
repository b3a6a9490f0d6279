"""The mean teacher; oracles: the closed form of its average, and the mix written out."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rhm.data.chips import TargetSample
from rhm.data.labels import IGNORE
from rhm.training.module import freeze_batch_norm
from rhm.training.unlabelled.mean_teacher import MeanTeacher
from tests.training.unlabelled.batches import batch_of, small_model


class Kept(nn.Module):
    """A loss that remembers what it was given."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.logits, self.labels = logits, labels
        return logits.square().mean()


def teacher_of(model: Any, loss: nn.Module | None = None, **settings: Any) -> MeanTeacher:
    defaults: dict[str, Any] = {"decay": 0.9, "certainty": 0.0, "paste": "none", "margin_px": 0}
    return MeanTeacher(model, loss or Kept(), **(defaults | settings)).train()


def test_the_teacher_is_the_closed_form_of_the_average() -> None:
    model = small_model()
    method = teacher_of(model, decay=0.8)
    students = []
    for step in range(9):
        torch.manual_seed(step)
        with torch.no_grad():
            for tensor in model.state_dict().values():
                if tensor.is_floating_point():
                    tensor.add_(0.1 * torch.randn_like(tensor).abs())
        students.append({name: each.clone() for name, each in model.state_dict().items()})
        method.after_batch(model, stepped=True)
    # Step n keeps min(0.8, 1 - 1/n) of the teacher: up to the fifth, a plain mean.
    shares = torch.ones(9, dtype=torch.float64)
    for n in range(1, 10):
        keep = min(0.8, 1 - 1 / n)
        shares[: n - 1] *= keep
        shares[n - 1] = 1 - keep
    assert shares.sum() == pytest.approx(1.0)
    assert torch.allclose(shares[:5], shares[0].expand(5))
    for name, tensor in method.teacher.state_dict().items():
        if tensor.is_floating_point():
            mean = sum(s * each[name].double() for s, each in zip(shares, students, strict=True))
            torch.testing.assert_close(tensor.double(), mean, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(tensor, students[-1][name])


def test_without_an_optimiser_step_the_teacher_stays() -> None:
    model = small_model()
    method = teacher_of(model)
    before = {name: each.clone() for name, each in method.state_dict().items()}
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    method.after_batch(model, stepped=False)
    assert all(torch.equal(before[name], each) for name, each in method.state_dict().items())


def test_the_teacher_learns_neither_gradient_nor_statistics() -> None:
    model = small_model()
    method = teacher_of(model)
    assert not any(module.training for module in method.teacher.modules())
    buffers = [each.clone() for each in method.teacher.buffers()]
    step = method.step(model, batch_of())
    torch.autograd.backward(step.loss)
    assert all(each.grad is None for each in method.teacher.parameters())
    assert all(torch.equal(a, b) for a, b in zip(buffers, method.teacher.buffers(), strict=True))
    assert not any(module.training for module in method.teacher.modules())


@pytest.mark.parametrize("own", [False, True])
def test_the_teacher_predicts_by_running_statistics_or_those_of_its_batch(own: bool) -> None:
    method, twin = teacher_of(small_model()), small_model()
    images = batch_of()["target"]["image"]
    expected = twin.train(own)(images).sigmoid()
    torch.testing.assert_close(method.teach(images, own=own), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("setting", "frozen", "alone", "own"),
    [
        ("own", False, False, True),
        ("own", True, False, False),
        ("own", False, True, False),
        ("running", False, False, False),
    ],
)
def test_the_teacher_uses_the_statistics_of_its_batch_where_others_are_learned(
    setting: str, frozen: bool, alone: bool, own: bool
) -> None:
    model, loss = small_model(), Kept()
    if frozen:
        freeze_batch_norm(model)
    method = teacher_of(model, loss, teacher_statistics=setting)
    batch = batch_of(1)
    method.step(model, TargetSample(target=batch["target"]) if alone else batch)
    probability = method.teach(batch["target"]["image"], own=own)
    assert torch.equal(loss.labels, (probability >= method.cut.threshold).long())
    other = method.teach(batch["target"]["image"], own=not own)
    assert not torch.allclose(probability, other, atol=1e-3)


def test_the_student_sees_the_strong_view_and_learns_the_cut_labels() -> None:
    model, loss = small_model(), Kept()
    method = teacher_of(model, loss)
    batch = batch_of(1)
    batch["target"]["valid"][:, :, :7] = False
    seen = []
    handle = model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    method.step(model, batch)
    handle.remove()
    assert torch.equal(seen[0], batch["image"])
    assert torch.equal(seen[1], batch["target"]["strong"])
    probability = method.teach(batch["target"]["image"], own=True)
    expected = (probability >= method.cut.threshold).long()
    expected[:, :, :7] = IGNORE
    assert torch.equal(loss.labels, expected)


def test_beside_labelled_chips_the_student_predicts_as_a_finished_model() -> None:
    model, loss = small_model(), Kept()
    method = teacher_of(model, loss)
    batch = batch_of(1)
    batch["target"]["strong"] = batch["target"]["image"]
    method.step(model, batch)  # the batch of labelled chips moves the running statistics first
    assert loss.logits.requires_grad
    torch.testing.assert_close(loss.logits, model.eval()(batch["target"]["image"]))
    model.train()
    alone = TargetSample(target=batch["target"])
    method.step(model, alone)
    assert not torch.allclose(loss.logits, model.eval()(batch["target"]["image"]), atol=0.01)


def test_pasted_buildings_bring_their_pixels_and_their_truth() -> None:
    model, loss = small_model(), Kept()
    method = teacher_of(model, loss, paste="class", margin_px=2)
    batch = batch_of(2)
    batch["target"]["valid"][:, :, :, :20] = False
    seen = []
    handle = model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    method.step(model, batch)
    handle.remove()
    shown = seen[1]
    pasted = torch.zeros(64, 64, dtype=torch.bool)
    pasted[6:26, 20:42] = True  # the building with its margin, where the target has data
    assert torch.equal(shown[..., pasted], batch["image"][..., pasted])
    assert torch.equal(shown[..., ~pasted], batch["target"]["strong"][..., ~pasted])
    assert torch.equal(loss.labels[..., pasted], batch["mask"][..., pasted])
    assert (loss.labels[:, :, :, :20] == IGNORE).all()
