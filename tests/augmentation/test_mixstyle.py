"""MixStyle; laws: normalised content is kept, statistics are mixed, and nothing remains."""

import numpy as np
import pytest
import torch
from torch import Tensor

from rhm.augmentation.mixstyle import MixStyle, mixed_styles, stage_modules
from rhm.errors import ConfigError
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec


def model_of(encoder: str = "test_efficientnet") -> SegmentationModel:
    torch.manual_seed(0)
    return SegmentationModel(ModelSpec("unet", encoder, 3))


def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.mean(dim=(2, 3)), features.std(dim=(2, 3))


def test_content_is_kept_and_statistics_lie_between_those_of_two_chips() -> None:
    torch.manual_seed(1)
    features = torch.randn(5, 4, 9, 7) * torch.rand(5, 4, 1, 1) + torch.randn(5, 4, 1, 1)
    shares, order = torch.rand(5, 1, 1, 1), torch.tensor([3, 0, 4, 1, 2])
    mixed = mixed_styles(features, shares, order)
    (mean, spread), (new_mean, new_spread) = statistics(features), statistics(mixed)
    share = shares[:, 0, 0]
    torch.testing.assert_close(new_mean, share * mean + (1 - share) * mean[order])
    torch.testing.assert_close(
        new_spread, share * spread + (1 - share) * spread[order], rtol=1e-3, atol=1e-4
    )
    content, kept = (
        (each - m[..., None, None]) / s[..., None, None]
        for each, (m, s) in ((features, (mean, spread)), (mixed, (new_mean, new_spread)))
    )
    torch.testing.assert_close(kept, content, rtol=1e-3, atol=1e-3)


def test_a_share_of_one_changes_nothing() -> None:
    features = torch.randn(3, 2, 5, 5)
    same = mixed_styles(features, torch.ones(3, 1, 1, 1), torch.tensor([1, 2, 0]))
    torch.testing.assert_close(same, features)


def test_no_gradient_flows_through_the_statistics() -> None:
    features = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    shares = torch.full((2, 1, 1, 1), 0.25)
    mixed_styles(features, shares, torch.tensor([1, 0])).sum().backward()  # type: ignore[no-untyped-call]
    spread = features.detach().std(dim=(2, 3), keepdim=True)
    expected = (0.25 * spread + 0.75 * spread.flip(0)) / spread
    assert features.grad is not None
    torch.testing.assert_close(features.grad, expected.expand_as(features), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("encoder", ["test_efficientnet", "resnet18", "tf_efficientnet_lite0"])
def test_stages_are_found_in_encoders_of_several_kinds(encoder: str) -> None:
    model = model_of(encoder)
    found: list[Tensor] = []
    for module in stage_modules(model.encoder, (1, 2, 5), bands=3):
        module.register_forward_hook(lambda _, __, output: found.append(output))
    features = model.eval().encoder(torch.randn(1, 3, 64, 64))
    assert [each.shape[-1] for each in found] == [32, 16, 2]
    for stage, each in zip((1, 2, 5), found, strict=True):
        assert torch.equal(features[stage], each)


def test_a_stage_without_a_module_is_told() -> None:
    with pytest.raises(ConfigError, match="no module for stage 0: choose of 1, 2"):
        MixStyle(model_of().encoder, (1, 0), p=1.0, alpha=0.1, bands=3)


def test_only_training_is_mixed_and_nothing_remains() -> None:
    model = model_of()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    images = torch.randn(4, 3, 64, 64)
    model.eval()
    expected = model(images)
    with MixStyle(model.encoder, (1, 2), p=1.0, alpha=0.5, bands=3):
        assert torch.equal(model(images), expected)
        model.train()
        torch.manual_seed(3)
        mixed = model.encoder(images)
        torch.manual_seed(3)
        assert torch.equal(mixed[5], model.encoder(images)[5])
        assert not torch.equal(mixed[5], model.encoder(images)[5])
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(model.encoder(images)[5], model.encoder(images)[5])
    model.load_state_dict(before)
    assert torch.equal(model.eval()(images), expected)


def test_p_is_the_share_of_batches_that_are_mixed() -> None:
    model = model_of().train()
    images = torch.randn(4, 3, 64, 64)
    plain = model.encoder(images)[1]
    with MixStyle(model.encoder, (1,), p=0.3, alpha=0.5, bands=3), torch.no_grad():
        changed = [not torch.equal(model.encoder(images)[1], plain) for _ in range(60)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.2)


def test_features_of_one_cell_are_their_mean() -> None:
    features = torch.randn(3, 2, 1, 1)
    shares, order = torch.full((3, 1, 1, 1), 0.25), torch.tensor([1, 2, 0])
    mixed = mixed_styles(features, shares, order)
    torch.testing.assert_close(mixed, 0.25 * features + 0.75 * features[order])
