"""The classifiers of dense features; oracle: the cosine written out."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from rhm.analysis import ClassMoments, collapse
from rhm.models.architectures import ARCHITECTURES
from rhm.models.build import SegmentationModel
from rhm.models.heads import (
    CosineClassifier,
    classified,
    classifier,
    classifier_rows,
    classify,
    set_head,
)
from rhm.models.model_file import load_model, save_model
from rhm.models.spec import ModelSpec

SPEC = ModelSpec("unet", "test_efficientnet", 3, sources=("town",))


def test_logits_are_cosines_times_the_temperature() -> None:
    head = CosineClassifier(6, 3, temperature=4.0)
    features = torch.randn(2, 6, 5, 4)
    logits = head(features)
    rows = head.weight[:, :, 0, 0]
    for place in ((0, 1, 2), (1, 4, 3)):
        cell = features[place[0], :, place[1], place[2]]
        expected = 4.0 * torch.cosine_similarity(cell[None], rows, dim=1)
        torch.testing.assert_close(logits[place[0], :, place[1], place[2]], expected)
    torch.testing.assert_close(head(7.0 * features), logits)
    assert logits.abs().max() <= 4.0 + 1e-5
    assert head(torch.zeros(1, 6, 2, 2)).abs().max() == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_zero_feature_has_zero_logits_in_every_precision(dtype: torch.dtype) -> None:
    logits = CosineClassifier(6, 3).to(dtype)(torch.zeros(1, 6, 2, 2, dtype=dtype))
    assert logits.abs().max() == 0.0


@pytest.mark.parametrize("learned", [False, True])
def test_the_temperature_is_learned_when_asked(learned: bool) -> None:
    model = SegmentationModel(
        replace(SPEC, head="cosine"), temperature=3.0, learn_temperature=learned
    )
    model(torch.randn(1, 3, 64, 64)).sum().backward()
    head = classifier(model.network)
    assert isinstance(head, CosineClassifier)
    assert head.temperature.item() == 3.0
    assert (head.temperature.grad is not None) == learned
    assert head.weight.grad is not None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_takes_a_cosine_head(architecture: str) -> None:
    model = SegmentationModel(replace(SPEC, architecture=architecture, head="cosine")).eval()
    with torch.no_grad():
        logits = model(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 1, 64, 64)
    assert logits.abs().max() <= 10.0 + 1e-4
    assert logits.std() > 0.0


def test_a_model_file_keeps_head_and_temperature(tmp_path: Path) -> None:
    model = SegmentationModel(replace(SPEC, head="cosine"), temperature=5.0).eval()
    save_model(model, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert again.spec.head == "cosine"
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(image), model(image))
    assert again(image).abs().max() > 0.0


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_cells_are_classified_as_in_an_image_of_them(head: str) -> None:
    network = SegmentationModel(replace(SPEC, head=head)).eval().network
    cells = torch.randn(4, 16)
    found = classify(network, cells)
    flat = cells[:, :, None, None].expand(-1, -1, 7, 7)
    with torch.no_grad():
        torch.testing.assert_close(found, classifier(network)(flat)[:, :, 3, 3])
    rows = classifier_rows(network)
    assert rows.shape == (1, 16)
    torch.testing.assert_close(classify(network, classified(network, cells)), found)
    if head == "linear":
        bias = classifier(network).get_parameter("bias").detach()
        torch.testing.assert_close(found.detach(), cells @ rows.T + bias, rtol=1e-4, atol=1e-5)


def test_what_a_cosine_head_ignores_is_no_lack_of_collapse() -> None:
    """Features of any length along rows of any length: on the spheres, this is collapse."""
    torch.manual_seed(0)
    network = nn.Module()
    head = CosineClassifier(8, 3)
    network.segmentation_head = nn.Sequential(head)
    directions = torch.eye(3, 8) - torch.eye(3, 8).mean(0)
    directions /= directions.norm(dim=1, keepdim=True)
    lengths = torch.tensor([0.3, 1.0, 3.0])
    head.weight.data[:] = (lengths[:, None] * directions)[:, :, None, None]
    labels = torch.arange(3).repeat_interleave(50)
    cells = directions[labels] * (0.5 + 4.5 * torch.rand(150, 1))
    found = {}
    for name, features in (("raw", cells), ("classified", classified(network, cells))):
        moments = ClassMoments(3, 8)
        moments.update(features, labels)
        found[name] = collapse(moments, classifier_rows(network))
    assert found["raw"].nc1 != pytest.approx(0.0, abs=0.1)
    assert found["classified"].nc1 == pytest.approx(0.0, abs=1e-9)
    for value in (found["classified"].nc2, found["classified"].nc3):
        assert value == pytest.approx(0.0, abs=1e-6)
    assert found["classified"].self_duality == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("module", "head", "told"),
    [
        (nn.Conv2d(4, 2, 3), "round", "unknown head: choose linear, cosine"),
        (nn.Linear(4, 2), "cosine", "the head of Module cannot be replaced"),
    ],
)
def test_a_head_that_is_none_or_has_no_place_is_refused(
    module: nn.Module, head: str, told: str
) -> None:
    network = nn.Module()
    network.segmentation_head = nn.Sequential(module)
    with pytest.raises(ValueError, match=told):
        set_head(network, head, temperature=1.0, learned=False)
    assert classifier(network) is module
