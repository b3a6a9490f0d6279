"""Adapters on networks: exact to merge and to take away; oracles: low-rank branches, PEFT."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rhm.adapters import (
    DeepLoRA,
    LoRA,
    attach,
    attachment_of,
    detach,
    hold_batch_norm,
    merge,
    parameter_groups,
)
from rhm.adapters.attach import updates
from rhm.adapters.gradient import gradient_factors, random_factors, weight_gradients
from rhm.adapters.lowrank import Adapter, DeepLoRAUpdate, LoRAUpdate
from rhm.adapters.subspace import principal_angles
from rhm.errors import ConfigError

ADAPTERS: list[Adapter] = [LoRA(4), DeepLoRA(4), DeepLoRA(2, depth=2, outer_lr_ratio=0.0)]
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(12, 20), (3, 12)),
    "linear, wide": (lambda: nn.Linear(40, 8, bias=False), (2, 5, 40)),
    "conv1d": (lambda: nn.Conv1d(6, 9, 5, padding=2), (2, 6, 11)),
    "conv2d": (lambda: nn.Conv2d(6, 10, 3, stride=2, padding=1), (2, 6, 9, 8)),
    "conv2d, pointwise": (lambda: nn.Conv2d(8, 6, 1), (2, 8, 5, 5)),
    "conv2d, grouped": (lambda: nn.Conv2d(8, 12, 3, groups=4, dilation=2), (1, 8, 9, 9)),
    "conv2d, depthwise": (lambda: nn.Conv2d(10, 10, 5, groups=10), (1, 10, 7, 7)),
}
FAMILIES = {
    "tf_efficientnet_lite0": 64,
    "resnet18": 64,
    "convnext_atto": 64,
    "swin_tiny_patch4_window7_224": 224,
}


def stirred(model: nn.Module, *, seed: int = 0) -> None:
    """Change all that an adapter trains."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, update in updates(model):
            for parameter in update.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)


def square_loss(model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    output: Tensor = model(torch.randn(2, 3, 64, 64, generator=generator))
    return output.square().mean()


@pytest.mark.parametrize("adapter", ADAPTERS, ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_merged_equals_unmerged_for_every_layer(kind: str, adapter: Adapter) -> None:
    make, shape = LAYERS[kind]
    torch.manual_seed(0)
    model, inputs = nn.Sequential(make()), torch.randn(shape)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plain = model(inputs)
    attachment = attach(model, adapter, "0")
    assert attachment.layers[0].shape == tuple(before["0.weight"].shape)
    torch.testing.assert_close(model(inputs), plain, rtol=0.0, atol=1e-3)
    stirred(model)
    adapted = model(inputs)
    assert not torch.allclose(adapted, plain, atol=1e-3)
    merged = copy.deepcopy(model)
    merge(merged)
    assert set(merged.state_dict()) == set(before)
    torch.testing.assert_close(merged(inputs), adapted, rtol=0.0, atol=1e-5)
    assert not torch.equal(merged.state_dict()["0.weight"], before["0.weight"])
    detach(model)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    assert torch.equal(model(inputs), plain)
    assert attachment_of(model) is None
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_equals_unmerged_in_segmentation_networks(family: str) -> None:
    torch.manual_seed(0)
    model = smp.Unet(f"tu-{family}", encoder_weights=None).eval()
    image = torch.randn(1, 3, FAMILIES[family], FAMILIES[family])
    with torch.no_grad():
        plain = model(image)
        attachment = attach(model, LoRA(4), "encoder")
        assert torch.equal(model(image), plain)
        stirred(model)
        adapted = model(image)
        merge(model)
        torch.testing.assert_close(model(image), adapted, rtol=1e-5, atol=1e-5)
    assert attachment.parameters < 0.1 * attachment.total


def test_lora_is_the_low_rank_branch() -> None:
    torch.manual_seed(0)
    model, rows = nn.Sequential(nn.Linear(12, 20)), torch.randn(5, 12)
    plain = model(rows)
    attach(model, LoRA(4, alpha=8.0))
    stirred(model)
    ((_, update),) = updates(model)
    assert isinstance(update, LoRAUpdate)
    branch = 2.0 * (rows @ update.a.T) @ update.b.T
    torch.testing.assert_close(model(rows), plain + branch)


@pytest.mark.parametrize("kind", ["linear", "conv2d", "conv2d, pointwise"])
def test_lora_equals_peft(kind: str) -> None:
    peft: Any = pytest.importorskip("peft", reason="peft is not installed")
    make, shape = LAYERS[kind]
    torch.manual_seed(0)
    model, inputs = nn.Sequential(make()), torch.randn(shape)
    settings = peft.LoraConfig(r=4, lora_alpha=12, target_modules=["0"])
    theirs = peft.get_peft_model(copy.deepcopy(model), settings)
    attach(model, LoRA(4, alpha=12.0))
    stirred(model)
    ((_, update),) = updates(model)
    assert isinstance(update, LoRAUpdate)
    layer = theirs.base_model.model[0]
    with torch.no_grad():
        for given, ours in ((layer.lora_A, update.a), (layer.lora_B, update.b)):
            weight = given["default"].weight
            weight.copy_(ours.reshape(weight.shape))
    torch.testing.assert_close(model(inputs), theirs(inputs), rtol=1e-5, atol=1e-5)


def test_a_deep_update_begins_at_nothing_and_learns() -> None:
    torch.manual_seed(0)
    model = smp.Unet("tu-tf_efficientnet_lite0", encoder_weights=None).eval()
    with torch.no_grad():
        before = square_loss(model)
    attach(model, DeepLoRA(8), "all", square_loss)
    assert square_loss(model).item() == pytest.approx(before.item(), rel=1e-4)
    optimizer = torch.optim.Adam(parameter_groups(model, 1e-2))
    for _ in range(12):
        optimizer.zero_grad()
        loss = square_loss(model)
        torch.autograd.backward(loss)
        optimizer.step()
    assert loss.item() < 0.9 * before.item()
    for _, update in updates(model):
        assert torch.linalg.matrix_rank(update.update()) <= update.rank


def test_the_outer_factors_learn_at_their_own_rate() -> None:
    model = nn.Sequential(nn.Linear(12, 20), nn.Linear(20, 10))
    attach(model, DeepLoRA(4, outer_lr_ratio=0.01), trained=["1"])
    groups = parameter_groups(model, 0.1, weight_decay=0.2)
    assert [group["lr"] for group in groups] == [0.1, pytest.approx(0.001), 0.1, 0.1]
    assert [group["weight_decay"] for group in groups] == [0.0, 0.0, 0.2, 0.0]
    shapes = [sorted(tuple(p.shape) for p in group["params"]) for group in groups]
    assert shapes == [[(3, 4, 4)], [(12, 4), (20, 4)], [(10, 20)], [(10,)]]
    frozen = nn.Sequential(nn.Linear(12, 20))
    attach(frozen, DeepLoRA(4, outer_lr_ratio=0.0))
    assert len(parameter_groups(frozen, 0.1)) == 1
    torch.optim.SGD(groups).step()


def test_factors_span_what_the_gradient_asks_for() -> None:
    torch.manual_seed(0)
    for rows, columns in ((30, 30), (20, 50), (50, 20)):
        low = torch.randn(rows, 3, dtype=torch.float64) @ torch.randn(3, columns).double()
        left, right = gradient_factors(low, 6, seed=1)
        for factor, size in ((left, rows), (right, columns)):
            assert factor.shape == (size, 6)
            torch.testing.assert_close(factor.T @ factor, torch.eye(6, dtype=torch.float64))
        u, _, vt = torch.linalg.svd(low)
        for found, wanted in ((left, u[:, :3]), (right, vt[:3].T)):
            assert torch.linalg.norm(wanted - found @ (found.T @ wanted)) < 1e-9
        again = gradient_factors(low, 6, seed=1)
        assert torch.equal(again[0], left)
        other = gradient_factors(low, 6, seed=2)
        assert principal_angles(other[0], left).max() > 0.1


def test_factors_move_as_the_wide_update_would() -> None:
    """One step of the wide deep update stays within the factors' spaces: U = P V."""
    torch.manual_seed(0)
    gradient = torch.randn(16, 2, dtype=torch.float64) @ torch.randn(2, 24).double()
    left, right = gradient_factors(gradient, 4, seed=3)
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(24, generator=generator)[:16]
    signs = torch.randint(0, 2, (16, 1), generator=generator).double() * 2 - 1
    carry = torch.zeros(16, 24, dtype=torch.float64)
    carry[torch.arange(16), order] = signs[:, 0]
    torch.testing.assert_close(carry @ carry.T, torch.eye(16, dtype=torch.float64))
    carried = carry @ right
    assert torch.linalg.norm(carried - left @ (left.T @ carried)) < 1e-9


def test_gradients_leave_no_trace() -> None:
    torch.manual_seed(0)
    model = smp.Unet("tu-tf_efficientnet_lite0", encoder_weights=None).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weight = model.get_parameter("segmentation_head.0.weight")
    (found,) = weight_gradients(model, {"head": weight}, [square_loss, square_loss]).values()
    model.eval()
    torch.autograd.backward(square_loss(model))
    torch.testing.assert_close(found, weight.grad)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    frozen = nn.Linear(3, 3)
    weight = frozen.get_parameter("weight")
    weight.requires_grad_(False)
    with pytest.raises(ConfigError, match="gradient of w is not finite"):
        weight_gradients(frozen, {"w": weight}, [lambda m: m(torch.full((1, 3), torch.inf)).sum()])
    assert not weight.requires_grad


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


def test_half_precision_does_not_lose_the_start() -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False))
    attach(model, DeepLoRA(4, init_scale=1e-3))
    ((_, update),) = updates(model)
    plain = update(torch.zeros(8, 8))
    with torch.autocast("cpu", dtype=torch.float16):
        formed = update(torch.zeros(8, 8))
    assert formed.dtype == torch.float32
    assert bool(formed.any())
    assert torch.equal(formed, plain)


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(self.norm(self.conv(images)))


@pytest.mark.parametrize("policy", ["frozen", "statistics", "affine"])
def test_batch_norms_do_what_is_said(policy: str) -> None:
    torch.manual_seed(0)
    model = Normed()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attach(model, LoRA(2), batch_norm=policy)
    hold_batch_norm(model.train())
    optimizer = torch.optim.SGD(parameter_groups(model, 0.1))
    model(torch.randn(4, 3, 9, 9) + 3.0).square().sum().backward()
    optimizer.step()
    now = model.state_dict()
    still = {name for name, tensor in before.items() if torch.equal(tensor, now.get(name, tensor))}
    assert ("norm.running_mean" in still) == (policy == "frozen")
    assert ("norm.weight" in still) == (policy != "affine")
    detach(model)
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())


def bad_settings() -> Iterator[tuple[Callable[[nn.Module], object], str]]:
    yield lambda m: attach(m, LoRA(9), "0"), "rank 9 is above that of 0, a matrix of 8 x 8"
    yield lambda m: attach(m, LoRA(2), "frist"), "matches the target 'frist'"
    yield lambda m: attach(m, LoRA(2), "encodr"), "choose e.g. encoder"
    yield lambda m: attach(m, LoRA(2), lambda n, _: False), "matches the targets"
    yield lambda m: attach(m, LoRA(2), batch_norm="melted"), "choose frozen, statistics, affine"
    yield (
        lambda m: attach(m, LoRA(2), trained=["head"]),
        "no module or parameter of the network matches 'head'",
    )
    yield lambda m: (attach(m, LoRA(2)), attach(m, LoRA(2))), "already has an adapter"
    yield merge, "has no adapter"
    yield detach, "has no adapter"
    yield lambda m: parameter_groups(m, 0.1), "has no adapter"
    yield hold_batch_norm, "has no adapter"
    yield (
        lambda m: attach(m, DeepLoRA(2), "all", lambda n: n(torch.full((1, 8), torch.nan)).sum()),
        "gradient of 0 is not finite",
    )
    yield lambda m: DeepLoRA(3), "even and at least 2, not 3"
    yield lambda m: DeepLoRA(4, depth=0), "depth must be at least 1"
    yield lambda m: DeepLoRA(4, init_scale=0.0), "init_scale"
    yield lambda m: DeepLoRA(4, outer_lr_ratio=2.0), "outer_lr_ratio"
    yield lambda m: LoRA(0), "rank must be at least 1"
    yield lambda m: LoRA(2, alpha=0.0), "alpha must be greater than 0"
    yield lambda m: gradient_factors(torch.ones(4, 4), 6), "rank 6 must be even and from 2 to 4"
    yield lambda m: gradient_factors(torch.full((4, 4), torch.nan), 2), "not finite"


@pytest.mark.parametrize(("call", "told"), list(bad_settings()))
def test_what_is_impossible_is_one_line(call: Callable[[nn.Module], object], told: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    with pytest.raises(ConfigError, match=told) as error:
        call(model)
    assert "\n" not in str(error.value)


def test_a_layer_with_another_parametrisation_is_left_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    attach(model, LoRA(2))
    stirred(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parametrize.register_parametrization(model[1], "weight", nn.Identity())
    for remove in (merge, detach):
        with pytest.raises(ConfigError, match="also has another parametrisation"):
            remove(model)
    now = model.state_dict()
    assert all(torch.equal(tensor, now[name]) for name, tensor in before.items())
    assert len(list(updates(model))) == 2


def test_without_an_adapter_only_what_is_named_is_trained() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attachment = attach(model, None, trained=["*.bias"])
    assert (attachment.adapter, attachment.layers, attachment.parameters) == (None, (), 0)
    wanted = [name for name, each in model.named_parameters() if each.requires_grad]
    assert wanted == ["0.bias", "1.bias", "2.bias"]
    (group,) = parameter_groups(model, 0.1, weight_decay=0.2)
    assert group["weight_decay"] == 0.0
    stirred(model)
    detach(model)
    now = model.state_dict()
    assert all(torch.equal(tensor, now[name]) for name, tensor in before.items())
    with pytest.raises(ConfigError, match="nothing would be trained"):
        attach(model, None, batch_norm="statistics")
    attach(model, None, batch_norm="affine")
    merge(model)


def test_without_a_gradient_factors_are_random_and_orthonormal() -> None:
    like = torch.zeros(1, dtype=torch.float32)
    left, right = random_factors(7, 5, 4, like=like, seed=1)
    for factor in (left, right):
        torch.testing.assert_close(factor.T @ factor, torch.eye(4))
    zero = gradient_factors(torch.zeros(7, 5), 4, seed=1)
    assert torch.equal(zero[0], left)
    update = DeepLoRAUpdate(left, right, DeepLoRA(4, init_scale=0.1))
    torch.testing.assert_close(update.update(), 1e-3 * left @ right.T)
