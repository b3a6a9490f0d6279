"""Deep updates in both regimes; oracles: the theorem, and the loss written out."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from rhm.errors import ConfigError
from rhm.lab.deep_updates import (
    INIT_SCALE,
    KINDS,
    LearningTask,
    _parts,
    learn,
    linear_task,
    network_task,
    run_deep_updates,
)

WIDTH, RANK = 16, 2


def test_in_one_layer_the_compressed_update_follows_the_wide_one() -> None:
    task = linear_task(WIDTH, RANK, seed=0)
    wide, compressed = (learn(task, kind, 2 * RANK, steps=600) for kind in ("wide", "compressed"))
    assert wide.rate == compressed.rate
    # Besides what the theorem leaves alone: d - 2r directions that stay near zero.
    rest = (WIDTH - 2 * RANK) * INIT_SCALE**6 / 2
    start = float(task.loss([torch.zeros(WIDTH, WIDTH, dtype=torch.float64)]))
    np.testing.assert_allclose(wide.loss * start, compressed.loss * start, atol=2 * rest)
    assert compressed.loss[-1] < 1e-5
    np.testing.assert_allclose(
        wide.singular_values[:, :RANK], compressed.singular_values[:, :RANK], atol=1e-6
    )
    random = learn(task, "random factors", 2 * RANK, steps=600)
    assert random.loss[-1] > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_every_update_starts_where_it_should(kind: str) -> None:
    task = network_task(WIDTH, RANK, 20, seed=1)
    for part in _parts(task, kind, 4, seed=1):
        values = torch.linalg.svdvals(part.update())
        if kind == "lora":
            assert values.max() == 0.0
        else:
            full = WIDTH if kind == "wide" else 4
            expected = [INIT_SCALE**3] * full + [0.0] * (WIDTH - full)
            torch.testing.assert_close(
                values, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=1e-6
            )


def test_a_compressed_update_starts_as_the_wide_one_within_its_directions() -> None:
    task = network_task(WIDTH, RANK, 20, seed=1)
    both = (_parts(task, kind, 4, seed=3) for kind in ("wide", "compressed"))
    for wide, small in zip(*both, strict=True):
        right = small.outer[1]
        torch.testing.assert_close(wide.update() @ right, small.update() @ right)


def test_the_wanted_change_has_no_loss_and_the_error_is_relative() -> None:
    task = linear_task(WIDTH, RANK, seed=2)
    zero = torch.zeros(WIDTH, WIDTH, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(task.loss([zero]), zero)
    assert float(task.loss([-gradient])) == pytest.approx(0.0, abs=1e-20)
    assert torch.linalg.matrix_rank(gradient) == RANK
    assert float(task.error([zero])) == 1.0


def test_the_network_is_learned_from_enough_samples() -> None:
    task = network_task(WIDTH, RANK, 200, seed=0)
    wide = learn(task, "wide", WIDTH, steps=800)
    compressed = learn(task, "compressed", 2 * RANK, steps=800)
    assert wide.error < 0.02
    assert compressed.error > 5 * wide.error


def exploding(after: int) -> LearningTask:
    """A task of one number, whose loss is its square and overflows after some steps."""
    losses = iter([1.0] * (after + 1))

    def loss(updates: Sequence[torch.Tensor]) -> torch.Tensor:
        # One call is for the gradient at the start.
        return updates[0].square().sum() + next(losses, float("inf"))

    return LearningTask(1, ((4, 4),), loss, lambda _: torch.tensor(1.0))


@pytest.mark.parametrize("after", [2, 6, 10])
def test_a_divergence_between_records_is_noticed(after: int) -> None:
    """With 1010 steps every tenth is recorded, so the last finite loss is none of the end."""
    with pytest.raises(ConfigError, match="the updates diverged: lora at rank 2"):
        learn(exploding(after), "lora", 2, steps=1010)


@pytest.mark.parametrize(("steps", "records"), [(1, 2), (99, 100), (205, 104), (300, 101)])
def test_the_last_record_is_the_end(steps: int, records: int) -> None:
    task = linear_task(WIDTH, RANK, seed=0)
    path = learn(task, "compressed", 2 * RANK, steps=steps)
    assert len(path.steps) == len(path.loss) == records
    assert (path.steps[0], path.steps[-1]) == (0, steps)
    # For whitened inputs, the test loss is the training loss.
    start = float(task.loss([torch.zeros(WIDTH, WIDTH, dtype=torch.float64)]))
    begun = [part.update().detach() for part in _parts(task, "compressed", 4, seed=0)]
    first = float(task.loss(begun))
    assert path.error == pytest.approx(path.loss[-1] * first / start)


def test_a_run_has_a_path_of_every_kind_for_each_cell() -> None:
    told: list[str] = []
    result = run_deep_updates(
        width=WIDTH,
        rank=RANK,
        samples=(10, 20),
        ranks=(4, 8),
        steps=20,
        seeds=2,
        on_run=told.append,
    )
    assert len(told) == 4
    assert result.sweep.keys() == {(s, n, r) for s in (0, 1) for n in (10, 20) for r in (4, 8)}
    assert all(tuple(path.kind for path in paths) == KINDS for paths in result.sweep.values())
    assert result.network == {seed: result.sweep[seed, 20, 4] for seed in (0, 1)}
    assert all(tuple(path.kind for path in paths) == KINDS for paths in result.linear.values())
    assert not np.array_equal(result.linear[0][0].loss, result.linear[1][0].loss)
    for seed, gap in enumerate(result.gaps()):
        wide, compressed = (result.linear[seed][KINDS.index(k)] for k in ("wide", "compressed"))
        assert gap == max(abs(a - b) for a, b in zip(wide.loss, compressed.loss, strict=True))
    for path in itertools.chain.from_iterable(result.linear.values()):
        assert path.loss[0] == 1.0
        assert path.singular_values.shape == (len(path.steps), WIDTH)
        assert path.angles[-1] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rank": 5}, "quarter of the width"),
        ({"seeds": 0}, "seeds 0 must be at least 1"),
        ({"ranks": (8,)}, "must include twice the rank, 4"),
        ({"ranks": (4, 5)}, "must be even"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    values: dict[str, Any] = {"width": WIDTH, "rank": RANK, "samples": (8,), "ranks": (4,)}
    values |= {"steps": 2} | settings
    with pytest.raises(ConfigError, match=said):
        run_deep_updates(**values)
