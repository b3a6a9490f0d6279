"""Labels of marked footprints; oracle: the masks of the houses, and distances from them."""

import json
import shlex
import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely

from rhm.cli.main import run
from rhm.data.catalog import Catalog
from rhm.data.layouts.registry import index_folder
from rhm.errors import ConfigError, OutputError
from rhm.viewer.footprint_layer import FootprintLayer
from rhm.viewer.marked_labels import write_marked_labels
from rhm.viewer.marks import MarkedFootprint, Marks
from rhm.viewer.predictions import PredictionFiles, find_predictions

SURE, UNSURE = (slice(200, 230), slice(100, 140)), (slice(200, 230), slice(300, 340))


def prediction_of(results: Path, scene: Path) -> PredictionFiles:
    (prediction,), _ = find_predictions(results, [str(scene)])
    return prediction


def marked(prediction: PredictionFiles, *marks: str | None) -> None:
    layer = FootprintLayer(prediction)
    for number, mark in enumerate(marks):
        layer.mark(number, mark)


def label_of(results: Path, scene: Path, folder: Path, around_m: float) -> np.ndarray:
    (label,), notes = write_marked_labels(
        results, folder, scenes=[str(scene)], around_m=around_m, overwrite=True
    )
    assert notes == []
    with rasterio.open(label.label) as raster, rasterio.open(scene) as image:
        assert (raster.nodata, raster.crs, raster.transform) == (255, image.crs, image.transform)
        return np.asarray(raster.read(1))


def test_the_ground_around_marks_is_known_and_everything_else_is_not(
    results: Path, scene: Path, tmp_path: Path
) -> None:
    prediction = prediction_of(results, scene)
    marked(prediction, "keep", "wrong")
    label = label_of(results, scene, tmp_path / "labels", 6.0)  # 12 pixels
    truth = np.full((600, 900), 255, np.uint8)
    rows, cols = np.mgrid[:600, :900] + 0.5
    for (height, width), value in ((SURE, 1), (UNSURE, 0)):
        box = shapely.box(width.start, height.start, width.stop, height.stop)
        truth[shapely.distance(shapely.points(cols, rows), box) <= 12.0] = 0
        truth[height, width] = value
    # Outlines are simplified by half a metre, and circles have corners.
    assert np.count_nonzero(label != truth) < 60
    assert np.array_equal(label[SURE], truth[SURE])


def test_a_footprint_without_a_mark_is_unknown(results: Path, scene: Path, tmp_path: Path) -> None:
    prediction = prediction_of(results, scene)
    marked(prediction, "keep", None)
    label = label_of(results, scene, tmp_path / "labels", 200.0)
    assert (label[SURE] == 1).all()
    assert (label[UNSURE] == 255).all()
    assert (label[210, 200] == 0).all()


def test_labels_are_indexed_as_the_command_says(
    results: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marked(prediction_of(results, scene), "keep", "wrong")
    folder = tmp_path / "my labels"
    words = ["data", "marked", str(results), "-o", str(folder), "--scene", str(scene)]
    assert run(words) == 0
    advice = capsys.readouterr().out.splitlines()[-1].partition(": rhm ")[2]
    catalog = tmp_path / "marked.parquet"
    assert run([*shlex.split(advice), "-o", str(catalog)]) == 0
    (tile,) = Catalog.load(catalog).tiles
    assert Path(tile.image).samefile(scene)
    assert Path(str(tile.label)).name == "town_label.tif"
    assert run(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*words, "--overwrite", "--json"]) == 0
    (value,) = json.loads(capsys.readouterr().out)["labels"]
    assert (value["keep"], value["wrong"]) == (1, 1)


def test_pixels_that_are_not_square_have_round_surroundings(
    results: Path, scene: Path, tmp_path: Path
) -> None:
    # At 60 degrees north, half a metre high and a quarter wide.
    place = rasterio.Affine(4.5e-6, 0, 10.0, 0, -4.5e-6, 60.0)
    for file in (results / "town_probability.tif", results / "town_mask.tif", scene):
        with rasterio.open(file, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as raster:
            raster.crs, raster.transform = "EPSG:4326", place
    boxes = [shapely.box(10 + 450e-6, 60 - 1035e-6, 10 + 630e-6, 60 - 900e-6)]
    (results / "town_buildings.gpkg").unlink()
    gpd.GeoDataFrame(geometry=boxes, crs="EPSG:4326").to_file(results / "town_buildings.gpkg")
    marked(prediction_of(results, scene), "keep")
    label = label_of(results, scene, tmp_path / "labels", 10.0)
    known = label != 255
    high, wide = known.any(axis=1).sum(), known.any(axis=0).sum()
    assert high == pytest.approx(30 + 2 * 10 / 0.501, abs=2)
    assert wide == pytest.approx(40 + 2 * 10 / 0.2515, abs=2)


def test_without_marks_or_scenes_there_is_nothing_to_make(
    results: Path, scene: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"no scene in .* has marks"):
        write_marked_labels(results, tmp_path / "labels")
    marked(prediction_of(results, scene), "keep")
    with pytest.raises(ConfigError, match="its scene was not found"):
        write_marked_labels(results, tmp_path / "labels")
    for around_m in (float("inf"), float("nan"), -1.0):
        with pytest.raises(ConfigError, match="around_m must be"):
            write_marked_labels(results, tmp_path / "labels", around_m=around_m)
    with pytest.raises(OutputError):
        write_marked_labels(results, results / "town_mask.tif", scenes=[str(scene)])
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "labels.csv").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        write_marked_labels(results, tmp_path / "labels", scenes=[str(scene)])
    assert (tmp_path / "labels" / "labels.csv").read_text() == "mine"


def test_labels_are_those_of_a_folder(results: Path, scene: Path, tmp_path: Path) -> None:
    marked(prediction_of(results, scene), "keep", "wrong")
    write_marked_labels(results, tmp_path / "labels", scenes=[str(scene)])
    table = tmp_path / "labels" / "labels.csv"
    (tile,) = index_folder(tmp_path / "labels", table=table).tiles
    with tile.open() as raster, tile.open_label(raster) as label:
        assert set(np.unique(label.read())) == {0, 1, 255}


def test_a_scene_that_no_catalog_can_name_is_left_out(
    results: Path, scene: Path, tmp_path: Path
) -> None:
    marked(prediction_of(results, scene), "keep")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(scene, "town.tif")
    inside = f"/vsizip/{tmp_path}/z.zip/town.tif"
    with pytest.raises(ConfigError, match="download its scene"):
        write_marked_labels(results, tmp_path / "labels", scenes=[inside])
    assert not (tmp_path / "labels").exists()


def test_marks_beside_the_scene_are_told(results: Path, scene: Path, tmp_path: Path) -> None:
    prediction = prediction_of(results, scene)
    far = shapely.box(0.0, 0.0, 9.0, 9.0)
    Marks(prediction.marks, "EPSG:32633").set(MarkedFootprint(far, ""), "keep")
    _, notes = write_marked_labels(results, tmp_path / "labels", scenes=[str(scene)])
    assert notes == ["the marks of town lie outside its scene"]


def test_a_row_without_a_mark_says_nothing(results: Path, scene: Path, tmp_path: Path) -> None:
    prediction = prediction_of(results, scene)
    marked(prediction, "keep", "wrong")
    frame = gpd.read_file(prediction.marks)
    frame.loc[frame["mark"] == "wrong", "mark"] = None
    prediction.marks.unlink()
    frame.to_file(prediction.marks)
    label = label_of(results, scene, tmp_path / "labels", 200.0)
    assert (label[SURE] == 1).all()
    assert (label[UNSURE] == 255).all()
