"""Writing footprints to the formats of the field, batch by batch, all of them or nothing."""

import json
import os
import sqlite3
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pyogrio
import pyogrio.errors
import pyproj
import shapely
from numpy.typing import NDArray

from rhm.errors import OutputError
from rhm.files import atomic_path

LAYER = "buildings"
"""The layer's name in formats that have layers."""

FORMATS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON", ".parquet": "Parquet"}
"""Suffix -> GDAL's name of the format that :func:`write_footprints` gives it."""

_SCHEMA = pa.schema([("score", pa.float64()), ("area_m2", pa.float64()), ("geometry", pa.binary())])
_WRITING_FAILED = (
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    pyogrio.errors.FeatureError,
    pa.ArrowException,
    sqlite3.Error,
    RuntimeError,
    OSError,
)


class Footprints(NamedTuple):
    """Some buildings: (N,) polygons, scores in [0, 1] and areas in square metres."""

    polygons: NDArray[Any]
    scores: NDArray[np.float64]
    areas_m2: NDArray[np.float64]


def write_footprints(
    batches: Iterable[Footprints],
    crs: Any,
    path: str | os.PathLike[str],
    *,
    modified: float = 0.0,
) -> int:
    """Write footprints in the format of the path's suffix, holding one batch at a time.

    ``.gpkg`` (GeoPackage, layer ``buildings``), ``.fgb`` (FlatGeobuf) and ``.parquet``
    (GeoParquet) keep the footprints' CRS; ``.geojson`` is WGS 84 by definition (RFC 7946).

    Args:
        batches: are used up.
        crs: of the polygons, or None.
        path: of the file.
        modified: what a format that dates itself says, in seconds since 1970; the same footprints
            then make the same file.

    Returns:
        How many there were.

    Raises:
        OutputError: the suffix is none of these, a GeoJSON has no CRS to come from, or the file
            cannot be written.
    """
    path = Path(path)
    driver = check_format(path, crs)
    pyproj_crs = None if crs is None else pyproj.CRS.from_user_input(crs)
    if driver == "GeoJSON" and pyproj_crs is not None:
        batches, pyproj_crs = _in_degrees(batches, pyproj_crs), pyproj.CRS("EPSG:4326")
    counted = _Counted(batches)
    reader = pa.RecordBatchReader.from_batches(_SCHEMA, map(_record_batch, counted))
    with atomic_path(path) as temporary:
        try:
            if driver == "Parquet":
                _write_parquet(reader, pyproj_crs, temporary)
            else:
                _write_layer(reader, pyproj_crs, temporary, driver, modified)
        except _WRITING_FAILED as error:
            if counted.error is not None:
                raise counted.error from None
            reason = " ".join(str(error).split())
            raise OutputError(f"cannot write {path}: {reason}") from error
    return counted.number


def check_format(path: Path, crs: Any) -> str:
    """Return the format of a file of footprints, GDAL's name of it.

    Raises:
        OutputError: there is none of that suffix, or it cannot hold footprints without CRS.
    """
    driver = FORMATS.get(path.suffix.lower())
    if driver is None:
        raise OutputError(f"cannot write {path}: the suffix must be one of {', '.join(FORMATS)}")
    if driver == "GeoJSON" and crs is None:
        raise OutputError(
            f"cannot write {path}: GeoJSON needs longitudes and latitudes, and the scene has no "
            "coordinate reference system; choose another format"
        )
    return driver


def count_footprints(path: str | os.PathLike[str]) -> int:
    """Return how many footprints a file of :func:`write_footprints` holds."""
    if Path(path).suffix.lower() == ".parquet":
        return int(pyarrow.parquet.read_metadata(path).num_rows)
    return int(pyogrio.read_info(path, force_feature_count=True)["features"])


class _Counted:
    """Batches that are counted, and whose error is remembered: Arrow would tell its text only."""

    def __init__(self, batches: Iterable[Footprints]) -> None:
        self._batches = batches
        self.number = 0
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[Footprints]:
        try:
            for batch in self._batches:
                self.number += len(batch.polygons)
                yield batch
        except BaseException as error:
            self.error = error
            raise


def _record_batch(batch: Footprints) -> pa.RecordBatch:
    geometry = shapely.to_wkb(batch.polygons)
    return pa.record_batch([batch.scores, batch.areas_m2, pa.array(geometry)], schema=_SCHEMA)


def _in_degrees(batches: Iterable[Footprints], crs: pyproj.CRS) -> Iterator[Footprints]:
    for batch in batches:
        placed = gpd.GeoSeries(batch.polygons, crs=crs).to_crs("EPSG:4326")
        yield batch._replace(polygons=placed.to_numpy())


def _write_parquet(reader: pa.RecordBatchReader, crs: pyproj.CRS | None, path: Path) -> None:
    """Write GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0)."""
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": None if crs is None else crs.to_json_dict(),
    }
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    schema = _SCHEMA.with_metadata({"geo": json.dumps(geo)})
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)


def _write_layer(
    reader: pa.RecordBatchReader,
    crs: pyproj.CRS | None,
    path: Path,
    driver: str,
    modified: float,
) -> None:
    options = {"RFC7946": "YES", "COORDINATE_PRECISION": 9} if driver == "GeoJSON" else {}
    with warnings.catch_warnings():
        # A scene without CRS gives footprints without CRS: known, and said where it matters.
        warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
        pyogrio.write_arrow(
            reader,
            path,
            layer=LAYER,
            driver=driver,
            geometry_name="geometry",
            geometry_type="Polygon",
            crs=None if crs is None else crs.to_wkt(),
            layer_options=options,
        )
    if driver == "GPKG":
        _date(path, modified)


def _date(geopackage: Path, modified: float) -> None:
    """Have a GeoPackage say that it was last changed at this time, in seconds since 1970."""
    # GDAL can be told the date beforehand, but then of every file of the process.
    date = datetime.fromtimestamp(modified, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    with closing(sqlite3.connect(geopackage)) as database, database:
        database.execute("UPDATE gpkg_contents SET last_change = ?", (date,))
