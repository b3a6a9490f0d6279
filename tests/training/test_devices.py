"""Devices; law: to synchronise batch normalisation and back does not change the network."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct
from torch import nn

from rhm.errors import ConfigError
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec
from rhm.training.config import RunConfig
from rhm.training.devices import check_batch, synchronized_batch_norm


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


@pytest.mark.parametrize("norm", ["statistics", "affine"])
def test_one_chip_is_too_few_for_batch_normalisation_of_adaptations_too(
    tiny: Callable[..., RunConfig], norm: str
) -> None:
    spec = network("test_efficientnet").spec
    base: dict[str, Any] = {"base": "model.safetensors", "method": "lora"}

    def one_chip(adapter: dict[str, Any], **sections: Any) -> RunConfig:
        sections |= {"data": {"chip_px": 32}, "trainer": {"batch_size": 1}}
        return tiny(adapter=adapter, **sections)

    with pytest.raises(ConfigError, match=r"raise trainer\.batch_size, or set model\.batch_norm"):
        check_batch(spec, one_chip({}))
    with pytest.raises(ConfigError, match=r"set adapter\.batch_norm=frozen"):
        check_batch(spec, one_chip(base | {"batch_norm": norm}))
    check_batch(spec, one_chip(base | {"batch_norm": "frozen"}))
    measuring = {"method": "threshold", "domains": ["birch_satellite"], "source_free": True}
    measures = base | {"method": "batch-norm", "batch_norm": "statistics"}
    config = tiny(
        adapter=measures, target=measuring, data={"sources": []}, trainer={"batch_size": 1}
    )
    check_batch(spec, config)
