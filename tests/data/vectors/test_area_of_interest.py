"""Areas of interest, from files of any system and from boxes."""

import json
from pathlib import Path

import geopandas as gpd
import pyproj
import pytest
import shapely

from rhm.data.vectors.area_of_interest import read_area
from rhm.errors import ConfigError, VectorError

UTM = "EPSG:32633"
SQUARE = shapely.box(500_000, 5_000_000, 500_400, 5_000_300)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".shp"])
@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:3857"])
def test_a_file_of_any_system_gives_the_same_ground(tmp_path: Path, suffix: str, crs: str) -> None:
    path = tmp_path / f"area{suffix}"
    there = gpd.GeoSeries([SQUARE.segmentize(10)], crs=UTM).to_crs(crs)
    frame = gpd.GeoDataFrame(geometry=there)
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    found = read_area(path).in_crs(UTM)
    assert found.symmetric_difference(SQUARE).area < 0.01 * SQUARE.area


def test_a_box_is_in_degrees_unless_it_names_a_system() -> None:
    assert read_area("13,52,13.5,52.25").in_crs("EPSG:4326").bounds == (13.0, 52.0, 13.5, 52.25)
    box = read_area(f"500000, 5000000, 500400, 5000300, {UTM}")
    assert shapely.equals(box.in_crs(UTM), SQUARE)
    pacific = read_area("179,-18,-179,-16").in_crs("EPSG:4326")
    assert pacific.area == pytest.approx(4.0)
    assert len(pacific.geoms) == 2


def test_areas_are_equal_if_the_ground_is() -> None:
    assert read_area("1,2,3,4") == read_area("1, 2, 3.0, 4,EPSG:4326")
    assert repr(read_area("1,2,3,4")) == repr(read_area("1,2,3,4.0"))


@pytest.mark.parametrize(
    "text",
    ["1,2,3", "a,b,c,d", "1,2,3,4,Mars", "1,4,3,2", "1,2,1,4", "nan,0,1,1", "5,2,3,4,EPSG:32633",
     "1,2,3,4,EPSG:4326,5", "missing.geojson", ",", "1,2,1e200,4",
     "85.522,27.63,85.52,27.632", "3,0,-3,2", "-3,0,-5,2", "85.5,27,-85.5,28"],
)  # fmt: skip
def test_what_is_neither_file_nor_box_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        read_area(text)


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[1, 2]",
        "{",
        json.dumps({"type": "FeatureCollection", "features": []}),
        json.dumps({"type": "Point", "coordinates": [1, 2]}),
        json.dumps({"type": "Polygon", "coordinates": [[[1, 2], [1e308, 4], [5, 6], [1, 2]]]}),
        json.dumps({"type": "Polygon", "coordinates": [[[1, 2], [3, 1e200], [5, 6], [1, 2]]]}),
        json.dumps({"type": "Polygon", "coordinates": [[[1e400, 2], [3, 4], [5, 6], [1e400, 2]]]}),
        '{"type": "GeometryCollection", "geometries": [' * 3000,
    ],
)
def test_hostile_json_is_said_in_one_line(tmp_path: Path, document: str) -> None:
    path = tmp_path / "area.geojson"
    path.write_text(document)
    with pytest.raises(VectorError) as caught:
        read_area(path)
    assert "\n" not in str(caught.value)


def test_a_place_that_another_system_does_not_reach_is_empty() -> None:
    pole = read_area("0,-90,10,-89.9")
    mercator = pyproj.CRS("EPSG:3857")
    assert pole.in_crs(mercator).is_empty or pole.in_crs(mercator).bounds[3] < -2e7
