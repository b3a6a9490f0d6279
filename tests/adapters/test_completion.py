"""Matrix completion: the authors' recorded runs, automatic derivatives, and laws."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rhm.adapters.completion import METHODS, complete_matrix
from rhm.errors import ConfigError
from tests.adapters.problems import problem


@pytest.mark.shared
@pytest.mark.parametrize(
    ("recorded", "method", "outer_lr_ratio"),
    [("wide", "full", 0.01), ("comp", "compressed", 0.01), ("comp0", "compressed", 0.0)],
)
def test_the_losses_are_those_of_the_authors_program(
    shared_oracles: Path, recorded: str, method: str, outer_lr_ratio: float
) -> None:
    oracle = np.load(shared_oracles / "parsimony.npz")
    found = complete_matrix(
        oracle["target"],
        oracle["mask"],
        rank=int(oracle["r"]),
        init_scale=float(oracle["eps"]),
        step_size=float(oracle["step"]),
        method=method,
        outer_lr_ratio=outer_lr_ratio,
        max_steps=15_000,
        record_every=int(oracle["inner"]),
        weights=[torch.tensor(oracle[name]) for name in ("W1", "W2", "W3")],
    )
    train, test = oracle[f"{recorded}_train"], oracle[f"{recorded}_test"]
    assert len(found.steps) == len(train)
    for ours, theirs in ((found.train_loss, train), (found.test_loss, test)):
        np.testing.assert_allclose(ours[:20], theirs[:20], rtol=1e-6)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert found.converged == (recorded != "comp0")
    assert found.converged == (found.train_loss[-1] < 1e-9)


@pytest.mark.parametrize("shape", [(40, 40), (30, 50), (50, 30)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", ["full", "compressed"])
def test_a_matrix_of_low_rank_is_completed(
    shape: tuple[int, int], dtype: torch.dtype, method: str
) -> None:
    target, mask = problem(*shape, 2, 0.5)
    unknown = torch.where(mask, target, torch.nan).to(dtype)
    found = complete_matrix(
        unknown, mask, rank=2, method=method, init_scale=0.1, stop_train_loss=1e-7
    )
    assert found.converged
    assert found.product().shape == shape
    assert found.product().dtype == dtype
    error = torch.linalg.norm(found.product() - target) / torch.linalg.norm(target)
    assert error < 0.01
    assert math.isnan(found.test_loss[-1])


def test_a_compressed_network_starts_where_the_full_one_of_its_seed_does() -> None:
    target, mask = problem(40, 40, 2, 0.6)
    full, small = (
        complete_matrix(target, mask, rank=2, method=method, max_steps=400, record_every=50)
        for method in ("full", "compressed")
    )
    np.testing.assert_allclose(full.train_loss[:3], small.train_loss[:3], rtol=1e-6)
    again = complete_matrix(target, mask, rank=2, max_steps=400, record_every=50)
    assert again.train_loss == small.train_loss
    other = complete_matrix(target, mask, rank=2, max_steps=400, record_every=50, seed=1)
    assert other.train_loss != small.train_loss


def test_records_are_taken_at_the_start_and_at_the_end() -> None:
    target, mask = problem(20, 20, 1, 0.5)
    found = complete_matrix(target, mask, rank=1, max_steps=25, record_every=10)
    assert found.steps == (0, 10, 20, 25)
    assert list(found.seconds) == sorted(found.seconds)
    assert found.seconds[0] > 0.0
    assert found.train_loss[0] == pytest.approx(0.5 * float((mask * target).square().mean()))
    assert found.test_loss[0] == pytest.approx(0.5 * float((~mask * target).square().mean()))


def test_frozen_outer_factors_stay() -> None:
    target, mask = problem(30, 30, 2, 0.5)
    settings: dict[str, Any] = {"rank": 2, "init_scale": 0.3, "record_every": 1}
    first = complete_matrix(target, mask, outer_lr_ratio=0.0, max_steps=1, **settings)
    later = complete_matrix(target, mask, outer_lr_ratio=0.0, max_steps=50, **settings)
    assert torch.equal(first.factors[0], later.factors[0])
    assert torch.equal(first.factors[-1], later.factors[-1])
    trained = complete_matrix(target, mask, max_steps=50, **settings)
    assert not torch.equal(first.factors[0], trained.factors[0])


def test_given_weights_are_left_as_they_are() -> None:
    target, mask = problem(12, 12, 1, 0.5)
    weights = [0.1 * torch.eye(12, dtype=torch.float64) for _ in range(2)]
    before = [weight.clone() for weight in weights]
    for method in METHODS:
        complete_matrix(target, mask, rank=1, method=method, weights=weights, max_steps=5)
    assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))


TARGET, MASK = problem(8, 8, 1, 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": torch.zeros(8, 8)}, "no entry of the matrix is known"),
        ({"target": torch.full((8, 8), torch.nan)}, "must be finite"),
        ({"target": torch.zeros(8, 8)}, "all zero"),
        ({"rank": 5}, "rank 5 of a 8 x 8 matrix must be from 1 to 4"),
        ({"rank": 0}, "rank 0 of a 8 x 8 matrix must be from 1 to 4"),
        ({"depth": 1}, "depth 1 must be at least 2"),
        ({"method": "wide"}, "unknown method 'wide': choose full, compressed, narrow"),
        ({"max_steps": 0}, "max_steps 0"),
        ({"record_every": 0}, "record_every 0"),
        ({"step_size": 0.0}, "step_size 0.0 must be greater than 0"),
        ({"step_size": 1e9, "init_scale": 1.0}, "choose a smaller step_size"),
        ({"outer_lr_ratio": -1.0}, "outer_lr_ratio -1.0"),
        ({"init_scale": 0.0}, "init_scale 0.0"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"target": TARGET, "mask": MASK, "rank": 1} | changes
    with pytest.raises(ConfigError, match=message) as error:
        complete_matrix(settings.pop("target"), settings.pop("mask"), **settings)
    assert "\n" not in str(error.value)


def test_shapes_that_do_not_fit_are_mistakes() -> None:
    with pytest.raises(ValueError, match="not matrices of the same shape"):
        complete_matrix(TARGET, MASK[:4], rank=1)
    with pytest.raises(ValueError, match="do not chain"):
        complete_matrix(TARGET, MASK, rank=1, weights=[torch.eye(8), torch.eye(7)])
