"""Diagnostics against hand-made histograms, bins and logs."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from rhm.report.cross_domain import Group, group_runs, rankings, targets_of
from rhm.report.diagnostics import galleries, histograms, reliability, training_curves
from rhm.report.runs import load_run
from tests.report.conftest import MakeRun, level_histogram
from tests.report.test_thresholds import edited


def load(*folders: Path) -> tuple[Group, ...]:
    return group_runs([load_run(folder) for folder in folders])


def test_the_drawn_source_is_the_one_the_distance_is_to(make_run: MakeRun) -> None:
    groups = load(make_run("a", {"city": 0.3}, sources=("town", "port")))
    groups[0].runs[0].scores.model.histograms["port"] = (tuple(level_histogram(99)),)
    (row,) = histograms(groups, targets_of(groups[0].runs))
    assert row.nearest == "port"
    assert row.bands[0].source == tuple(level_histogram(99))
    assert row.bands[0].quantiles == pytest.approx((100 / 255,) * 3)
    assert row.bands[0].matched == tuple(level_histogram(100))
    assert row.bands[0].matched_distance == 0.0


def test_what_matching_leaves_is_scipys_distance(make_run: MakeRun) -> None:
    wanted = np.random.default_rng(1).dirichlet(np.ones(256)).tolist()
    run = edited(make_run("a", {"city": 0.3}), 0, histogram=[wanted])
    groups = load(run)
    few = (0.5, 0.25, 0.25, *[0.0] * 253)
    groups[0].runs[0].scores.model.histograms["town"] = (few,)
    (row,) = histograms(groups, targets_of(groups[0].runs))
    (band,) = row.bands
    assert band.matched is not None
    levels = np.arange(256) / 255
    expected = wasserstein_distance(levels, levels, band.matched, wanted)
    assert expected > 0.01
    assert band.matched_distance == pytest.approx(expected)


def test_bins_are_pooled_by_pixels_and_empty_ones_left_out(make_run: MakeRun) -> None:
    groups = load(make_run("a", {"city": 0.3}), make_run("b", {"city": 0.3}, seed=1))
    (curve,) = reliability(groups, targets_of(groups[0].runs))
    (only,) = curve.bins
    assert (only.confidence, only.frequency, only.count) == pytest.approx((0.2, 0.1, 60))


def test_long_curves_are_thinned_without_moving_their_mean(make_run: MakeRun) -> None:
    run = make_run("a", {"city": 0.3})
    losses = np.random.default_rng(0).uniform(size=1000)
    lines = [f"{step},{loss!r}," for step, loss in enumerate(losses.tolist())]
    (run / "metrics.csv").write_text("\n".join(["step,train_loss,val_iou", *lines, "500,,0.4"]))
    (curve,) = training_curves(load(run))
    assert len(curve.train_loss) == 200
    assert np.mean([value for _, value in curve.train_loss]) == pytest.approx(losses.mean())
    assert (curve.last_step, curve.last_loss) == (999, losses[-1])
    assert (curve.best_step, curve.best_iou) == (500, 0.4)


def test_the_same_tile_is_shown_by_both_methods(make_run: MakeRun) -> None:
    groups = load(
        make_run("a", {"city": 0.1}),
        make_run("b", {"city": 0.2}, method="gamma"),
        make_run("c", {"city": 0.3}, method="rhm"),
    )
    targets = targets_of(groups[0].runs)
    (gallery,) = galleries(groups, rankings(groups, targets), targets)
    assert gallery.methods == ("rhm", "none")
    (tile,) = gallery.tiles
    assert [view.method for view in tile.views] == ["rhm", "none"]
