"""Tensors in their places; law: what is used and what is not is known without names."""

import pytest
import torch
from timm.models import PretrainedCfg
from torch import Tensor, nn

from rhm.models.encoders.state_matching import _check_real, choose_state, match_state

NAMES = ("stem.weight", "blocks.0.norm.weight", "blocks.0.norm.bias", "blocks.1.norm.weight")


def tensors(*names: str, value: float = 0.0) -> dict[str, Tensor]:
    return {name: torch.full((2,), value) for name in names}


def under(prefix: str, **options: float) -> dict[str, Tensor]:
    return tensors(*(f"{prefix}{name}" for name in NAMES), **options)


@pytest.mark.parametrize("prefix", ["", "module.", "a.b.c.d.", "blocks.", "model.blocks.0."])
def test_any_prefix_is_found_by_what_follows_it(prefix: str) -> None:
    state = under(prefix) | tensors("blocks.norm.weight", "head.bias", "norm.weight")
    found = choose_state([state], NAMES, NAMES)
    assert set(NAMES) <= set(found)
    assert all(found[name] is state[f"{prefix}{name}"] for name in NAMES)


def test_the_first_of_equals_is_chosen_whether_it_has_a_head_or_not() -> None:
    many = [f"blocks.{index}.norm.weight" for index in range(40)]
    whole = [*many, "head.weight", "head.bias"]
    average, plain = tensors(*many, value=1.0), tensors(*whole, value=2.0)
    assert choose_state([average, plain], many, whole) is not plain
    assert choose_state([average, plain], many, whole)[many[0]][0] == 1.0
    assert choose_state([tensors("a.b", "c.d"), plain], many, whole)[many[0]][0] == 2.0


def test_foreign_names_lose_the_containers_that_most_of_them_have() -> None:
    foreign = [f"layer{index}.w" for index in range(5)]
    state = tensors(*(f"module.backbone.{name}" for name in foreign), "module.head.w", "module.x")
    assert set(choose_state([state], NAMES, NAMES)) == set(foreign)
    # A part of the network that happens to be called like a container.
    encoder = tensors("encoder.w", "decoder.w", "patch.w")
    assert set(choose_state([encoder], NAMES, NAMES)) == set(encoder)


class Network(nn.Module):
    """A network whose author joined three tensors that files keep apart."""

    def __init__(self) -> None:
        super().__init__()
        self.joined = nn.Parameter(torch.ones(6, 5))
        self.scaled = nn.Parameter(torch.zeros(4))
        self.lost = nn.Parameter(-torch.ones(4))


def load(**options: object) -> Network:
    network = Network()
    overlay = options.get("pretrained_cfg_overlay")
    if isinstance(overlay, dict):
        given = overlay["state_dict"]
        joined = torch.cat([given["q"], given["k"], given["v"]])
        network.load_state_dict({"joined": joined, "scaled": 0.5 * given["s"]}, strict=False)
    return network


def test_tensors_that_are_joined_or_scaled_count_as_used() -> None:
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(2, 5, generator=generator) for name in "qkv"}
    state |= {"s": torch.randn(4), "unknown": torch.randn(3), "head": torch.randn(2)}
    match = match_state(state, Network(), {"s", "head"}, load, settings=PretrainedCfg(), bands=3)
    assert match.missing == ("lost",)
    assert match.surplus == ("unknown",)
    assert match.wanted == ("joined", "scaled", "lost")
    assert torch.equal(match.state["joined"], torch.cat([state[name] for name in "qkv"]))
    assert torch.equal(match.state["scaled"], 0.5 * state["s"])


def test_what_timm_cannot_read_is_an_error_of_one_kind() -> None:
    with pytest.raises(ValueError, match="timm cannot read the tensors: 'q'"):
        match_state({"a": torch.zeros(1)}, Network(), (), load, settings=PretrainedCfg(), bands=3)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("teacher.backbone.", "student.backbone."),
        ("ema_model.", "model."),
        ("model_ema.module.", "model.module."),
        ("ema.", ""),
        ("backbone.", "student.backbone."),
    ],
)
@pytest.mark.parametrize("first", [False, True])
def test_averages_are_preferred_to_what_they_are_averages_of(
    better: str, worse: str, first: bool
) -> None:
    names = [f"layers.{number}.weight" for number in range(20)]
    prefixes = (better, worse) if first else (worse, better)
    state = {
        prefix + name: torch.full((2,), float(prefix == better))
        for prefix in prefixes
        for name in names
    }
    chosen = choose_state([state], names, names)
    assert {name: float(chosen[name][0]) for name in names} == dict.fromkeys(names, 1.0)


def test_integers_in_the_places_of_weights_are_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2))
    for dtype in (torch.int8, torch.int64):
        state = {name: (100 * each).to(dtype) for name, each in network.state_dict().items()}
        with pytest.raises(ValueError, match="holds integers"):
            _check_real(state, network.state_dict())
    _check_real(network.half().state_dict(), network.state_dict())
