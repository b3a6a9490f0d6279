"""Which layers are targets; oracle: their names, read off the networks."""

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rhm.adapters import (
    DeepLoRA,
    LoRA,
    attach,
    detach,
    merge,
)
from rhm.adapters.targets import layers_to_adapt, matches, matrix_of
from rhm.errors import ConfigError
from tests.adapters.layers import stirred


@pytest.mark.parametrize(
    ("preset", "some", "none"),
    [
        ("all", "segmentation_head.0", ""),
        ("encoder", "encoder.model.conv_stem", "decoder"),
        ("pointwise", "encoder.model.blocks_2_0.conv_pw", "conv_dw"),
    ],
)
def test_presets_choose_layers(preset: str, some: str, none: str) -> None:
    model = smp.Unet("tu-tf_efficientnet_lite0", encoder_weights=None)
    if preset == "pointwise":
        some = next(name for name, _ in model.named_modules() if name.endswith("conv_pw"))
    names = [layer.name for layer in attach(model, LoRA(4), preset).layers]
    assert some in names
    assert not none or not any(none in name for name in names)


def test_attention_is_the_projections_of_attention() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=64)
    names = {layer.name for layer in attach(model, LoRA(4), "attention").layers}
    assert names == {f"blocks.{i}.attn.{part}" for i in range(12) for part in ("qkv", "proj")}
    with torch.no_grad():
        stirred(model)
        image = torch.randn(1, 3, 64, 64)
        adapted = model.eval()(image)
        merge(model)
        torch.testing.assert_close(model(image), adapted, rtol=1e-5, atol=1e-5)


def test_globs_and_predicates_choose_layers() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Conv2d(4, 4, 1), nn.Linear(8, 8))
    assert [each.name for each in attach(model, LoRA(2), ["0", "1"]).layers] == ["0", "1"]
    detach(model)
    found = attach(model, LoRA(2), lambda name, module: isinstance(module, nn.Conv2d))
    assert [each.name for each in found.layers] == ["1"]
    detach(model)
    assert [each.name for each in attach(model, LoRA(2), trained=["2"]).layers] == ["0", "1"]


@pytest.mark.parametrize("glob", ["0.1.weight", "*.1.weight", "0.1", "0.1*"])
def test_a_layer_whose_weight_is_trained_in_full_gets_no_update(glob: str) -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), nn.Linear(4, 4))
    attachment = attach(model, LoRA(2), trained=[glob])
    assert [each.name for each in attachment.layers] == ["0.0", "1"]
    assert model.get_parameter("0.1.weight").requires_grad


def test_a_small_layer_takes_its_full_rank_from_a_preset() -> None:
    model = nn.Sequential(nn.Conv2d(32, 32, 3, groups=32), nn.Conv2d(32, 1, 3), nn.Linear(5, 40))
    assert [each.rank for each in attach(model, LoRA(9)).layers] == [9, 1, 5]
    detach(model)
    assert [(each.name, each.rank) for each in attach(model, DeepLoRA(8)).layers] == [
        ("0", 8),
        ("2", 4),
    ]
    detach(model)
    with pytest.raises(ConfigError, match="rank 16 is above that of every layer: choose 9 or less"):
        attach(model, LoRA(16))


def test_every_one_of_several_targets_must_be_there() -> None:
    model = nn.Sequential()
    model.add_module("encoder", nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)))
    model.add_module("head", nn.Linear(8, 8))
    both = attach(model, LoRA(2), targets=["head", "encoder"])
    assert [layer.name for layer in both.layers] == ["encoder.0", "encoder.1", "head"]
    detach(model)
    with pytest.raises(ConfigError, match=r"the target 'haed': choose e\.g\. head"):
        attach(model, LoRA(2), targets=["encoder", "haed"])


NAMES = st.lists(st.sampled_from(["encoder", "blocks", "0", "conv"]), min_size=1, max_size=4)


@given(NAMES, st.integers(0, 3))
def test_a_glob_matches_a_module_and_all_within_it(parts: list[str], cut: int) -> None:
    name = ".".join(parts)
    assert matches(name, [".".join(parts[: cut + 1])])
    assert matches(name, ["nothing", "*"])
    assert not matches(name, [f"{name}.deeper", "x*"])
    assert not matches(name, [])


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_a_weight_is_a_matrix_with_a_row_for_each_output(shape: list[int]) -> None:
    weight = torch.randn(shape, requires_grad=True)
    matrix = matrix_of(weight)
    assert matrix.shape[0] == shape[0]
    assert not matrix.requires_grad
    assert torch.equal(matrix.flatten(), weight.detach().flatten())


def test_what_is_left_out_is_no_target() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8), nn.ReLU()))
    assert list(layers_to_adapt(model, LoRA(2), "all", but=["1"])) == ["0"]
    with pytest.raises(ConfigError, match="every layer that matches the target 'all' is excluded"):
        layers_to_adapt(model, LoRA(2), "all", but=["*"])
    with pytest.raises(ConfigError, match="no layer of the network matches the target 'x'"):
        layers_to_adapt(model, LoRA(2), "x", but=["*"])


def test_a_named_layer_must_hold_the_whole_rank() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 8))
    assert list(layers_to_adapt(model, LoRA(4), "all")) == ["0", "1"]
    with pytest.raises(ConfigError, match="rank 4 is above that of 0, a matrix of 8 x 3"):
        layers_to_adapt(model, LoRA(4), "0")


@pytest.mark.parametrize("adapter", [LoRA(2), DeepLoRA(2)])
def test_a_shared_weight_is_not_adapted(adapter: LoRA | DeepLoRA) -> None:
    """Merging the update of one layer would change the other."""
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3))
    model[1].weight = model[0].weight
    with pytest.raises(ConfigError, match="0 and 1 share a weight"):
        layers_to_adapt(model, adapter, ["0", "2"])
    assert list(layers_to_adapt(model, adapter, "2")) == ["2"]
    # One module that is used twice has one update.
    twice = nn.Sequential(model[2], nn.Linear(3, 16))
    twice.append(model[2])
    assert list(layers_to_adapt(twice, adapter, ["0"])) == ["0"]
