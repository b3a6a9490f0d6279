"""GeoParquet of unknown origin; law: the frame that was written, or a ValueError of one line."""

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import shapely

from rhm.data.vectors import geoparquet
from rhm.data.vectors.geoparquet import read_geoparquet


@pytest.fixture
def frame() -> geopandas.GeoDataFrame:
    boxes = [shapely.box(x, 0, x + 1, 1) for x in range(3)]
    return geopandas.GeoDataFrame({"name": list("abc")}, geometry=boxes, crs="EPSG:32630")


def test_a_file_is_read_as_it_was_written(frame: geopandas.GeoDataFrame, tmp_path: Path) -> None:
    frame.to_parquet(tmp_path / "a.parquet")
    whole = read_geoparquet(tmp_path / "a.parquet", ["name"])
    assert whole.crs == frame.crs
    assert whole.geom_equals(frame).all()
    assert list(whole["name"]) == list("abc")
    assert list(read_geoparquet(tmp_path / "a.parquet", only_geometry=True)) == ["geometry"]


COLUMN = {"encoding": "WKB", "geometry_types": []}
METADATA: list[Any] = [
    None,
    7,
    [],
    "geometry",
    {},
    {"primary_column": 5},
    {"primary_column": "geometry"},
    {"primary_column": "elsewhere", "columns": {}},
    {"primary_column": "geometry", "columns": 5, "version": "1.0.0"},
    {"primary_column": "geometry", "columns": [], "version": "1.0.0"},
    {"primary_column": "geometry", "columns": {"geometry": None}, "version": "1.0.0"},
    {"primary_column": "geometry", "columns": {"geometry": COLUMN | {"crs": 5}}, "version": "1"},
    {"primary_column": "geometry", "columns": {"geometry": COLUMN | {"encoding": 5}}},
    {"primary_column": "geometry", "columns": {"geometry": COLUMN, "more": COLUMN}},
]


@pytest.mark.parametrize("about", METADATA, ids=range(len(METADATA)))
def test_metadata_of_any_shape_are_refused_in_one_line(
    frame: geopandas.GeoDataFrame, tmp_path: Path, about: object
) -> None:
    frame.to_parquet(tmp_path / "a.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({"geo": json.dumps(about)}), tmp_path / "b.parquet"
    )
    with pytest.raises(ValueError, match=r"\w") as refused:
        read_geoparquet(tmp_path / "b.parquet", ["name"])
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", [b"\xff", b"[" * 5000, b"{", b"1" * 9999])
def test_metadata_that_are_no_json_are_refused(
    frame: geopandas.GeoDataFrame, tmp_path: Path, text: bytes
) -> None:
    frame.to_parquet(tmp_path / "a.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({"geo": text}), tmp_path / "b.parquet"
    )
    with pytest.raises(ValueError, match=r"\w") as refused:
        read_geoparquet(tmp_path / "b.parquet")
    assert str(refused.value).isprintable()


def test_what_a_file_lacks_is_named(frame: geopandas.GeoDataFrame, tmp_path: Path) -> None:
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="no column 'kind'"):
        read_geoparquet(tmp_path / "a.parquet", ["kind"])
    (tmp_path / "b.parquet").write_text("no")
    with pytest.raises(ValueError, match=r"\w"):
        read_geoparquet(tmp_path / "b.parquet")
    with pytest.raises(FileNotFoundError):
        read_geoparquet(tmp_path / "c.parquet")


def test_more_rows_or_bytes_than_allowed_are_refused_before_they_are_read(
    frame: geopandas.GeoDataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "many.parquet"
    # 40 million missing values take a few kilobytes.
    column = pa.nulls(40_000_000, pa.int8())
    pyarrow.parquet.write_table(pa.table({"geometry": column}), path)
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="40000000 rows, more than"):
        read_geoparquet(path)
    frame.assign(noise=np.arange(3)).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="3 rows, more than 2"):
        read_geoparquet(tmp_path / "a.parquet", most_rows=2)
    monkeypatch.setattr(geoparquet, "MOST_BYTES", 10)
    with pytest.raises(ValueError, match="unpacks to"):
        read_geoparquet(tmp_path / "a.parquet")
