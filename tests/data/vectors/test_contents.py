"""Contents that lead elsewhere; law: GDAL opens no file that refers to another."""

import os
import subprocess
import sys
from pathlib import Path

import geopandas
import pyogrio
import pytest
import shapely

from rhm.data.vectors import contents
from rhm.data.vectors.contents import check_content
from rhm.data.vectors.side_files import count_rows, read_frame
from rhm.data.vectors.vector_layer import VECTOR_FORMATS, checked_format
from rhm.errors import VectorError

VIRTUAL = (
    "<OGRVRTDataSource><OGRVRTLayer name='secret'><SrcDataSource>{}</SrcDataSource>"
    "</OGRVRTLayer></OGRVRTDataSource>"
)
BEGINNINGS = {
    "a.kml": "<kml/>",
    "b.kml": "<!-- <kml> -->",
    "c.geojson": "{{",
    "d.geojsonl": '{{"type": "FeatureCollection", "features": []}}\n',
    "e.fgb": "fgb\x03fgb",
    "f.gpkg": "SQLite format 3",
    "g.shp": "",
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.gpkg"
    frame = geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 9, 9)], crs="EPSG:32633")
    frame.to_file(path, layer="secret")
    return path


@pytest.mark.parametrize("name", BEGINNINGS)
def test_references_are_not_followed(tmp_path: Path, secret: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text((BEGINNINGS[name] + VIRTUAL).format(secret))
    for read in (check_content, checked_format, read_frame, count_rows):
        with pytest.raises(VectorError, match=r"not what its name says|the format that its name"):
            read(path)


def test_gdal_alone_follows_them(tmp_path: Path, secret: Path) -> None:
    """Where rhm was not imported first, GDAL has all of its drivers."""
    paths = [tmp_path / name for name in BEGINNINGS]
    for path in paths:
        path.write_text((BEGINNINGS[path.name] + VIRTUAL).format(secret))
    program = "import sys, pyogrio; print(*(len(pyogrio.list_layers(p)) for p in sys.argv[1:]))"
    words = [sys.executable, "-c", program, *map(str, paths)]
    environment = {name: value for name, value in os.environ.items() if name != "GDAL_SKIP"}
    told = subprocess.check_output(words, env=environment, text=True).split()
    assert told == ["1"] * len(paths)


@pytest.mark.parametrize("place", range(-24, 3))
def test_references_across_the_ends_of_blocks_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    monkeypatch.setattr(contents, "_BLOCK", 512)
    path = tmp_path / "a.kml"
    path.write_text("<kml>" + " " * (507 + place) + VIRTUAL + "</kml>")
    with pytest.raises(VectorError, match="refers to other files"):
        check_content(path)


def test_text_behind_a_null_character_is_none(tmp_path: Path, secret: Path) -> None:
    frame = geopandas.GeoDataFrame(
        {"name": [VIRTUAL]}, geometry=[shapely.box(0, 0, 9, 9)], crs="EPSG:32633"
    )
    for name in ("a.fgb", "a.gpkg"):
        frame.to_file(tmp_path / name)
        check_content(tmp_path / name)
    assert pyogrio.read_info(tmp_path / "a.fgb")["driver"] == "FlatGeobuf"


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("<kml xmlns='http://www.opengis.net/kml/2.2'>", True),
        ("\ufeff<?xml version='1.0'?>\n<!-- made <by> hand -->\n<!DOCTYPE kml>\n<kml>", True),
        ("<kml:kml>", True),
        ("<kml/>", True),
        ("<!-- <kml> --><gml>", False),
        ("<?a <kml> ?><gml>", False),
        ("<gml><kml>", False),
        ("<kmlx>", False),
        ("text <kml>", False),
        ("<!-- -->" * 400 + "<!-- ", False),
        ("<!DOCTYPE a [<!ENTITY b '<kml>'>]><a/>", False),
    ],
)
def test_the_first_element_of_kml_is_kml(text: str, valid: bool) -> None:
    assert VECTOR_FORMATS[".kml"].begins(text.encode()) is valid
