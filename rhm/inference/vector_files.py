"""Files of footprints: the formats of the field, each written batch by batch, whole or not at all.

``FORMATS`` holds all that is known of a format. One that is added there can be chosen on the
command line, is written and counted by predictions, shown by the viewer, and checked by
``rhm doctor``.
"""

import json
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
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


def _write_by_gdal(
    reader: pa.RecordBatchReader, crs: pyproj.CRS | None, path: Path, kind: "Format"
) -> None:
    with warnings.catch_warnings():
        # A scene without CRS gives footprints without CRS: known, and said where it matters.
        warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
        pyogrio.write_arrow(
            reader,
            path,
            layer=LAYER,
            driver=kind.driver,
            geometry_name="geometry",
            geometry_type="Polygon",
            crs=None if crs is None else crs.to_wkt(),
            layer_options=dict(kind.layer_options),
        )


def _count_by_gdal(path: Path) -> int:
    return int(pyogrio.read_info(path, force_feature_count=True)["features"])


@dataclass(frozen=True)
class Format:
    """A format of footprints.

    Attributes:
        driver: the name that messages give it, and GDAL's of the driver that writes it.
        begins: the bytes that every file of it begins with, after white space if there is some.
        layer_options: that the driver is given.
        in_degrees: whether its coordinates are longitudes and latitudes of WGS 84 by definition.
        by_gdal: whether GDAL writes it, which then needs the driver.
        write: writes all of a reader's footprints, in a CRS or in none, to a path; by GDAL unless
            said otherwise.
        date: makes a file say that it was last changed at a time, in seconds since 1970; None for
            a format whose files say nothing of the kind.
        count: tells how many footprints a file holds.
        read: reads a file back.
    """

    driver: str
    begins: bytes
    layer_options: Mapping[str, Any] = field(default_factory=dict)
    in_degrees: bool = False
    by_gdal: bool = True
    write: Callable[[pa.RecordBatchReader, pyproj.CRS | None, Path, "Format"], None] = (
        _write_by_gdal
    )
    date: Callable[[Path, float], None] | None = None
    count: Callable[[Path], int] = _count_by_gdal
    read: Callable[[Path], gpd.GeoDataFrame] = gpd.read_file


def _date_geopackage(path: Path, modified: float) -> None:
    # GDAL can be told the date beforehand, but then of every file of the process.
    date = datetime.fromtimestamp(modified, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE gpkg_contents SET last_change = ?", (date,))


def _write_parquet(
    reader: pa.RecordBatchReader, crs: pyproj.CRS | None, path: Path, _: Format
) -> None:
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


def _count_parquet(path: Path) -> int:
    return int(pyarrow.parquet.read_metadata(path).num_rows)


FORMATS = {
    ".gpkg": Format("GPKG", b"SQLite format 3", date=_date_geopackage),
    ".fgb": Format("FlatGeobuf", b"fgb"),
    ".geojson": Format(
        "GeoJSON",
        b"{",
        layer_options={"RFC7946": "YES", "COORDINATE_PRECISION": 9},
        in_degrees=True,
    ),
    ".parquet": Format(
        "Parquet",
        b"PAR1",
        by_gdal=False,
        write=_write_parquet,
        count=_count_parquet,
        read=gpd.read_parquet,
    ),
}
"""The formats that :func:`write_footprints` knows, by the suffix of their files."""


def format_names() -> list[str]:
    """Return the names of the formats: their suffixes without the dot."""
    return [suffix.removeprefix(".") for suffix in FORMATS]


def write_footprints(
    batches: Iterable[Footprints],
    crs: Any,
    path: str | os.PathLike[str],
    *,
    modified: float = 0.0,
) -> int:
    """Write footprints in the format of the path's suffix, holding one batch at a time.

    The file keeps the footprints' CRS, unless its format is in degrees by definition.

    Args:
        batches: are used up.
        crs: of the polygons, or None.
        path: of the file.
        modified: what a format that dates itself says, in seconds since 1970; the same footprints
            then make the same file.

    Returns:
        How many there were.

    Raises:
        OutputError: the suffix is none of ``FORMATS``, a file in degrees has no CRS to come from,
            or the file cannot be written.
    """
    path = Path(path)
    kind = check_format(path, crs)
    pyproj_crs = None if crs is None else pyproj.CRS.from_user_input(crs)
    if kind.in_degrees and pyproj_crs is not None:
        batches, pyproj_crs = _in_degrees(batches, pyproj_crs), pyproj.CRS("EPSG:4326")
    counted = _Counted(batches)
    reader = pa.RecordBatchReader.from_batches(_SCHEMA, map(_record_batch, counted))
    with atomic_path(path) as temporary:
        try:
            kind.write(reader, pyproj_crs, temporary, kind)
            if kind.date is not None:
                kind.date(temporary, modified)
        except _WRITING_FAILED as error:
            if counted.error is not None:
                raise counted.error from None
            reason = " ".join(str(error).split())
            raise OutputError(f"cannot write {path}: {reason}") from error
    return counted.number


def check_format(path: Path, crs: Any) -> Format:
    """Return the format of a file of footprints.

    Raises:
        OutputError: there is none of that suffix, or it cannot hold footprints without CRS.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise OutputError(f"cannot write {path}: the suffix must be one of {', '.join(FORMATS)}")
    if kind.in_degrees and crs is None:
        raise OutputError(
            f"cannot write {path}: {kind.driver} needs longitudes and latitudes, and the scene "
            "has no coordinate reference system; choose another format"
        )
    return kind


def count_footprints(path: str | os.PathLike[str]) -> int:
    """Return how many footprints a file of :func:`write_footprints` holds."""
    path = Path(path)
    return FORMATS[path.suffix.lower()].count(path)


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
