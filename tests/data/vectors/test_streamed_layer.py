"""Files of any format come in batches, with their attributes."""

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from rhm.data.vectors import streamed_layer
from rhm.data.vectors.streamed_layer import streamed
from rhm.errors import VectorError

UTM = "EPSG:32633"


def frame() -> gpd.GeoDataFrame:
    """Two parts of one feature, a polygon with a height, a bow tie and a point."""
    shapes = [
        shapely.MultiPolygon([shapely.box(0, 0, 2, 2), shapely.box(5, 0, 6, 1)]),
        shapely.force_3d(shapely.box(0, 5, 2, 7), 3.0),
        shapely.Polygon([(0, 10), (2, 12), (2, 10), (0, 12)]),
        shapely.Point(3, 3),
    ]
    values = {"score": [0.5, None, 0.25, 1.0], "name": ["a", "b", None, "c"]}
    return gpd.GeoDataFrame(values, geometry=shapes, crs=UTM)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".fgb"])
@pytest.mark.parametrize("size", [1, 1000])
def test_polygons_come_with_the_attributes_of_their_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, size: int
) -> None:
    monkeypatch.setattr(streamed_layer, "BATCH", size)
    path = tmp_path / f"a{suffix}"
    whole = frame()
    if suffix == ".parquet":
        whole.to_parquet(path)
    elif suffix == ".fgb":  # which takes heights for all or for none
        whole.geometry = shapely.force_2d(whole.geometry.to_numpy())
        whole.to_file(path, SPATIAL_INDEX="NO")
    else:
        whole.to_file(path)
    with streamed(path, ["score", "name", "missing"]) as layer:
        assert {"score", "name"} <= set(layer.names)
        assert layer.crs == UTM
        batches = list(layer.batches)
    assert all(len(batch.polygons) <= 2 * size for batch in batches)
    areas = np.concatenate([shapely.area(batch.polygons) for batch in batches])
    assert sorted(areas) == pytest.approx([1.0, 1.0, 1.0, 4.0, 4.0])
    assert not any(shapely.has_z(batch.polygons).any() for batch in batches)
    scores = np.concatenate([batch.numbers("score") for batch in batches])
    assert scores == pytest.approx([0.5, 0.5, np.nan, 0.25, 0.25], nan_ok=True)
    texts = np.concatenate([batch.texts("name") for batch in batches])
    assert texts.tolist() == ["a", "a", "b", None, None]
    assert np.isnan(batches[0].numbers("missing")).all()
    assert batches[0].texts("missing")[0] is None


def test_texts_that_are_numbers_are_read_as_numbers() -> None:
    batch = streamed_layer.PolygonBatch(
        np.array([shapely.box(0, 0, 1, 1)] * 3), {"score": np.array(["0.5", "x", None], object)}
    )
    assert batch.numbers("score") == pytest.approx([0.5, np.nan, np.nan], nan_ok=True)


@pytest.mark.filterwarnings("ignore")  # of GDAL, about the damaged file
@pytest.mark.parametrize(
    ("name", "data"),
    [("a.gpkg", b"no"), ("a.gpkg", b"SQLite format 3\0" + bytes(99)), ("a.parquet", b"PAR1PAR1"),
     ("a.vrt", b"<OGRVRTDataSource/>"), ("a.geojson", b"{}")],
)  # fmt: skip
def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(VectorError, match=name) as caught, streamed(path, []) as layer:
        list(layer.batches)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:geometry column type")
def test_curved_polygons_are_refused_with_a_way_out(tmp_path: Path) -> None:
    """GDAL's Python packages for vectors write none, so this one is put into a database."""
    path = tmp_path / "curved.gpkg"
    gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 2, 2)], crs=UTM).to_file(path)
    circle = [(0.0, 5.0), (1.0, 6.0), (2.0, 5.0), (1.0, 4.0), (0.0, 5.0)]
    ring = struct.pack("<BII", 1, 8, len(circle)) + b"".join(
        struct.pack("<dd", *each) for each in circle
    )
    header = b"GP" + bytes([0, 1]) + struct.pack("<i", 32633)
    with closing(sqlite3.connect(path)) as database:
        triggers = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            database.execute(f'DROP TRIGGER "{name}"')
        curved = header + struct.pack("<BII", 1, 10, 1) + ring
        database.execute('INSERT INTO "curved" (geom) VALUES (?)', (curved,))
        database.execute("UPDATE gpkg_geometry_columns SET geometry_type_name = 'CURVEPOLYGON'")
        database.commit()
    with (
        pytest.raises(VectorError, match=r"it has curved polygons: .* -nlt CONVERT_TO_LINEAR"),
        streamed(path, ()) as layer,
    ):
        list(layer.batches)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".fgb", ".shp"])
def test_whole_numbers_stay_whole_where_some_are_missing(tmp_path: Path, suffix: str) -> None:
    """As numbers with decimals, identifiers would be those of other buildings, or of none."""
    large = 9007199254740993 if suffix != ".shp" else 1234567890123
    numbers = pd.array([large, None, 7, 0], dtype="Int64")
    shapes = [shapely.box(3 * i, 0, 3 * i + 2, 2) for i in range(4)]
    values = {"osm_id": numbers, "real": [5.0, None, 2.5, 1e15]}
    found = gpd.GeoDataFrame(values, geometry=shapes, crs=UTM)
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        found.to_parquet(path)
    else:
        found.to_file(path)
    with streamed(path, ["osm_id", "real"]) as layer:
        (batch,) = layer.batches
    order = np.argsort(shapely.bounds(batch.polygons)[:, 0])
    assert batch.texts("osm_id")[order].tolist() == [str(large), None, "7", "0"]
    assert batch.texts("real")[order].tolist() == ["5", None, "2.5", "1000000000000000"]
    expected = [float(large), np.nan, 7.0, 0.0]
    assert batch.numbers("osm_id")[order] == pytest.approx(expected, nan_ok=True)
