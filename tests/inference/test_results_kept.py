"""A prediction replaces its own results as it left them, and nothing else unless it is told to."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray

from rhm.errors import OutputError
from rhm.inference import predict_raster
from rhm.inference.polygons import PolygonConfig
from tests.inference.scenes import Bright, write_scene


class Never(Bright):
    """A network that must not be needed."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("refused only after work was done")


class Counted(Bright):
    """A network that counts its batches."""

    seen = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return super().forward(images)


def edit_footprints(out: Path) -> None:
    path = out / "x_buildings.gpkg"
    frame = geopandas.read_file(path)
    frame.iloc[:1].to_file(path, layer="checked by hand", driver="GPKG")


def edit_geojson(out: Path) -> None:
    path = out / "x_buildings.geojson"
    path.write_text(path.read_text().replace('"score"', '"Score"', 1))


def edit_raster(name: str) -> Callable[[Path], None]:
    def by(out: Path) -> None:
        with rasterio.open(out / name, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as raster:
            raster.write(np.ones((1, 10, 10), raster.dtypes[0]), window=((0, 10), (0, 10)))

    return by


def replace_footprints(out: Path) -> None:
    (out / "x_buildings.gpkg").unlink()
    with closing(sqlite3.connect(out / "x_buildings.gpkg")) as database, database:
        database.execute("CREATE TABLE mine (note TEXT)")


def replace_raster(out: Path) -> None:
    (out / "x_mask.tif").write_text("not a raster, but someone's")


EDITS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "footprints": (edit_footprints, ".gpkg", "x_buildings.gpkg was edited"),
    "geojson": (edit_geojson, ".geojson", "x_buildings.geojson was edited"),
    "probability": (edit_raster("x_probability.tif"), ".gpkg", "x_probability.tif was edited"),
    "mask": (edit_raster("x_mask.tif"), ".gpkg", "x_mask.tif was edited"),
    "other database": (replace_footprints, ".gpkg", "buildings.gpkg exists and was not written"),
    "other file": (replace_raster, ".gpkg", "x_mask.tif exists and was not written"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_a_user_made_is_kept_unless_told_otherwise(
    houses: NDArray[np.uint8], tmp_path: Path, edit: str
) -> None:
    change, suffix, told = EDITS[edit]
    scene, out = write_scene(tmp_path / "x.tif", houses), tmp_path / "out"
    first = predict_raster(Bright(), scene, out, suffix=suffix)
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    change(out)
    edited = {path.name: path.read_bytes() for path in out.iterdir()}
    assert edited != whole
    with pytest.raises(OutputError) as refused:
        predict_raster(Never(), scene, out, suffix=suffix)
    assert told in str(refused.value)
    assert "--overwrite" in str(refused.value)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == edited
    again = predict_raster(Bright(), scene, out, suffix=suffix, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    assert again.count == first.count


@pytest.mark.parametrize("edit", EDITS)
def test_what_a_user_saves_during_the_prediction_is_kept_unless_told_otherwise(
    houses: NDArray[np.uint8], tmp_path: Path, edit: str
) -> None:
    """And what was predicted until then, too."""
    change, suffix, told = EDITS[edit]
    scene, out = write_scene(tmp_path / "x.tif", houses), tmp_path / "out"
    predict_raster(Bright(), scene, out, suffix=suffix)
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    edited: dict[str, bytes] = {}

    def save(pixels: int) -> None:
        if pixels and not edited:
            change(out)
            edited.update((path.name, path.read_bytes()) for path in out.glob("x_*"))

    options: dict[str, Any] = {"suffix": suffix, "polygons": PolygonConfig(0.6)}
    options |= {"tile": 64, "overlap": 16}
    with pytest.raises(OutputError) as refused:
        predict_raster(Counted(), scene, out, on_progress=save, **options)
    assert told in str(refused.value)
    assert {path.name: path.read_bytes() for path in out.glob("x_*")} == edited != whole
    model = Counted()
    predict_raster(model, scene, out, resume=True, overwrite=True, **options)
    assert model.seen == 0
    predict_raster(Bright(), scene, out, suffix=suffix)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole


def test_the_results_of_another_scene_of_the_same_name_are_kept(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Such as tiles of two years, each in its own folder."""
    scenes = []
    for year in ("2020", "2021"):
        (tmp_path / year).mkdir()
        scenes.append(write_scene(tmp_path / year / "x.tif", houses))
    predict_raster(Bright(), scenes[0], tmp_path / "out")
    with pytest.raises(OutputError, match="another scene of this name"):
        predict_raster(Never(), scenes[1], tmp_path / "out")
    predict_raster(Bright(), scenes[0], tmp_path / "out", polygons=PolygonConfig(threshold=0.4))
    predict_raster(Bright(), scenes[1], tmp_path / "out", overwrite=True)


def test_edited_footprints_are_not_taken_for_those_of_a_prediction(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene, out = write_scene(tmp_path / "x.tif", houses), tmp_path / "out"
    predict_raster(Bright(), scene, out, resume=True)
    replace_footprints(out)
    with pytest.raises(OutputError, match="was not written by a prediction"):
        predict_raster(Bright(), scene, out, resume=True)


def test_a_database_that_is_opened_during_the_prediction_keeps_all_earlier_results(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene, out = write_scene(tmp_path / "x.tif", houses), tmp_path / "out"
    predict_raster(Bright(), scene, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    holder = (
        "import sqlite3, sys, time\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('BEGIN IMMEDIATE'); print(flush=True); time.sleep(60)"
    )
    holding: list[subprocess.Popen[bytes]] = []

    def open_results(pixels: int) -> None:
        if pixels and not holding:
            words = [sys.executable, "-c", holder, str(out / "x_buildings.gpkg")]
            holding.append(subprocess.Popen(words, stdout=subprocess.PIPE))
            assert holding[0].stdout is not None
            holding[0].stdout.readline()

    try:
        with pytest.raises(OutputError, match="close it in QGIS"):
            predict_raster(Counted(), scene, out, tile=64, overlap=16, on_progress=open_results)
    finally:
        holding[0].kill()
        holding[0].communicate()
    assert before == {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    model = Counted()
    again = predict_raster(model, scene, out, tile=64, overlap=16, resume=True)
    assert again.count == 2
    assert model.seen == 0
