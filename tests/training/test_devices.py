"""Devices; law: to synchronise batch normalisation and back does not change the network."""

from collections import Counter
from contextlib import nullcontext

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct
from torch import nn

from rhm.errors import ConfigError
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec
from rhm.training.devices import (
    check_number_of_gpus,
    check_one_chip,
    synchronized_batch_norm,
)


def network(encoder: str) -> SegmentationModel:
    spec = ModelSpec("unet", encoder, 3, mean=(0.5,) * 3, std=(0.2,) * 3, scalings={}, gsd_m=0.5)
    torch.manual_seed(0)
    model = SegmentationModel(spec)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 2.0)
    return model.eval()


@pytest.mark.parametrize("encoder", ["tf_efficientnet_lite0", "tf_mobilenetv3_small_minimal_100"])
def test_activations_stay_and_the_network_returns(encoder: str) -> None:
    model = network(encoder)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    kinds = Counter(type(module) for module in model.modules())
    assert kinds[BatchNormAct2d] > 30
    with torch.inference_mode():
        expected = model(images)
    with synchronized_batch_norm(model):
        during = Counter(type(module) for module in model.modules())
        assert during[SyncBatchNormAct] == kinds[BatchNormAct2d]
        assert not during[BatchNormAct2d]
        with torch.inference_mode():
            assert torch.equal(model(images), expected)
    assert Counter(type(module) for module in model.modules()) == kinds
    with torch.inference_mode():
        assert torch.equal(model(images), expected)


def test_what_was_learned_meanwhile_is_kept() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    original = model[1]
    with synchronized_batch_norm(model):
        assert isinstance(model[1], nn.SyncBatchNorm)
        model[1].running_mean = torch.full((4,), 7.0)  # another tensor, as on another device
        model[1].weight.data.fill_(3.0)
        model.eval()
    assert model[1] is original
    assert original.running_mean is not None
    assert original.running_mean.tolist() == [7.0] * 4
    assert original.weight.tolist() == [3.0] * 4
    assert not original.training


@pytest.mark.parametrize(("side", "fits"), [(32, False), (64, True)])
def test_one_chip_may_be_too_few_for_batch_normalisation(side: int, fits: bool) -> None:
    spec = network("tf_efficientnet_lite0").spec
    if fits:
        check_one_chip(spec, side, frozen="model.batch_norm=frozen")
        return
    with pytest.raises(ConfigError, match=r"one chip of 32 px at a time.*model\.batch_norm=frozen"):
        check_one_chip(spec, side, frozen="model.batch_norm=frozen")


@pytest.mark.parametrize(
    ("accelerator", "devices", "found", "fits"),
    [
        ("auto", 4, 1, False),
        ("auto", 1, 1, True),
        ("auto", 4, 0, True),  # processes on the CPU
        ("gpu", 1, 0, False),
        ("gpu", 2, 2, True),
        ("cpu", 4, 1, True),
    ],
)
def test_a_run_asks_for_no_more_gpus_than_there_are(
    monkeypatch: pytest.MonkeyPatch, accelerator: str, devices: int, found: int, fits: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: found)
    refused = pytest.raises(
        ConfigError, match=f"devices is {devices}, and the number of available GPUs is {found}"
    )
    with nullcontext() if fits else refused:
        check_number_of_gpus(accelerator, devices)
