"""Vector files; law: polygons of known formats, and nothing that a file refers to."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely

from rhm.data.footprints import read_footprints
from rhm.data.labels import VECTOR_SUFFIXES, Label
from rhm.data.rasters.raster import Raster
from rhm.data.vectors import vector_layer
from rhm.data.vectors.vector_layer import (
    OTHER_VECTOR_SUFFIXES,
    VECTOR_FORMATS,
    RecentFiles,
    VectorLayer,
    is_finite,
    read_layer,
    simple_parts,
    valid_polygons,
)
from rhm.errors import VectorError
from tests.data.imagery import noise, write_raster
from tests.data.vectors.test_repair import scribble

UTM = "EPSG:32630"
BOXES = [shapely.box(500_000 + x, 5_000_000, 500_006 + x, 5_000_008) for x in range(0, 40, 10)]


@pytest.fixture
def frame() -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame(geometry=BOXES, crs=UTM)


def written(frame: geopandas.GeoDataFrame, path: Path) -> Path:
    """The polygons as a file in the format of its suffix."""
    if path.suffix == ".parquet":
        frame.to_parquet(path)
        return path
    driver = VECTOR_FORMATS[path.suffix].drivers[0]
    degrees = path.suffix not in (".gpkg", ".fgb", ".shp")
    pyogrio.write_dataframe(frame.to_crs("EPSG:4326") if degrees else frame, path, driver=driver)
    return path


@pytest.mark.parametrize("suffix", sorted(VECTOR_FORMATS))
def test_every_format_is_read(frame: geopandas.GeoDataFrame, tmp_path: Path, suffix: str) -> None:
    path = written(frame, tmp_path / f"a{suffix}")
    found = read_footprints(path, UTM, (500_009.0, 5_000_001.0, 500_022.0, 5_000_002.0))
    assert len(found) == 2
    wanted = shapely.union_all(BOXES[1:3])
    assert found.geometry.intersection(wanted).area.sum() == pytest.approx(96.0, rel=1e-3)
    assert len(read_footprints(path, UTM)) == 4
    for each in os.listdir(tmp_path):  # reading leaves nothing behind
        assert each.startswith("a")


def test_suffixes_are_labels_or_refused_labels() -> None:
    assert frozenset(VECTOR_FORMATS) == VECTOR_SUFFIXES
    assert not VECTOR_SUFFIXES & OTHER_VECTOR_SUFFIXES


@pytest.mark.parametrize("suffix", sorted(OTHER_VECTOR_SUFFIXES - {".vrt"}))
def test_other_formats_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    image = write_raster(tmp_path / "a.tif", noise(8, 8))
    (tmp_path / f"labels{suffix}").write_text("anything")
    with Raster(image) as raster, pytest.raises(VectorError, match=r"labels.*convert it to Geo"):
        Label(tmp_path / f"labels{suffix}", raster)


REFERENCE = """<OGRVRTDataSource><OGRVRTLayer name="secret"><SrcDataSource>{}</SrcDataSource>
</OGRVRTLayer></OGRVRTDataSource><!-- <kml> -->"""


@pytest.mark.parametrize("suffix", sorted(VECTOR_FORMATS))
def test_a_file_that_refers_to_another_is_not_followed(
    frame: geopandas.GeoDataFrame, tmp_path: Path, suffix: str
) -> None:
    secret = written(frame, tmp_path / "secret.gpkg")
    path = tmp_path / f"labels{suffix}"
    path.write_text(REFERENCE.format(secret))
    with pytest.raises(VectorError, match=r"labels.* name says"):
        read_footprints(path, UTM)


@pytest.mark.parametrize("suffix", sorted(VECTOR_FORMATS))
def test_another_format_under_a_known_name_is_refused(
    frame: geopandas.GeoDataFrame, tmp_path: Path, suffix: str
) -> None:
    other = written(frame, tmp_path / ("a.fgb" if suffix != ".fgb" else "a.gpkg"))
    (tmp_path / f"labels{suffix}").write_bytes(other.read_bytes())
    with pytest.raises(VectorError, match=r"labels.* name says"):
        read_footprints(tmp_path / f"labels{suffix}", UTM)


@pytest.mark.parametrize("suffix", [".geojson", ".kml", ".parquet"])
def test_a_town_is_read_once_for_all_of_its_images(
    frame: geopandas.GeoDataFrame, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(frame, tmp_path / f"a{suffix}")
    reads: list[Path] = []
    read: Callable[..., VectorLayer] = vector_layer._read

    def counted(path: Path, *rest: object) -> VectorLayer:
        reads.append(path)
        return read(path, *rest)

    monkeypatch.setattr(vector_layer, "_read", counted)
    for left in (500_000.0, 500_010.0, 500_030.0):
        box = (left, 5_000_001.0, left + 1.0, 5_000_002.0)
        assert len(read_footprints(path, UTM, box)) == 1
    assert len(reads) == 1
    written(frame[:1], path)
    os.utime(path, ns=(1, 1))
    assert len(read_footprints(path, UTM)) == 1
    assert len(reads) == 2


def test_the_memory_of_recent_files_is_bounded(tmp_path: Path) -> None:
    polygons = np.array(BOXES, dtype=object)
    layer = VectorLayer(polygons, np.arange(4), None)
    recent = RecentFiles(2 * layer.nbytes)
    reads: list[str] = []

    def read(path: Path) -> VectorLayer:
        reads.append(path.name)
        return VectorLayer(polygons, np.arange(4), None)

    for name in "abc":
        (tmp_path / name).touch()
    for name in "abaca":
        recent.get(tmp_path / name, read)
    assert reads == ["a", "b", "c"]
    recent.get(tmp_path / "b", read)
    assert reads == ["a", "b", "c", "b"]
    small = RecentFiles(1)
    assert small.get(tmp_path / "a", read).polygons is polygons


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".parquet"])
def test_a_tangle_is_named_by_its_feature(
    frame: geopandas.GeoDataFrame, tmp_path: Path, suffix: str
) -> None:
    x, y = BOXES[2].bounds[:2]
    tangle = shapely.affinity.translate(shapely.affinity.scale(scribble(150), 9, 9), x, y)
    frame.loc[2, "geometry"] = shapely.MultiPolygon([BOXES[0], tangle])
    path = written(frame, tmp_path / f"a{suffix}")
    number = (
        int(pyogrio.read_dataframe(path, fid_as_index=True).index[2])
        if suffix != (".parquet")
        else 2
    )
    with pytest.raises(VectorError, match=f"feature {number}: it has .* crosses itself"):
        read_footprints(path, UTM)


@pytest.mark.parametrize("name", ["a" * 300 + ".geojson", "a\0.gpkg", "a\udcff.geojson", "a.kml"])
def test_names_that_no_file_has_are_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(VectorError) as refused:
        read_footprints(tmp_path / name, UTM)
    assert "\n" not in str(refused.value)


def test_parts_of_collections_keep_their_features() -> None:
    inner = shapely.GeometryCollection([BOXES[1], shapely.Point(0, 0)])
    geometries = np.array(
        [BOXES[0], None, shapely.GeometryCollection([inner, BOXES[2]]), shapely.Point(1, 1)],
        dtype=object,
    )
    parts, source = simple_parts(geometries)
    assert list(source) == [0, 2, 2, 2, 3]
    polygons, of = valid_polygons(geometries)
    assert (list(polygons), list(of)) == ([BOXES[0], BOXES[1], BOXES[2]], [0, 2, 2])
    broken = np.array([shapely.Point(np.nan, 1), None, shapely.Point(1, 1)], dtype=object)
    assert list(is_finite(broken)) == [False, False, True]
    assert len(parts) == 5


def test_a_layer_without_crs_is_read_whole(tmp_path: Path) -> None:
    text = json.dumps({"type": "FeatureCollection", "features": []})
    (tmp_path / "a.geojson").write_text(text)
    assert len(read_layer(tmp_path / "a.geojson", lambda _: (0, 0, 1, 1)).polygons) == 0
