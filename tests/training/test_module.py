"""One optimisation step; oracles: torch's own schedules and the groups written out."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from rhm.models.build import SegmentationModel
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


def rates(schedule: str) -> list[float]:
    """The learning rate of every step of a run."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = _schedule(optimizer, OptimizerConfig(0.1, schedule=schedule), STEPS)
    found = []
    for _ in range(STEPS):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_schedule_goes_above_the_learning_rate(schedule: str) -> None:
    found = rates(schedule)
    assert max(found) == pytest.approx(0.1)
    assert min(found) > 0.0


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


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "staircase"},
        {"learning_rate": 0.0},
        {"learning_rate": 10.0},
        {"weight_decay": -1e-3},
        {"clip_norm": math.inf},
        {"clip_norm": math.nan},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        OptimizerConfig(**settings)
