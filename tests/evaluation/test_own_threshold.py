"""Thresholds without labels; oracle: the best of all thresholds for the predicted probabilities."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rhm.data import Catalog
from rhm.evaluation.evaluator import evaluate_model
from rhm.evaluation.own_threshold import own_threshold
from rhm.evaluation.score_files import read_scores
from rhm.evaluation.scores import Scores, Shift, not_implied
from rhm.evaluation.tile_scores import count, see
from rhm.models.build import SegmentationModel
from rhm.models.expected_iou import ExpectedIoU
from tests.evaluation.test_evaluator import TILING, catalog, model

__all__ = ["catalog", "model"]

PLACE = "alder_aerial"


def evaluated(model: SegmentationModel, catalog: Catalog, folder: Path, **options: Any) -> Scores:
    """The scores of a model, by default on all images of one place."""
    common = {"name": "own", "split": None, "domains": [PLACE], "tiling": TILING}
    return evaluate_model(model, catalog, folder / "evaluation", **(common | options))


def test_the_threshold_is_the_best_of_all_for_all_images_together(
    model: SegmentationModel, catalog: Catalog, tmp_path: Path
) -> None:
    tiles = catalog.select(domains=[PLACE]).tiles
    lost = [replace(tile, label=tmp_path / "lost.png") for tile in tiles]
    found, paths = own_threshold(model, lost, tmp_path, shift=None, tiling=TILING)
    shown = [see(model, tile, shift=None, tiling=TILING) for tile in tiles]
    scores = []
    for level in range(255):
        seen = ExpectedIoU((level - 0.5) / 254)
        for each in shown:
            seen.add(each.probability, np.ones(each.valid.shape, dtype=bool))
        scores.append((seen.value or 0.0, (level - 0.5) / 254))
    assert found == pytest.approx(max(scores)[1])
    for each, path in zip(shown, paths, strict=True):
        np.testing.assert_array_equal(np.load(path)[0], each.probability)


@pytest.mark.parametrize("shift", [None, Shift("gamma", 1)])
def test_an_evaluation_scores_each_domain_at_its_own_threshold(
    model: SegmentationModel, catalog: Catalog, tmp_path: Path, shift: Shift | None
) -> None:
    shifts = [shift] if shift else []
    done: list[int] = []
    scores = evaluated(
        model,
        catalog,
        tmp_path,
        domains=[PLACE, "birch_aerial"],
        shifts=shifts,
        threshold="auto",
        on_progress=lambda: done.append(1),
    )
    used = {domain.name: scores.threshold_of(domain) for domain in scores.domains}
    assert len(set(used.values())) == len(used) == 2 + len(shifts)
    assert scores.threshold == model.spec.threshold
    assert len(done) == 6 * len(used)
    for domain in scores.domains:
        name = domain.name.partition(" ")[0]
        total = None
        for tile in catalog.select(domains=[name]).tiles:
            seen = see(model, tile, shift=domain.shift, tiling=TILING, threshold=used[domain.name])
            counted = count(seen, tile, used[domain.name])
            total = counted.pixels if total is None else total + counted.pixels
        assert total is not None
        assert domain.pixel.iou.value == pytest.approx(total.iou, abs=1e-9)
    assert read_scores(tmp_path / "evaluation").domains[0].threshold == used[PLACE]


def test_a_given_threshold_is_that_of_all_domains(
    model: SegmentationModel, catalog: Catalog, tmp_path: Path
) -> None:
    plain = evaluated(model, catalog, tmp_path / "plain")
    given = evaluated(model, catalog, tmp_path / "given", threshold=0.8)
    assert (given.threshold, given.domains[0].threshold) == (0.8, None)
    assert given.domains[0].pixel.recall.value != plain.domains[0].pixel.recall.value


def test_without_a_building_the_threshold_stays_and_is_said_to(
    model: SegmentationModel, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExpectedIoU, "implied_threshold", lambda self: None)
    scores = evaluated(model, catalog, tmp_path, threshold="auto")
    (domain,) = read_scores(tmp_path / "evaluation").domains
    assert (domain.threshold, domain.implied) == (model.spec.threshold, False)
    told = not_implied(scores.domains)
    assert told is not None
    assert told.startswith(f"the probabilities in {PLACE} imply hardly a building")
    assert not_implied([replace(domain, implied=True)]) is None


@pytest.mark.parametrize("threshold", [np.float32(0.9), 1])
def test_a_threshold_may_be_any_number(
    model: SegmentationModel, catalog: Catalog, tmp_path: Path, threshold: float
) -> None:
    found = evaluated(model, catalog, tmp_path, threshold=threshold)
    tiles = catalog.select(domains=[PLACE]).tiles
    seen = [see(model, each, shift=None, tiling=TILING, threshold=threshold) for each in tiles]
    counted = [count(each, tile, threshold) for each, tile in zip(seen, tiles, strict=True)]
    called = sum(each.pixels.true_positives + each.pixels.false_positives for each in counted)
    assert (found.domains[0].pixel.precision.value is None) == (called == 0)
    objects = sum(each.objects.true_positives for each in counted)
    assert found.domains[0].object.true_positives == objects
