"""One optimisation step; oracles: torch's own schedules and the groups written out."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import timm
import torch
from torch import nn

from rhm.errors import ConfigError
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec
from rhm.training.config import RunConfig
from rhm.training.fitting import build_model
from rhm.training.imagery import gather
from rhm.training.module import (
    SCHEDULES,
    OptimizerConfig,
    SegmentationModule,
    _schedule,
    freeze_batch_norm,
    parameter_groups,
)

STEPS = 40


def rates(schedule: str, steps: int = STEPS) -> list[float]:
    """The learning rate of every step of a run."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = _schedule(optimizer, OptimizerConfig(0.1, schedule=schedule), steps)
    found = []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_schedule_goes_above_the_learning_rate(schedule: str) -> None:
    found = rates(schedule)
    # One cycle is at its top between two steps.
    assert max(found) == pytest.approx(0.1, rel=5e-3)
    assert max(found) <= 0.1 + 1e-12
    assert min(found) > 0.0


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", range(1, 9))
def test_a_run_may_have_few_steps(schedule: str, steps: int) -> None:
    assert all(0.0 < rate <= 0.1 for rate in rates(schedule, steps))


def test_schedules_are_what_their_names_say() -> None:
    assert rates("constant") == pytest.approx([0.1] * STEPS)
    expected = [0.05 * (1.0 + math.cos(math.pi * step / STEPS)) for step in range(STEPS)]
    assert rates("cosine") == pytest.approx(expected)
    cycle = rates("one-cycle")
    top = cycle.index(max(cycle))
    assert abs(top - STEPS / 4) <= 1
    assert cycle[: top + 1] == sorted(cycle[: top + 1])
    assert cycle[top:] == sorted(cycle[top:], reverse=True)


def test_only_weights_that_multiply_are_decayed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    model[2].weight.requires_grad_(False)
    decayed, plain = parameter_groups(model, 0.2)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.2, 0.0)
    assert [id(each) for each in decayed["params"]] == [id(model[0].weight)]
    assert {id(each) for each in plain["params"]} == {
        id(each) for each in (model[0].bias, model[1].weight, model[1].bias, model[2].bias)
    }


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [
        ("unet", "swin_tiny_patch4_window7_224"),
        ("unet", "swinv2_tiny_window8_256"),
        ("unet", "maxvit_nano_rw_256"),
        ("dpt", "vit_tiny_patch16_224"),
    ],
)
def test_what_a_backbone_exempts_is_not_decayed(architecture: str, encoder: str) -> None:
    """Oracle: what timm's own model says, which one that returns features does not."""
    model = SegmentationModel(ModelSpec(architecture, encoder, 3))
    decayed, plain = parameter_groups(model, 0.2)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert len(decayed["params"]) + len(plain["params"]) == len(names)
    whole = timm.create_model(encoder)
    said = whole.no_weight_decay()  # type: ignore[operator]
    exempt = {each.numel() for name, each in whole.named_parameters() if name in said}
    assert exempt
    assert exempt <= {each.numel() for each in plain["params"]}
    told = ("pos_", "bias_table", "cpb_mlp", "logit_scale", "token")
    left = [names[id(each)] for each in decayed["params"]]
    assert not [name for name in left if any(part in name for part in told)]


def test_frozen_batch_norms_neither_learn_nor_count() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = {name: each.clone() for name, each in model[1].state_dict().items()}
    freeze_batch_norm(model)
    model(torch.randn(2, 3, 8, 8) + 5.0).sum().backward()
    assert all(torch.equal(before[name], each) for name, each in model[1].state_dict().items())
    assert model[1].weight.grad is None
    assert model[0].weight.grad is not None


@pytest.fixture
def model(tiny: Callable[..., RunConfig]) -> SegmentationModel:
    config = tiny()
    return build_model(config, gather(config))


def test_dropout_is_drawn_by_the_place_in_the_run(model: SegmentationModel) -> None:
    """A resumed run draws what an uninterrupted one would have drawn at that batch."""

    def drawn(seed: int, batch_index: int) -> float:
        module = SegmentationModule(model, nn.Identity(), OptimizerConfig(), seed=seed)
        module._fabric = None
        module.__dict__["_trainer"] = Place()
        batch: Any = {}
        module.on_train_batch_start(batch, batch_index)
        return float(torch.rand(1))

    class Place:
        current_epoch = 3
        global_rank = 0

    assert drawn(0, 7) == drawn(0, 7)
    assert len({drawn(0, 7), drawn(0, 8), drawn(1, 7)}) == 3


class Precision:
    """Stands where a trainer would."""

    global_step = 12
    global_rank = 0
    world_size = 1

    def __init__(self, precision: str) -> None:
        self.precision = precision


def steps_until_divergence(model: SegmentationModel, precision: str, losses: list[float]) -> int:
    """Train on some losses, and return how many of them it took to give up."""
    given = iter(losses)

    class Given(nn.Module):
        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return torch.tensor(next(given))

    module = SegmentationModule(model.eval(), Given(), OptimizerConfig())
    module._fabric = None
    module.__dict__["_trainer"] = Precision(precision)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    chip: Any = {"image": torch.zeros(1, 3, 32, 32), "mask": torch.zeros(1, 1, 32, 32).long()}
    for number in range(len(losses)):
        with suppress(ConfigError):
            module.training_step(chip, number)
            continue
        return number + 1
    return 0


@pytest.mark.parametrize(
    ("precision", "losses", "expected"),
    [
        ("32-true", [0.5, math.nan, 0.5], 2),
        ("bf16-mixed", [math.inf], 1),
        ("16-mixed", [0.5, math.inf, math.nan, 0.5], 0),
        ("16-mixed", [math.inf] * 15 + [0.5] + [math.inf] * 15, 0),
        ("16-mixed", [0.5] + [math.inf] * 30, 22),
    ],
)
def test_a_loss_that_overflows_in_float16_is_the_scalers_to_handle(
    model: SegmentationModel, precision: str, losses: list[float], expected: int
) -> None:
    assert steps_until_divergence(model, precision, losses) == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "staircase"},
        {"learning_rate": 0.0},
        {"learning_rate": 10.0},
        {"weight_decay": -1e-3},
        {"clip_norm": math.inf},
        {"clip_norm": math.nan},
        {"eps": 0.0},
        {"eps": 1.0},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        OptimizerConfig(**settings)
