"""Tables of thresholds, from counts made by hand."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_average_precision

from rhm.errors import ConfigError
from rhm.report.cross_domain import group_runs, targets_of
from rhm.report.runs import load_run
from rhm.report.thresholds import precision_recall, threshold_gains
from tests.report.conftest import MakeRun


def edited(run: Path, domain: int, **changes: object) -> Path:
    """Change a domain's scores in a run folder."""
    path = run / "evaluation" / "scores.json"
    scores = json.loads(path.read_text())
    scores["domains"][domain] |= changes
    path.write_text(json.dumps(scores))
    return run


def with_levels(run: Path, pixels: list[int], buildings: list[int]) -> Path:
    calibration = {"ece": 0.1, "bins": [], "levels": {"pixels": pixels, "buildings": buildings}}
    return edited(run, 0, calibration=calibration)


def test_precision_and_recall_are_those_of_torchmetrics(make_run: MakeRun) -> None:
    pixels, buildings = [50, 0, 20, 10, 4], [3, 0, 5, 8, 4]
    run = load_run(with_levels(make_run("a", {"town": 0.5}), pixels, buildings))
    groups = group_runs([run])
    (curve,) = precision_recall(groups, targets_of([run]))
    truth = np.concatenate([np.arange(n) < k for n, k in zip(pixels, buildings, strict=True)])
    level = np.repeat(np.arange(5), pixels) / 5
    expected = binary_average_precision(torch.tensor(level), torch.tensor(truth).int())
    assert curve.average_precision == pytest.approx(expected.item())
    assert curve.buildings == pytest.approx(20 / 84)
    assert curve.points[0] == (4 / 20, 1.0)
    assert curve.points[-1] == (1.0, 20 / 84)
    assert all(a[0] <= b[0] for a, b in pairwise(curve.points))
    assert curve.at_recall(0.3) == pytest.approx(12 / 14)
    assert curve.at_recall(1.1) is None


def test_seeds_are_pooled_in_curves_and_apart_in_gains(make_run: MakeRun) -> None:
    runs = [
        with_levels(make_run("a", {"town": 0.25}, seed=0), [8, 2, 2, 4], [0, 2, 0, 2]),
        with_levels(make_run("b", {"town": 0.5}, seed=1), [12, 0, 0, 4], [0, 0, 0, 4]),
    ]
    loaded = [load_run(run) for run in runs]
    groups, targets = group_runs(loaded), targets_of(loaded)
    (curve,) = precision_recall(groups, targets)
    assert curve.points[0] == (6 / 8, 6 / 8)
    (gain,) = threshold_gains(groups, targets)
    # The first seed is best at level 1 of 4: all 4 buildings among 8 pixels. The second is
    # right at any of three thresholds, of which the middle one is taken.
    assert gain.best_iou == pytest.approx((0.5 + 1.0) / 2)
    assert gain.best == pytest.approx((0.25 + 0.5) / 2)
    assert gain.iou == pytest.approx(0.375)
    assert gain.gain == pytest.approx(0.375)
    assert gain.gain_sd == pytest.approx(np.std([0.25, 0.5], ddof=1))
    assert gain.used == 0.5


def test_a_threshold_between_two_levels_is_never_a_loss(make_run: MakeRun) -> None:
    run = load_run(with_levels(make_run("a", {"town": 0.9}), [5, 5], [1, 4]))
    (gain,) = threshold_gains(group_runs([run]), targets_of([run]))
    assert (gain.best, gain.best_iou, gain.gain) == (0.5, 0.9, 0.0)


def test_without_buildings_there_is_nothing_to_choose(make_run: MakeRun) -> None:
    run = load_run(with_levels(make_run("a", {"town": 0.0}), [5, 5], [0, 0]))
    groups, targets = group_runs([run]), targets_of([run])
    assert not precision_recall(groups, targets)
    assert not threshold_gains(groups, targets)


@pytest.mark.parametrize(
    "levels", [([1, 2], [1]), ([1, 2], [2, 2]), ([1, 2], [-1, 2])], ids=["short", "more", "less"]
)
def test_impossible_counts_are_refused(
    make_run: MakeRun, levels: tuple[list[int], list[int]]
) -> None:
    run = with_levels(make_run("a", {"town": 0.5}), *levels)
    with pytest.raises(ConfigError, match="share of the pixels"):
        load_run(run)
