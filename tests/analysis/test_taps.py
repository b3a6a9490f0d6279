"""Taps and grids; oracles: the layers called one by one, cells counted by hand."""

from typing import Any

import cv2
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rhm.analysis.grid import draw_cells, labels_on_grid, with_boundary
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


@given(
    st.integers(0, 1 << 20),
    st.sampled_from([(4, 4), (2, 8), (8, 8), (1, 1)]),
    st.sampled_from([0.6, 0.75, 1.0]),
)
def test_cells_have_the_class_that_covers_them(
    seed: int, size: tuple[int, int], purity: float
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 255], size=(2, 8, 8), p=[0.6, 0.3, 0.09, 0.01])
    labels[0, :4] = 1
    found = labels_on_grid(torch.from_numpy(labels), size, 3, purity=purity).numpy()
    rows, cols = 8 // size[0], 8 // size[1]
    for image in range(2):
        for row in range(size[0]):
            for col in range(size[1]):
                cell = labels[image, row * rows : (row + 1) * rows, col * cols : (col + 1) * cols]
                shares = [(cell == k).mean() for k in range(3)]
                clear = (cell != 255).all() and max(shares) >= purity
                assert found[image, row, col] == (int(np.argmax(shares)) if clear else 255)


def test_a_grid_that_is_not_coarser_is_refused() -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    with pytest.raises(ValueError, match="is not coarser"):
        labels_on_grid(labels, (9, 8), 2)
    for purity in (0.5, 1.1):
        with pytest.raises(ValueError, match="purity"):
            labels_on_grid(labels, (4, 4), 2, purity=purity)


def test_cells_are_drawn_by_class_and_seed() -> None:
    labels = torch.full((2, 5, 6), 255)
    labels[:, :3] = 0
    labels[1, 4, 2:4] = 1
    rows, cols = torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij")
    place = (
        torch.stack([rows, cols]).expand(2, 2, 5, 6) + 100 * torch.arange(2)[:, None, None, None]
    )
    drawn, classes = draw_cells(place, labels, per_class=7, rng=np.random.default_rng(3))
    assert classes.tolist() == [0] * 7 + [1] * 2
    assert drawn[-2:].tolist() == [[104, 102], [104, 103]]
    assert len({tuple(cell) for cell in drawn.tolist()}) == 9
    assert (drawn[:7, 0] % 100 < 3).all()
    again, _ = draw_cells(place, labels, per_class=7, rng=np.random.default_rng(3))
    assert torch.equal(drawn, again)
    other, _ = draw_cells(place, labels, per_class=7, rng=np.random.default_rng(4))
    assert not torch.equal(drawn, other)
    everything, _ = draw_cells(place, labels, per_class=99, rng=np.random.default_rng(3))
    assert len(everything) == 38
    nothing, none = draw_cells(place, labels * 0 + 255, per_class=9, rng=np.random.default_rng(0))
    assert (nothing.shape, none.shape) == ((0, 2), (0,))
    with pytest.raises(ValueError, match="not on the same grid"):
        draw_cells(place, labels[:, :4], per_class=1, rng=np.random.default_rng(0))


def test_outlines_become_a_class_of_their_own() -> None:
    mask = np.zeros((12, 14), np.uint8)
    mask[3:9, 3:9] = 1
    mask[:, 12:] = 255
    mask[3:9, 11] = 1
    found = with_boundary(mask, 1.0)
    plus = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    building = (mask == 1).astype(np.uint8)
    edge = cv2.dilate(building, plus) - cv2.erode(building, plus)
    background = (mask == 0).astype(np.uint8)
    inner = (building == 1) & (cv2.dilate(background, plus) == 1)
    assert (found[mask == 255] == 255).all()
    np.testing.assert_array_equal((found == 2) & (mask == 0), (edge == 1) & (mask == 0))
    np.testing.assert_array_equal((found == 2) & (mask == 1), inner)
    assert found[5, 5] == 1
    np.testing.assert_array_equal(with_boundary(np.ones((4, 4), np.uint8), 2.0), 1)
    wide = with_boundary(mask, 2.0)
    assert ((wide == 2) >= (found == 2)).all()
    assert (wide == 2).sum() > (found == 2).sum()
