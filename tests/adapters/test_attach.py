"""Adapters on networks: exact to merge and to take away; oracle: the network before."""

import copy
from collections.abc import Callable, Iterator

import pytest
import segmentation_models_pytorch as smp
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
from rhm.adapters.gradient import gradient_factors
from rhm.adapters.lowrank import Adapter
from rhm.errors import ConfigError
from tests.adapters.layers import LAYERS, square_loss, stirred

ADAPTERS: list[Adapter] = [LoRA(4), DeepLoRA(4), DeepLoRA(2, depth=2, outer_lr_ratio=0.0)]
FAMILIES = {
    "tf_efficientnet_lite0": 64,
    "resnet18": 64,
    "convnext_atto": 64,
    "swin_tiny_patch4_window7_224": 224,
}


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
    yield (
        lambda m: (attach(m.get_submodule("0"), LoRA(2), lambda *_: True), attach(m, LoRA(2))),
        "0, a part of the network, already has an adapter",
    )
    yield (
        lambda m: (attach(m, LoRA(2)), attach(m.get_submodule("0"), LoRA(2), lambda *_: True)),
        "the network belongs to an adapter of a larger network",
    )
    for done in (merge, detach):
        yield (
            lambda m, done=done: (  # type: ignore[misc]
                m.append(nn.Linear(8, 8)),
                attach(m, LoRA(2), "0"),
                attach(m.get_submodule("1"), LoRA(2), lambda *_: True),
                done(m),
            ),
            "1 has an adapter of its own beside that of the network",
        )
    yield (
        lambda m: (nn.utils.parametrizations.weight_norm(m.get_submodule("0")), attach(m, LoRA(2))),
        "the weight of 0 is computed from others, such as by weight_norm",
    )
    for dtype in (torch.float16, torch.bfloat16):
        yield (
            lambda m, dtype=dtype: attach(m.to(dtype), DeepLoRA(2)),  # type: ignore[misc]
            "float16 are too coarse for the small start of Deep LoRA",
        )
    yield merge, "has no adapter"
    yield detach, "has no adapter"
    yield lambda m: parameter_groups(m, 0.1), "has no adapter"
    yield hold_batch_norm, "has no adapter"
    yield (
        lambda m: attach(m, DeepLoRA(2), "all", lambda n: n(torch.full((1, 8), torch.nan)).sum()),
        "gradient of 0 is not finite",
    )
    yield lambda m: DeepLoRA(3), "even and at least 2, got 3"
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
        attach(model, None)
    attach(model, None, batch_norm="affine")
    merge(model)


def test_layers_of_neighbouring_seeds_have_draws_of_their_own() -> None:
    drawn = []
    for seed in (-1, 0, 1):
        network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
        attach(network, LoRA(rank=2), "all", seed=seed)
        drawn += [update.factors()[1].detach() for _, update in updates(network)]

    assert len({tuple(each.flatten().tolist()) for each in drawn}) == 9
