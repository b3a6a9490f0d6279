"""Labels of marked footprints; oracle: the masks of the houses, and distances from them."""

import json
import shlex
import zipfile
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.control import GroundControlPoint

from rhm.cli.main import run
from rhm.data.catalog import Catalog
from rhm.data.layouts.registry import index_folder
from rhm.data.vectors.area_of_interest import read_area
from rhm.errors import ConfigError, OutputError
from rhm.inference import predict_raster
from rhm.inference.polygons import PolygonConfig
from rhm.viewer.footprint_layer import FootprintLayer
from rhm.viewer.marked_labels import write_marked_labels
from rhm.viewer.marks import MarkedFootprint, Marks
from rhm.viewer.predictions import PredictionFiles, find_predictions
from tests.data.imagery import HALF_METRE, UTM, write_raster
from tests.viewer.conftest import Brightness

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
    item = scene.with_name("item.json")
    assets = {name: {"href": f"{name}.tif", "type": "image/tiff"} for name in ("red", "town")}
    item.write_text(json.dumps({"type": "Feature", "id": "one", "assets": assets}))
    words = [*words[:-1], str(item), "--asset", "town"]
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


@pytest.mark.parametrize("gcps", [False, True])
def test_the_label_of_an_area_lies_on_its_scene(tmp_path: Path, gcps: bool) -> None:
    pixels = np.full((900, 900, 3), 20, dtype=np.uint8)
    pixels[650:680, 300:340] = 250
    corners = [(0, 0), (0, 900), (900, 0), (900, 900)]
    points = [GroundControlPoint(row, col, *(HALF_METRE @ (col, row))) for row, col in corners]
    place: dict[str, Any] = {"gcps": points} if gcps else {}
    scene = write_raster(tmp_path / "imagery" / "town.tif", pixels, **place)
    # Four metres left of the house, the area ends; below it, it goes on.
    left, top = HALF_METRE @ (292, 600)
    right, bottom = HALF_METRE @ (500, 800)
    area = read_area(f"{left},{bottom},{right},{top},{UTM}")
    results = tmp_path / "results"
    predict_raster(Brightness(), scene, results, tile=256, aoi=area, polygons=PolygonConfig(0.4))
    prediction = prediction_of(results, scene)
    assert prediction.image_corner == (600, 292)
    marked(prediction, "keep")
    write_marked_labels(results, tmp_path / "labels", scenes=[str(scene)], around_m=10.0)
    table = tmp_path / "labels" / "labels.csv"
    (tile,) = index_folder(tmp_path / "labels", table=table).tiles
    with tile.open() as raster, tile.open_label(raster) as label:
        truth = label.read()
    assert truth.shape == (900, 900)
    assert (truth[650:680, 300:340] == 1).all()
    known = np.argwhere(truth != 255)
    assert known.min(axis=0) == pytest.approx([630, 292], abs=1)
    assert known.max(axis=0) == pytest.approx([699, 359], abs=1)
    assert (truth[:, :292] == 255).all()


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
    assert notes == ["the marks of town lie outside what was predicted"]


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
