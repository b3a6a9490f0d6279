"""Footprints come back from every format, are dated as told, and are written whole or not."""

from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
from shapely import Polygon, box

from rhm.errors import OutputError
from rhm.inference.layers.vector_files import (
    FORMATS,
    Footprints,
    count_footprints,
    write_footprints,
)

UTM = "EPSG:32633"
COURT = Polygon(
    box(5e5, 5e6, 5e5 + 20, 5e6 + 20).exterior, [box(5e5 + 5, 5e6 + 5, 5e5 + 9, 5e6 + 9).exterior]
)
HUT = box(5e5 + 30, 5e6, 5e5 + 33, 5e6 + 4)


def batches() -> Iterator[Footprints]:
    """Yield a house with a courtyard, nothing, and a hut."""
    for polygon, score in ((COURT, 0.8), (None, 0.0), (HUT, 0.25)):
        polygons = np.array([polygon] if polygon else [], dtype=object)
        scores = np.full(len(polygons), score)
        yield Footprints(polygons, scores, shapely.area(polygons).astype(float))


def read(path: Path) -> gpd.GeoDataFrame:
    return gpd.read_parquet(path) if path.suffix.lower() == ".parquet" else gpd.read_file(path)


@pytest.mark.parametrize("suffix", [*FORMATS, ".GPKG", ".Parquet"])
def test_footprints_survive_every_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "out" / f"p_buildings{suffix}"
    assert write_footprints(batches(), UTM, path) == 2
    assert count_footprints(path) == 2
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    back = read(path)
    assert back.crs == ("EPSG:4326" if suffix == ".geojson" else UTM)
    assert set(back.columns) == {"score", "area_m2", "geometry"}
    back = back.sort_values("score", ascending=False, ignore_index=True)  # .fgb sorts by place
    assert back["score"].tolist() == [0.8, 0.25]
    assert back["area_m2"].tolist() == [384.0, 12.0]
    there = back.to_crs(UTM).geometry
    for found, expected in zip(there, (COURT, HUT), strict=True):
        assert found.hausdorff_distance(expected) < 1e-3
        assert len(found.interiors) == len(expected.interiors)
    if path.suffix == ".gpkg":
        assert pyogrio.list_layers(path).tolist() == [["buildings", "Polygon"]]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_scene_without_buildings_has_a_file_too(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    assert write_footprints(iter(()), UTM, path) == count_footprints(path) == 0
    assert len(read(path)) == 0
    assert read(path).crs == ("EPSG:4326" if suffix == ".geojson" else UTM)


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_footprints_make_the_same_file(tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / f"{name}{suffix}" for name in ("a", "b", "later")]
    for file, modified in zip(files, (1.6e9, 1.6e9, 1.7e9), strict=True):
        write_footprints(batches(), UTM, file, modified=modified)
    first, second, later = (file.read_bytes() for file in files)
    assert first == second
    assert (later != first) == (suffix == ".gpkg")
    if suffix == ".gpkg":
        assert b"2020-09-13T12:26:40" in first


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".parquet"])
def test_footprints_in_pixels_are_written_without_crs(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    write_footprints(batches(), None, path)
    back = read(path)
    assert len(back) == 2
    # GeoPackage has no way to say nothing; GDAL calls it an undefined Cartesian system.
    assert back.crs is None or "Undefined" in str(back.crs)


def test_geojson_needs_a_crs(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="choose another format"):
        write_footprints(batches(), None, tmp_path / "p.geojson")


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_ends_the_batches_is_said_and_leaves_what_was_there(
    tmp_path: Path, suffix: str
) -> None:
    def broken(error: BaseException) -> Iterator[Footprints]:
        yield from batches()
        raise error

    path = tmp_path / f"p{suffix}"
    path.write_text("before")
    for error in (OutputError("strip 7 is damaged"), KeyboardInterrupt(), ZeroDivisionError()):
        with pytest.raises(type(error)) as caught:
            write_footprints(broken(error), UTM, path)
        assert caught.value is error
        assert path.read_text() == "before"
        assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.gpkg, \.fgb, \.geojson, \.parquet"):
        write_footprints(batches(), UTM, tmp_path / "p.shp")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_footprints(batches(), UTM, tmp_path / "file" / "p.gpkg")


def test_a_building_on_the_180th_meridian_is_cut_there_in_degrees(tmp_path: Path) -> None:
    degree_m = 111_320.0
    in_degrees = [
        shapely.box(180 + left / degree_m, 0, 180 + (left + 12) / degree_m, 10 / degree_m)
        for left in (-30, -5, 20)
    ]
    polygons = gpd.GeoSeries(in_degrees, crs="EPSG:4326").to_crs("EPSG:32660").to_numpy()
    path = tmp_path / "x.geojson"
    found = Footprints(np.array(polygons, dtype=object), np.ones(3), np.full(3, 120.0))
    write_footprints([found], "EPSG:32660", path)
    stored = gpd.read_file(path).geometry
    areas = shapely.area(stored.to_numpy()) * degree_m**2
    assert areas == pytest.approx([120.0] * 3, rel=0.01)
    assert stored.geom_type.tolist() == ["Polygon", "MultiPolygon", "Polygon"]
