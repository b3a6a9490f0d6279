"""The export has the columns and types of Overture's schema, and is GeoParquet 1.1."""

import json
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow.parquet
import pytest
import shapely

from rhm.inference.layers.stamps import Stamp
from rhm.mapping.comparison.overture import SCHEMA, OvertureBuildings, write_overture

STAMP = Stamp("1", "2")
SQUARE = shapely.box(13.0, 52.0, 13.0001, 52.0001)


def buildings(count: int) -> OvertureBuildings:
    unknown = np.full(count, np.nan)
    return OvertureBuildings(
        np.array([SQUARE] * count, dtype=object),
        [None] * count,
        ["7"] * count,
        ["rhm"] * count,
        np.full(count, 0.75),
        unknown,
        np.full(count, 2.0),
    )


def test_columns_types_and_covering(tmp_path: Path) -> None:
    path = tmp_path / "b.parquet"
    write_overture(buildings(2), path, STAMP)
    table = pyarrow.parquet.read_table(path)
    assert table.schema.remove_metadata().equals(SCHEMA)
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    (first, second) = table.to_pylist()
    assert first["id"] == second["id"]  # the same ground has the same identifier
    assert len(first["id"]) == 36
    assert (first["theme"], first["type"], first["version"]) == ("buildings", "building", 0)
    (source,) = first["sources"]
    assert (source["dataset"], source["record_id"], source["confidence"]) == ("rhm", "7", 0.75)
    assert first["height"] is None
    assert first["num_floors"] == 2
    assert first["bbox"]["xmin"] == pytest.approx(13.0)
    assert first["bbox"]["ymax"] == pytest.approx(52.0001)
    assert gpd.read_parquet(path).geometry[0].equals(SQUARE)


def test_boxes_contain_their_buildings(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(-80.0, 80.0, (100, 2))
    shapes = [shapely.box(x, y, x + 1e-4, y + 1e-4) for x, y in corners]
    many = replace(buildings(100), polygons=np.array(shapes, dtype=object))
    write_overture(many, tmp_path / "b.parquet", STAMP)
    boxes = pyarrow.parquet.read_table(tmp_path / "b.parquet").column("bbox").to_pylist()
    for box, shape in zip(boxes, shapes, strict=True):
        drawn = shapely.box(box["xmin"], box["ymin"], box["xmax"], box["ymax"])
        assert drawn.covers(shape)
        assert drawn.bounds == pytest.approx(shape.bounds, abs=1e-5)


def test_an_empty_file_has_the_schema(tmp_path: Path) -> None:
    write_overture(buildings(0), tmp_path / "none.parquet", STAMP)
    assert pyarrow.parquet.read_metadata(tmp_path / "none.parquet").num_rows == 0
