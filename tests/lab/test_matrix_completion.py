"""The comparison of ways to complete a matrix: what the paper found, on a small matrix."""

import pytest
import torch

from rhm.adapters.completion import complete_matrix
from rhm.errors import ConfigError
from rhm.lab.matrix_completion import (
    CompletionComparison,
    CompletionRun,
    _plan,
    low_rank_problem,
    run_matrix_completion,
)


@pytest.fixture(scope="module")
def result() -> CompletionComparison:
    """The runs of depth 3, which the paper compares; those of depth 2 take as long."""
    target, mask = low_rank_problem(50, 2, 0.4)
    runs = []
    for method, depth, rank, ratio in _plan(2):
        if depth == 3:
            found = complete_matrix(
                *(target, mask),
                rank=rank,
                depth=depth,
                method=method,
                outer_lr_ratio=ratio,
                max_steps=20_000,
            )
            runs.append(CompletionRun(depth, rank, ratio, found))
    return CompletionComparison(50, 2, 0.4, tuple(runs))


def only(result: CompletionComparison, name: str, depth: int, rank: int = 2) -> float:
    (run,) = result.select(name=name, depth=depth, rank=rank)
    return run.completion.test_loss[-1] / run.completion.test_loss[0]


def test_compressed_and_full_networks_complete_the_matrix(result: CompletionComparison) -> None:
    for name in ("full", "compressed"):
        (run,) = result.select(name=name, depth=3, rank=2)
        assert run.completion.converged
        assert only(result, name, 3) < 1e-4


def test_frozen_outer_factors_do_not(result: CompletionComparison) -> None:
    assert only(result, "compressed, outer factors frozen", 3) > 0.01


def test_a_rank_that_is_too_high_does_no_harm(result: CompletionComparison) -> None:
    ends = [only(result, "compressed", 3, rank) for rank in (2, 4, 8)]
    assert max(ends) < 1e-4
    assert max(ends) < 3.0 * ends[0]


def test_a_narrow_network_of_the_same_width_takes_longer(result: CompletionComparison) -> None:
    (narrow,) = result.select(name="narrow", depth=3)
    (compressed,) = result.select(name="compressed", depth=3, rank=2)
    assert narrow.completion.steps[-1] > compressed.completion.steps[-1]


def test_the_problem_has_its_rank_and_its_share() -> None:
    target, mask = low_rank_problem(200, 3, 0.3, seed=1)
    values = torch.linalg.svdvals(target)
    assert 10.0 < float(values[2]) < float(values[0]) < 20.0
    assert float(values[3]) < 1e-12
    assert float(mask.double().mean()) == pytest.approx(0.3, abs=0.01)
    assert torch.equal(low_rank_problem(200, 3, 0.3, seed=1)[0], target)


def test_what_runs_is_told() -> None:
    told: list[str] = []
    run_matrix_completion(size=16, rank=1, known=0.8, max_steps=1, on_run=told.append)
    assert told[0] == "full, depth 3, rank 1"
    assert len(told) == 13


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 30}, "choose a size of at least 40"),
        ({"known": 0.0}, "the share 0.0"),
        ({"rank": 0}, "rank 0 must be from 1"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(
    changes: dict[str, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        run_matrix_completion(**changes)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
