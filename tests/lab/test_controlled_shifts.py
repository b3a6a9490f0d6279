"""Controlled shifts: the experiment end to end on a small town, and its parts against oracles."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.shifts import SHIFTS
from rhm.data import Catalog
from rhm.errors import CatalogError
from rhm.evaluation.evaluator import evaluate_model
from rhm.evaluation.scores import Shift
from rhm.evaluation.tile_scores import shifted
from rhm.lab.controlled_shifts import (
    AUGMENTATIONS,
    pixel_iou,
    pixels_by_probability,
    run_controlled_shifts,
    sample_town,
    shifted_bank,
)
from rhm.models.model_file import load_model


def test_the_experiment_compares_every_augmentation_under_every_shift(
    catalog_path: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    settings: dict[str, Any] = {
        "steps": 2,
        "chip_px": 32,
        "model": {"encoder": "test_efficientnet", "weights": "none"},
    }
    result = run_controlled_shifts(
        catalog_path, "alder_aerial", tmp_path, on_step=said.append, **settings
    )
    assert list(result.iou) == list(AUGMENTATIONS)
    assert all(list(iou) == ["none", *SHIFTS] for iou in result.iou.values())
    assert [line.split(" augmentation ")[1].split(",")[0] for line in said] == list(AUGMENTATIONS)

    place = Catalog.load(catalog_path).select(domains=["alder_aerial"])
    seen = {name.partition("/")[2] for name in HistogramBank.load(tmp_path / "shifted.bank").names}
    assert seen == {tile.name for tile in place.tiles if tile.split == "train"}

    model = load_model(tmp_path / "runs" / "rhm")
    scores = evaluate_model(
        model,
        Catalog.load(catalog_path),
        tmp_path / "scores",
        name="rhm",
        domains=["alder_aerial"],
        shifts=[Shift("gamma", 0)],
    )
    by_name = {each.name: each.pixel.iou.value for each in scores.domains}
    assert by_name["alder_aerial"] == pytest.approx(result.iou["rhm"]["none"])
    assert by_name["alder_aerial (gamma shift)"] == pytest.approx(result.iou["rhm"]["gamma"])

    tiles = Catalog.load(catalog_path).select(domains=["alder_aerial"], split="test").tiles
    thresholds, iou = pixels_by_probability(model, tiles).threshold_scores()
    for threshold in (0.25, 0.5, 0.75):
        model.spec = replace(model.spec, threshold=threshold)
        (found,) = iou[thresholds == threshold]
        assert pixel_iou(model, tiles) == pytest.approx(found, nan_ok=True)

    before = (tmp_path / "runs" / "rhm" / "model.safetensors").stat().st_mtime_ns
    again = run_controlled_shifts(catalog_path, "alder_aerial", tmp_path, **settings)
    assert again.iou == result.iou
    assert (tmp_path / "runs" / "rhm" / "model.safetensors").stat().st_mtime_ns == before


def test_the_bank_holds_the_shifted_images(catalog_path: Path) -> None:
    tiles = Catalog.load(catalog_path).select(domains=["alder_aerial"], split="test").tiles
    bank = shifted_bank(tiles, ("gamma", "hsv"), seed=5)
    assert len(bank) == 2 * len(tiles)
    assert bank.names[1] == f"hsv/{tiles[0].name}"
    with tiles[0].open() as raster:
        moved = shifted(Shift("hsv", 5), tiles[0].name, raster.read())
    expected = Histogram.of(moved.values, valid=moved.valid)
    np.testing.assert_array_equal(bank.histograms[1].counts, expected.counts)


def test_a_place_without_test_images_is_refused(catalog_path: Path, tmp_path: Path) -> None:
    untested = tmp_path / "catalog.parquet"
    Catalog.load(catalog_path).select(split="train").save(untested)
    with pytest.raises(CatalogError, match="no labelled image of alder_aerial in split 'test'"):
        run_controlled_shifts(untested, "alder_aerial", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_sample_town_is_split(tmp_path: Path) -> None:
    catalog = Catalog.load(sample_town(tmp_path))
    assert set(catalog.domains) == {"alder_aerial"}
    assert {split: len(catalog.select(split=split).tiles) for split in ("train", "test")} == {
        "train": 10,
        "test": 6,
    }
