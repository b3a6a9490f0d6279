"""What is printed of predictions: notes once, results as lines or JSON, failures at the end."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from rhm.cli.prediction_output import report_results, say_notes, say_of_all, short_name
from rhm.errors import OutsideAreaError, RasterError
from rhm.inference.many_scenes import SceneResult
from rhm.inference.prediction import Prediction
from rhm.models.expected_iou import ExpectedIoU

Capture = pytest.CaptureFixture[str]
Rhm = Callable[..., tuple[int, str, str]]


def done(name: str, *notes: str, sure: float = 1.0) -> SceneResult:
    expectation = ExpectedIoU(0.5)
    expectation.add(np.full((9, 9), sure), np.ones((9, 9), dtype=bool))
    prediction = Prediction(
        probability=Path(f"{name}_probability.tif"),
        mask=Path(f"{name}_mask.tif"),
        buildings=Path(f"{name}_buildings.gpkg"),
        count=3,
        threshold=0.4,
        expectation=expectation,
        notes=notes,
    )
    return SceneResult(name, prediction, None)


def failed(name: str, error: Exception) -> SceneResult:
    return SceneResult(name, None, error)


def told(results: list[SceneResult], *, as_json: bool = False, chose: bool = False) -> None:
    report_results(results, "torch", None, None, chose=chose, as_json=as_json)


def test_notes_of_many_scenes_are_printed_once(capsys: Capture) -> None:
    say_notes(done("a.tif", "odd"))
    assert capsys.readouterr().err == "a.tif: odd\n"
    warning = say_of_all([done("a.tif", "odd", sure=0.6), done("b.tif", "odd", sure=0.6)], 0.95)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "2 of 2 scenes: odd"
    assert warning is not None
    assert lines[1] == f"all scenes together: {warning}"
    assert say_of_all([done("a.tif")], 0.95) is None


def test_results_are_lines_or_json(capsys: Capture) -> None:
    told([done("a.tif"), done("b.tif")], chose=True)
    assert capsys.readouterr().out.splitlines() == [
        f"3 buildings in {name}_buildings.gpkg (threshold 0.400)" for name in ("a.tif", "b.tif")
    ]
    told([done("a.tif")], as_json=True)
    (scene,) = json.loads(capsys.readouterr().out)["scenes"]
    assert (scene["count"], scene["expected_iou"]) == (3, 1.0)


def test_failures_come_after_the_results(capsys: Capture) -> None:
    with pytest.raises(RasterError, match="1 of 2 scenes failed"):
        told([done("a.tif"), failed("b.tif", RasterError("b.tif is damaged"))])
    printed, said = capsys.readouterr()
    assert printed.startswith("3 buildings in a.tif")
    assert said == "failed: b.tif is damaged\n"
    with pytest.raises(ZeroDivisionError):
        told([done("a.tif"), failed("b.tif", ZeroDivisionError("a defect"))])


def test_scenes_outside_the_area_fail_only_if_none_is_left(capsys: Capture) -> None:
    outside = failed("b.tif", OutsideAreaError("b.tif lies outside"))
    told([done("a.tif"), outside])
    assert capsys.readouterr().err == "skipped: b.tif lies outside\n"
    with pytest.raises(OutsideAreaError, match="all 2 scenes lie outside"):
        told([outside, outside])


def test_the_query_of_an_address_is_not_told() -> None:
    assert short_name("https://a.org/b/scene.tif?token=secret") == "scene.tif"
    assert short_name("folder/scene.tif") == "scene.tif"


def test_a_layer_that_cannot_be_merged_loses_nothing_else(
    rhm: Rhm, trained: Path, world: Path, tmp_path: Path
) -> None:
    placed = world / "scenes" / "birch_satellite.tif"
    with rasterio.open(placed) as raster:
        profile = raster.profile | {"crs": None}
        with rasterio.open(tmp_path / "nowhere.tif", "w", **profile) as nowhere:
            nowhere.write(raster.read())
    out = tmp_path / "out"
    words = ["predict", trained, placed, tmp_path / "nowhere.tif", "-o", out]
    code, printed, told = rhm(*words, "--merge", tmp_path / "town.gpkg", "--styles", "--stac")
    assert code == 2
    assert "has no CRS" in told.splitlines()[-1]
    assert printed.count("buildings in") == 2
    assert {"collection.json", "nowhere_item.json", "nowhere_mask.qml"} <= set(os.listdir(out))
    assert not (tmp_path / "town.gpkg").exists()
