"""Taps; oracle: the layers called one by one."""

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from rhm.analysis.taps import Taps, stages
from rhm.errors import AnalysisError


class Net(nn.Module):
    """Two layers, of which the second works in place, and one that gives a list."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.act = nn.ReLU(inplace=True)
        self.pair = Pair()

    def forward(self, rows: Tensor) -> Tensor:
        first, _ = self.pair(self.act(self.first(rows)))
        return torch.as_tensor(first)


class Pair(nn.Module):
    def forward(self, rows: Tensor) -> list[Any]:
        return [rows + 1, {"no": "tensor"}]


def test_taps_keep_what_a_layer_gave_and_leave_no_hook() -> None:
    net, rows = Net(), torch.randn(3, 4)
    with Taps(net, ["pair[0]", "first"]) as taps:
        net(torch.zeros(3, 4))
        net(rows)
    assert list(taps.features) == ["first", "pair[0]"]
    assert torch.equal(taps.features["first"], net.first(rows))
    assert (taps.features["first"] < 0).any()
    assert torch.equal(taps.features["pair[0]"], net.first(rows).relu() + 1)
    assert not any(each.requires_grad for each in taps.features.values())
    net(2 * rows)
    assert torch.equal(taps.features["first"], net.first(rows))
    with pytest.raises(RuntimeError, match="stop"), Taps(net, ["first"]):
        raise RuntimeError("stop")
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("frist", "no layer 'frist': did you mean first"),
        ("zzz", "no layer 'zzz': choose e.g. first, act, pair"),
        ("pair", r"pair returns 2 features: name one, pair\[0\] to pair\[1\]"),
        ("pair[2]", "pair returns 2 features"),
        ("first[0]", "first.0. does not return features but Tensor"),
    ],
)
def test_a_layer_that_is_not_there_is_told(name: str, told: str) -> None:
    net = Net()
    with pytest.raises(AnalysisError, match=told), Taps(net, [name]):
        net(torch.zeros(1, 4))
    assert not any(module._forward_hooks for module in net.modules())


def test_stages_of_a_unet_are_in_order_and_once_each() -> None:
    network = smp.Unet("tu-tf_efficientnet_lite0", encoder_weights=None, in_channels=4)
    network.train()
    network.encoder.eval()
    names = stages(network, bands=4)
    assert names == (
        *(f"encoder[{index}]" for index in range(6)),
        *(f"decoder.blocks.{index}" for index in range(4)),
        "decoder",
    )
    assert network.training
    assert not network.encoder.training
    assert not any(module._forward_hooks for module in network.modules())
    network.eval()
    image = torch.randn(1, 4, 64, 96)
    with torch.no_grad(), Taps(network, names) as taps:
        logits = network(image)
    assert tuple(taps.features) == names
    assert torch.equal(taps.features["encoder[0]"], image)
    assert torch.equal(network.segmentation_head(taps.features["decoder"]), logits)
    sides = [features.shape[-1] for features in taps.features.values()]
    assert sides == [96, 48, 24, 12, 6, 3, 6, 12, 24, 48, 96]


@pytest.mark.parametrize(
    "architecture", ["UnetPlusPlus", "FPN", "Linknet", "DeepLabV3Plus", "PSPNet"]
)
def test_stages_of_other_architectures_can_be_tapped(architecture: str) -> None:
    network = getattr(smp, architecture)("tu-tf_efficientnet_lite0", encoder_weights=None).eval()
    names = stages(network)
    assert len(names) >= 5
    assert names[-1] == "decoder"
    with torch.no_grad(), Taps(network, names) as taps:
        network(torch.zeros(1, 3, 64, 64))
    assert tuple(taps.features) == names
    assert {features.ndim for features in taps.features.values()} == {4}


def test_a_network_of_another_kind_has_no_stages() -> None:
    with pytest.raises(AnalysisError, match="Net has no encoder and decoder: name the layers"):
        stages(Net())
