"""The export has the columns and types of Overture's schema, and is GeoParquet 1.1."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow.parquet
import pytest
import shapely

from rhm.errors import OutputError
from rhm.mapping.comparison.overture import SCHEMA, OvertureBuildings, write_overture

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
    write_overture(buildings(2), path)
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


def test_an_empty_file_has_the_schema_and_other_suffixes_are_refused(tmp_path: Path) -> None:
    write_overture(buildings(0), tmp_path / "none.parquet")
    assert pyarrow.parquet.read_metadata(tmp_path / "none.parquet").num_rows == 0
    with pytest.raises(OutputError, match=r"\.parquet"):
        write_overture(buildings(1), tmp_path / "b.gpkg")
