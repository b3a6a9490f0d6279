"""``rhm compare``."""

import json
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd

from tests.mapping.towns import UTM, ground

Rhm = Callable[..., tuple[int, str, str]]


def test_changes_are_counted_and_written(rhm: Rhm, tmp_path: Path) -> None:
    houses = [ground(30.0 * k, 0, 30.0 * k + 10, 10) for k in range(20)]
    gpd.GeoSeries(houses[:18], crs=UTM).to_file(tmp_path / "new.gpkg")
    gpd.GeoSeries(houses[2:], crs=UTM).to_crs("EPSG:4326").to_file(tmp_path / "map.geojson")
    words = ["compare", tmp_path / "new.gpkg", tmp_path / "map.geojson"]
    words += ["-o", tmp_path / "changes.gpkg", "--overture", tmp_path / "today.parquet"]
    left, bottom, right, top = ground(-5, -5, 700, 50).bounds
    words += ["--aoi", f"{left},{bottom},{right},{top},{UTM}"]
    code, printed, said = rhm(*words)
    assert code == 0, said
    assert "16 matched (mean IoU 1.000), 0 changed, 2 new, 2 gone" in printed
    assert "the new layer is shifted by" in printed
    assert len(gpd.read_parquet(tmp_path / "today.parquet")) == 18
    code, printed, _ = rhm(*words, "--json")
    assert code == 0
    assert json.loads(printed)["shift"]["pairs"] >= 10
    code, printed, _ = rhm(*words, "--most-shift-m", "0")
    assert code == 0
    assert "too few" not in printed
    assert "compared as they are" in printed


def test_that_nothing_matches_is_said_in_words(rhm: Rhm, tmp_path: Path) -> None:
    for name, left in (("new", 0), ("map", 500)):
        house = ground(left, 0, left + 10, 10)
        gpd.GeoSeries([house], crs=UTM).to_file(tmp_path / f"{name}.gpkg")
    words = ["compare", tmp_path / "new.gpkg", tmp_path / "map.gpkg", "-o", tmp_path / "c.gpkg"]
    left, bottom, right, top = ground(-5, -5, 700, 50).bounds
    words += ["--aoi", f"{left},{bottom},{right},{top},{UTM}"]
    code, printed, said = rhm(*words)
    assert code == 0, said
    assert printed.startswith("none matched, 0 changed, 1 new, 1 gone: ")
    assert "nan" not in printed
    assert json.loads(rhm(*words, "--json")[1])["mean_iou"] is None


def test_a_misspelt_area_or_layer_is_refused(rhm: Rhm, tmp_path: Path) -> None:
    gpd.GeoSeries([ground(0, 0, 9, 9)], crs=UTM).to_file(tmp_path / "a.gpkg")
    layer = tmp_path / "a.gpkg"
    code, _, said = rhm("compare", layer, layer, "-o", tmp_path / "c.gpkg", "--aoi", "nowhere")
    assert code == 2
    assert "no area of interest at nowhere" in said
    code, _, said = rhm("compare", layer, tmp_path / "b.gpkg", "-o", tmp_path / "c.gpkg")
    assert code == 2
    assert "no such file" in said
