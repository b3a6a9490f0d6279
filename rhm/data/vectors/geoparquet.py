"""GeoParquet files of unknown origin, whose metadata may have any shape."""

import os
from collections.abc import Sequence
from pathlib import Path

import geopandas
import pyarrow.parquet
import pyproj
import pyproj.exceptions

from rhm.documents import parse_json
from rhm.errors import one_line

MOST_ROWS = 1 << 25
"""Most rows of a file; a country has some ten million buildings."""

MOST_BYTES = 1 << 34
"""Most bytes that the columns of a file may declare."""


def read_geoparquet(
    path: str | os.PathLike[str],
    required: Sequence[str] = (),
    *,
    only_geometry: bool = False,
    most_rows: int = MOST_ROWS,
) -> geopandas.GeoDataFrame:
    """Read a local GeoParquet file.

    The numbers of rows and bytes that the file declares are checked before anything is allocated.

    Args:
        path: path of the file.
        required: columns that the file must have besides the geometry.
        only_geometry: whether to read no other column than the geometry.
        most_rows: largest number of rows.

    Raises:
        OSError: there is no such file.
        ValueError: the file is not GeoParquet, lacks a column, or is too large; the message has
            one line.
    """
    with Path(path).open("rb") as file:
        try:
            geometry = _checked(pyarrow.parquet.ParquetFile(file), required, most_rows)
            return geopandas.read_parquet(file, columns=[geometry] if only_geometry else None)
        except Exception as error:
            # pyarrow, geopandas and pyproj raise anything on metadata that they do not expect.
            raise ValueError(one_line(error)) from error


def has_columns(path: str | os.PathLike[str], required: Sequence[str]) -> bool:
    """Return whether a file is GeoParquet with these columns."""
    try:
        with Path(path).open("rb") as file:
            _checked(pyarrow.parquet.ParquetFile(file), required, MOST_ROWS)
    except Exception:  # noqa: BLE001 (pyarrow raises anything on what it does not expect)
        return False
    return True


def _checked(table: pyarrow.parquet.ParquetFile, required: Sequence[str], most_rows: int) -> str:
    """Return the name of the geometry's column, after checking size and columns."""
    facts = table.metadata
    if facts.num_rows > most_rows:
        raise ValueError(f"it has {facts.num_rows} rows, more than {most_rows}")
    size = sum(facts.row_group(number).total_byte_size for number in range(facts.num_row_groups))
    if size > MOST_BYTES:
        raise ValueError(f"it unpacks to {size / 1e9:.1f} GB, more than {MOST_BYTES / 1e9:.1f} GB")
    about = parse_json(((table.schema_arrow.metadata or {}).get(b"geo") or b"null").decode("utf-8"))
    geometry = about.get("primary_column") if isinstance(about, dict) else None
    if not isinstance(geometry, str):
        raise ValueError("it is not GeoParquet: its metadata name no geometry")
    present = table.schema_arrow.names
    for name in (*required, geometry):
        if name not in present:
            raise ValueError(f"it has no column '{name}'")
    return geometry


def check_geoparquet(table: pyarrow.parquet.ParquetFile) -> tuple[str, pyproj.CRS | None]:
    """Return the column of the geometry and the CRS of an open GeoParquet file.

    Raises:
        ValueError: the file is not GeoParquet with geometries as WKB, or is too large; the message
            has one line.
    """
    geometry = _checked(table, (), MOST_ROWS)
    about = parse_json(table.schema_arrow.metadata[b"geo"].decode("utf-8"))
    columns = about.get("columns")
    known = columns.get(geometry) if isinstance(columns, dict) else None
    if not isinstance(known, dict) or known.get("encoding") != "WKB":
        raise ValueError("its geometries are not WKB: write it again with geopandas or GDAL")
    # Without an entry, longitudes and latitudes are meant; null means that there is no CRS.
    crs = known.get("crs", "OGC:CRS84")
    try:
        return geometry, None if crs is None else pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.ProjError as error:
        raise ValueError(
            f"its coordinate reference system is unknown: {one_line(error)}"
        ) from error
