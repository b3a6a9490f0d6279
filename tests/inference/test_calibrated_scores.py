"""Calibrated scores: precisions in place of mean probabilities, and what they are said to be."""

from pathlib import Path

import geopandas
import numpy as np
import rasterio

from rhm.inference import predict_raster
from rhm.inference.polygons import PolygonConfig
from rhm.models.expected_iou import ExpectedIoU
from rhm.models.score_calibration import ScoreCalibration, kind_of_scores
from tests.inference.scenes import Bright, spec, write_scene

COUNTED = ScoreCalibration((0.5, 0.8, 0.9), (100, 100, 100), (20, 60, 90))


def two_houses() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    pixels = np.full((60, 90, 3), 40, dtype=np.uint8)
    pixels[10:30, 10:30], pixels[10:30, 50:70] = 255, 140
    return pixels


def test_scores_are_precisions_that_the_model_records(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "x.tif", two_houses())
    plain = predict_raster(Bright(spec()), scene, tmp_path / "plain")
    described = spec(score_calibration=COUNTED, expected_iou=0.9)
    found = predict_raster(Bright(described), scene, tmp_path / "calibrated")
    means = geopandas.read_file(plain.buildings)["score"].to_numpy()
    scores = geopandas.read_file(found.buildings)["score"].to_numpy()
    np.testing.assert_allclose(scores, COUNTED(means))
    assert (plain.scores, found.scores) == ("mean probability", "uncertain")
    assert any("may be too high" in note for note in found.notes)
    with rasterio.open(plain.mask) as before, rasterio.open(found.mask) as after:
        assert "RHM_SCORES" not in before.tags()
        assert after.tags()["RHM_SCORES"] == "uncertain"
    kept = predict_raster(
        Bright(described), scene, tmp_path / "kept", polygons=PolygonConfig(min_score=0.85)
    )
    assert kept.count == (scores >= 0.85).sum() == 1


def test_scores_are_uncertain_out_of_domain_and_where_little_is_built() -> None:
    sure, unsure, small = (ExpectedIoU(0.5) for _ in range(3))
    sure.pixels[[5, 250]] = 90_000, 30_000
    unsure.pixels[[5, 140]] = 90_000, 30_000
    small.pixels[[5, 250]] = 90, 30
    assert kind_of_scores(0.9, sure) == "precision"
    assert kind_of_scores(0.9, unsure) == "uncertain"
    assert kind_of_scores(0.9, small) == "uncertain"
    assert kind_of_scores(None, sure) == "uncertain"
