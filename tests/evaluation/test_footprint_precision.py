"""Precision of footprints: against matches counted by hand, and promises that are kept at home."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shapely import box

from rhm.data import Catalog
from rhm.evaluation.evaluator import evaluate_model
from rhm.evaluation.footprint_precision import calibrate_scores, scored_footprints
from rhm.evaluation.score_files import read_scores
from rhm.inference.tiling.stream import Tiling
from rhm.models.build import SegmentationModel
from rhm.report.runs import load_run
from rhm.report.section import Comparison
from rhm.report.sections.footprint_scores import promised_precision, section
from rhm.training.metrics import matched_predictions, object_scores

TILING = Tiling(tile=64, overlap=16)
REPEATED = 12  # the few footprints of a small catalog, several times


@pytest.fixture(scope="module")
def catalog(catalog_path: Path) -> Catalog:
    return Catalog.load(catalog_path).select(domains=["alder_aerial"])


def test_the_surer_of_two_footprints_takes_the_building_that_both_match() -> None:
    truth = np.array([box(0, 0, 10, 10), box(20, 0, 30, 10)])
    found = np.array([box(0, 0, 10, 9), box(0, 0, 10, 10), box(20, 0, 24, 10), box(50, 0, 60, 10)])
    scores = np.array([0.6, 0.9, 0.8, 0.7])
    assert matched_predictions(truth, found, scores).tolist() == [False, True, False, False]
    assert matched_predictions(truth, found, 1 - scores).tolist() == [True, False, False, False]
    counted = object_scores(truth, found, scores=scores)
    assert counted.true_positives == matched_predictions(truth, found, scores).sum()


def test_footprints_are_scored_by_their_mean_probability(
    bright: SegmentationModel, catalog: Catalog
) -> None:
    found = scored_footprints(bright, catalog.tiles[0], tiling=TILING)
    assert found.scores.shape == found.correct.shape
    assert ((found.scores >= 0.5) & (found.scores <= 1.0)).all()


def test_a_calibration_promises_the_share_that_is_correct_where_it_was_measured(
    bright: SegmentationModel, catalog: Catalog, tmp_path: Path
) -> None:
    measured = calibrate_scores(bright, catalog.tiles * REPEATED, tiling=TILING)
    assert measured is not None
    promised = np.average(measured.precision, weights=measured.footprints)
    assert promised == pytest.approx(sum(measured.correct) / measured.total)
    spec = bright.spec
    try:
        bright.spec = replace(spec, score_calibration=measured, sources=("alder_aerial",))
        folder = tmp_path / "run" / "evaluation"
        evaluate_model(bright, catalog, folder, name="run", split=None, tiling=TILING)
    finally:
        bright.spec = spec
    (domain,) = read_scores(folder).domains
    bins = domain.footprint_scores
    assert REPEATED * sum(each.footprints for each in bins) == measured.total
    assert REPEATED * sum(each.correct for each in bins) == sum(measured.correct)
    comparison = Comparison.of([load_run(tmp_path / "run")])
    rows = promised_precision(comparison.groups, comparison.targets)
    assert REPEATED * sum(row.footprints for row in rows) == measured.total
    kept = np.average([row.promised for row in rows], weights=[row.footprints for row in rows])
    assert kept == pytest.approx(promised, abs=0.05)
    assert section(comparison).shown


def test_models_without_a_calibration_have_no_such_section(
    bright: SegmentationModel, catalog: Catalog, tmp_path: Path
) -> None:
    folder = tmp_path / "run" / "evaluation"
    spec = bright.spec
    try:
        bright.spec = replace(spec, sources=("alder_aerial",))
        evaluate_model(bright, catalog, folder, name="run", split=None, tiling=TILING)
    finally:
        bright.spec = spec
    assert read_scores(folder).domains[0].footprint_scores == ()
    shown = section(Comparison.of([load_run(tmp_path / "run")]))
    assert (shown.shown, dict(shown.numbers)) == (False, {})


def test_footprints_of_pixels_of_unknown_size_are_those_of_a_prediction(
    bright: SegmentationModel, catalog: Catalog
) -> None:
    spec, tile = bright.spec, catalog.tiles[0]
    try:
        as_predicted = scored_footprints(bright, replace(tile, gsd_m=1.0), tiling=TILING)
        bright.spec = replace(spec, gsd_m=0.1)
        found = scored_footprints(bright, replace(tile, gsd_m=None), tiling=TILING)
    finally:
        bright.spec = spec
    assert len(found.scores)
    np.testing.assert_array_equal(found.scores, as_predicted.scores)
