"""Label-free measures against the loss, from numbers made by hand."""

import json

import numpy as np
import pytest

from rhm.evaluation.pooled_scores import calibration_of
from rhm.evaluation.scores import Calibration, Levels
from rhm.evaluation.tile_scores import LEVELS
from rhm.report.cross_domain import group_runs, targets_of
from rhm.report.runs import load_run
from rhm.report.without_labels import DistanceLoss, distance_losses, expected_iou, rank_correlations
from rhm.training.metrics import CalibrationBins
from tests.report.conftest import MakeRun
from tests.report.test_thresholds import edited


def at_middles(pixels: tuple[int, ...], buildings: tuple[int, ...]) -> Calibration:
    """Levels whose probabilities are known of no bin."""
    return Calibration(None, (), Levels(pixels, buildings))


def test_expected_iou_is_what_the_probabilities_promise() -> None:
    levels = at_middles((100, 40, 20, 10), (0, 0, 0, 0))  # at 1/8, 3/8, 5/8, 7/8
    called, missed = 20 * 5 / 8 + 10 * 7 / 8, 100 / 8 + 40 * 3 / 8
    assert expected_iou(levels, 0.5) == pytest.approx(called / (30 + missed))
    assert expected_iou(levels, 0.75) == pytest.approx((10 * 7 / 8) / (10 + missed + 20 * 5 / 8))
    assert expected_iou(levels, 1.0) == 0.0
    assert expected_iou(at_middles((0, 0), (0, 0)), 0.5) is None
    assert expected_iou(at_middles((), ()), 0.5) is None


def test_a_calibrated_model_gets_what_it_expects() -> None:
    # Of each level as many pixels are building as it says: expected and true IoU are one.
    pixels, buildings = (80, 80, 80, 80), (10, 30, 50, 70)
    hits, missed = 50 + 70, 10 + 30
    assert expected_iou(at_middles(pixels, buildings), 0.5) == pytest.approx(hits / (160 + missed))


@pytest.mark.parametrize("background", [1e-6, 1e-4, 1e-3, 0.02])
@pytest.mark.parametrize("share", [0.005, 0.2])
def test_what_a_model_expects_is_exact_where_buildings_are_rare(
    background: float, share: float
) -> None:
    """Oracle: the sums of all probabilities themselves."""
    rng = np.random.default_rng(0)
    built = rng.random(200_000) < share
    probability = np.where(
        built, rng.uniform(0.3, 1.0, built.size), background * rng.random(built.size)
    ).astype(np.float32)
    counted = CalibrationBins.of(probability, built, bins=LEVELS)
    for threshold in (0.5, 0.35):
        called = probability >= threshold
        union = called.sum() + probability[~called].sum(dtype=np.float64)
        exact = probability[called].sum(dtype=np.float64) / union
        found = expected_iou(calibration_of(counted), threshold)
        assert found == pytest.approx(exact, abs=2e-3)


def test_loss_is_against_the_models_own_domains(make_run: MakeRun) -> None:
    runs = [
        edited(make_run("a", {"town": 0.6, "city": 0.1}, seed=0), 1, distance=[0.1, 0.3]),
        edited(make_run("b", {"town": 0.8, "city": 0.5}, seed=1), 1, distance=[0.4, None]),
    ]
    loaded = [load_run(run) for run in runs]
    (row,) = distance_losses(group_runs(loaded), targets_of(loaded))
    assert row.target.name == "city"
    assert row.distance == pytest.approx((0.2 + 0.4) / 2)
    assert row.loss == pytest.approx((0.5 + 0.3) / 2)
    assert row.expected_loss == 0.0  # both domains have the same probabilities here


def test_without_levels_nothing_is_expected(make_run: MakeRun) -> None:
    run = make_run("a", {"town": 0.6, "city": 0.1})
    for place in (0, 1):
        bins = json.loads((run / "evaluation" / "scores.json").read_text())["domains"][place]
        none = bins["calibration"] | {"levels": {"pixels": [], "buildings": []}}
        edited(run, place, calibration=none)
    loaded = [load_run(run)]
    assert distance_losses(group_runs(loaded), targets_of(loaded)) == ()


def test_rank_correlation_needs_pairs_that_differ(make_run: MakeRun) -> None:
    run = load_run(make_run("a", {"town": 0.6, "city": 0.1}))
    (row,) = distance_losses(group_runs([run]), targets_of([run]))

    def rows(method: str, losses: list[float]) -> list[DistanceLoss]:
        return [
            DistanceLoss(row.sources, method, row.target, index / 10, -loss, loss)
            for index, loss in enumerate(losses)
        ]

    found = rank_correlations(
        [
            *rows("up", [0.1, 0.2, 0.3, 0.4]),
            *rows("few", [0.1, 0.2, 0.3]),
            *rows("flat", [0.1] * 5),
            *rows("mixed", [0.1, 0.3, 0.2, 0.4]),
        ]
    )
    assert [(each.method, each.pairs) for each in found] == [
        ("up", 4),
        ("few", 3),
        ("flat", 5),
        ("mixed", 4),
    ]
    assert found[0].distance == pytest.approx(1.0)
    assert found[0].expected_loss == pytest.approx(-1.0)
    for each in found[1:3]:
        assert each.distance is None
        assert each.expected_loss is None
    assert found[3].distance == pytest.approx(0.8)
