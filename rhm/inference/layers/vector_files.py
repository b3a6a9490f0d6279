"""Vector files of footprints, written batch by batch, either completely or not at all.

``FORMATS`` describes the formats. A format that is added there can be chosen on the command line,
is written and counted by predictions, shown by the viewer, and checked by ``rhm doctor``.
"""

import json
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pyogrio
import pyogrio.errors
import pyproj
import pyproj.exceptions
import shapely
from numpy.typing import NDArray

from rhm.data.vectors.antimeridian import whole_in
from rhm.data.vectors.geoparquet import read_geoparquet
from rhm.data.vectors.side_files import count_rows, read_frame
from rhm.errors import OutputError, VectorError
from rhm.files import atomic_path
from rhm.inference.layers import stamps
from rhm.inference.layers.geopackage import (
    check_geopackage_closed,
    date_geopackage,
    is_geopackage_as_left,
    remove_companions,
    seal_geopackage,
    stamp_of_geopackage,
)
from rhm.inference.layers.stamps import FoundStamp, Stamp

LAYER = "buildings"
"""Name of the layer, in formats that have layers."""

KEEP_IT = "choose another folder, move the file, or replace it with --overwrite"
"""End of messages about files that a prediction does not replace unless it is told to."""

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
    """A batch of footprints: (N,) polygons, scores in [0, 1] and areas in square metres."""

    polygons: NDArray[Any]
    scores: NDArray[np.float64]
    areas_m2: NDArray[np.float64]


def _write_by_gdal(
    reader: pa.RecordBatchReader, crs: pyproj.CRS | None, path: Path, kind: "Format", stamp: str
) -> None:
    described = {} if kind.describes_file or not stamp else {"DESCRIPTION": stamp}
    about_file = {"RHM": stamp} if kind.describes_file and stamp else None
    with warnings.catch_warnings():
        # A scene without CRS gives footprints without CRS; the plan of the prediction notes it.
        warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
        pyogrio.write_arrow(
            reader,
            path,
            layer=LAYER,
            driver=kind.driver,
            geometry_name="geometry",
            geometry_type="Polygon",
            crs=None if crs is None else crs.to_wkt(),
            dataset_metadata=about_file,
            **dict(kind.options) | described,
        )


@dataclass(frozen=True)
class Format:
    """A vector format for footprints.

    Attributes:
        driver: name in messages, and of the GDAL driver if GDAL writes the format.
        begins: bytes that every file begins with, possibly after white space.
        options: options of the driver, for the file or the layer.
        in_degrees: whether coordinates are longitudes and latitudes in WGS 84 by definition.
        by_gdal: whether GDAL writes the format, and therefore needs the driver.
        describes_file: whether GDAL writes the stamp into the metadata of the file, instead of the
            description of the layer.
        write: function that writes all footprints of a reader, in a CRS or None, to a path, with
            the text of a stamp that may be empty; by default GDAL writes them.
        date: function that sets the time of the last change inside a file, in seconds since 1970;
            None for formats that do not store it.
        count: function that returns the number of footprints in a file.
        read: function that reads a file.
        seal: function that writes the hash of the content of a file into its stamp.
        stamp_of: function that returns the stamp of a file, or None.
        is_as_left: function that returns whether a file with a stamp has not been edited since.
        check_closed: function that raises ``OutputError`` if a program has a file open in a way
            that would ruin its replacement.
        remove_companions: function that removes what programs left beside a file that is closed.
    """

    driver: str
    begins: bytes
    options: Mapping[str, Any] = field(default_factory=dict)
    in_degrees: bool = False
    by_gdal: bool = True
    describes_file: bool = False
    write: Callable[[pa.RecordBatchReader, pyproj.CRS | None, Path, "Format", str], None] = (
        _write_by_gdal
    )
    date: Callable[[Path, float], None] | None = None
    count: Callable[[Path], int] = count_rows
    read: Callable[[Path], gpd.GeoDataFrame] = read_frame
    seal: Callable[[Path], None] = stamps.seal
    stamp_of: Callable[[Path], FoundStamp | None] = stamps.stamp_of
    is_as_left: Callable[[Path], bool] = stamps.is_as_left
    check_closed: Callable[[Path], None] | None = None
    remove_companions: Callable[[Path], None] | None = None


def _write_parquet(
    reader: pa.RecordBatchReader, crs: pyproj.CRS | None, path: Path, _: Format, stamp: str
) -> None:
    """Write GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0)."""
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": None if crs is None else crs.to_json_dict(),
    }
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    known = {"geo": json.dumps(geo)} | ({"RHM": stamp} if stamp else {})
    schema = reader.schema.with_metadata(known)
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)


def _count_parquet(path: Path) -> int:
    return int(pyarrow.parquet.read_metadata(path).num_rows)


FORMATS = {
    ".gpkg": Format(
        "GPKG",
        b"SQLite format 3",
        options={"VERSION": "1.3"},  # QGIS 3.22 warns of later ones
        date=date_geopackage,
        describes_file=True,
        seal=seal_geopackage,
        stamp_of=stamp_of_geopackage,
        is_as_left=is_geopackage_as_left,
        check_closed=check_geopackage_closed,
        remove_companions=remove_companions,
    ),
    ".fgb": Format("FlatGeobuf", b"fgb"),
    ".geojson": Format(
        "GeoJSON",
        b"{",
        options={"RFC7946": "YES", "COORDINATE_PRECISION": 9},
        in_degrees=True,
    ),
    ".parquet": Format(
        "Parquet",
        b"PAR1",
        by_gdal=False,
        write=_write_parquet,
        count=_count_parquet,
        read=read_geoparquet,
    ),
}
"""Formats that :func:`write_footprints` supports, by the suffix of their files."""


def format_names() -> list[str]:
    """Return the names of the formats: their suffixes without the dot."""
    return [suffix.removeprefix(".") for suffix in FORMATS]


def write_footprints(
    batches: Iterable[Footprints],
    crs: Any,
    path: str | os.PathLike[str],
    *,
    modified: float = 0.0,
    stamp: Stamp | None = None,
) -> int:
    """Write footprints to a vector file, holding one batch in memory at a time.

    The suffix of the path determines the format. The file keeps the CRS of the footprints, unless
    its format is in degrees by definition.

    Args:
        batches: batches of footprints, which are consumed.
        crs: CRS of the polygons, or None.
        path: path of the file.
        modified: time of the last change to store in formats that have one, in seconds since 1970,
            so that equal footprints give equal files.
        stamp: origin to store in the file; see :func:`check_replaceable`.

    Returns:
        Number of footprints.

    Raises:
        OutputError: the suffix is not one of ``FORMATS``, a format in degrees has no CRS, a program
            has the existing file open, or the file cannot be written.
    """
    path = Path(path)
    kind = check_format(path, crs)
    pyproj_crs = None if crs is None else pyproj.CRS.from_user_input(crs)
    if kind.in_degrees and pyproj_crs is not None:
        batches, pyproj_crs = _in_degrees(batches, pyproj_crs), pyproj.CRS("EPSG:4326")
    tables = map(_record_batch, batches)
    return write_table(tables, _SCHEMA, pyproj_crs, path, modified=modified, stamp=stamp)


def write_table(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    crs: pyproj.CRS | None,
    path: Path,
    *,
    modified: float = 0.0,
    stamp: Stamp | None = None,
    overwrite: bool = True,
) -> int:
    """Write polygons with any attributes to a vector file, holding one batch in memory at a time.

    Args:
        batches: batches of rows, which are consumed.
        schema: columns of the batches; the last is ``geometry``, as WKB.
        crs: CRS of the polygons, or None; longitudes and latitudes for formats that are in degrees.
        path: path of the file, whose suffix determines the format.
        modified: time of the last change; see :func:`write_footprints`.
        stamp: origin to store in the file; see :func:`check_replaceable`.
        overwrite: whether to replace a file that is not an earlier one of this origin as it was
            left, which is checked when the new one is complete.

    Returns:
        Number of rows.

    Raises:
        OutputError: see :func:`write_footprints`; or the file must not be replaced.
    """
    kind = check_format(path, crs)
    check_closed(path)
    counted = _Counted(batches)
    reader = pa.RecordBatchReader.from_batches(schema, counted)
    with atomic_path(path) as temporary:
        try:
            kind.write(reader, crs, temporary, kind, stamp.text if stamp else "")
            if kind.date is not None:
                kind.date(temporary, modified)
            if stamp is not None:
                kind.seal(temporary)
        except _WRITING_FAILED as error:
            if counted.error is not None:
                raise counted.error from None
            raise OutputError(f"cannot write {path}: {' '.join(str(error).split())}") from error
        if stamp is not None and not overwrite:
            check_replaceable(path, stamp.origin)
        make_way(path)
    return counted.number


def check_closed(path: Path) -> None:
    """Check that no program has a vector file open in a way that would ruin its replacement.

    Raises:
        OutputError: a program has.
    """
    check = FORMATS[path.suffix.lower()].check_closed
    if check is not None:
        check(path)


def make_way(path: Path) -> None:
    """Prepare the place of a vector file that is about to be renamed to its final name.

    Raises:
        OutputError: a program has the existing file open.
    """
    check_closed(path)
    remove = FORMATS[path.suffix.lower()].remove_companions
    if remove is not None:
        remove(path)


def stamp_of_footprints(path: Path) -> FoundStamp | None:
    """Return the stamp of an existing vector file; None if no prediction wrote it."""
    try:
        return FORMATS[path.suffix.lower()].stamp_of(path) if path.is_file() else None
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error


def check_replaceable(path: Path, origin: str) -> None:
    """Check that an existing vector file holds nothing but earlier results of the same scene.

    Args:
        path: path of the file, which need not exist.
        origin: origin of the scene; see :class:`~rhm.inference.layers.stamps.Stamp`.

    Raises:
        OutputError: no prediction wrote the file, it is of another scene, or it was edited since.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return
    stamp = stamp_of_footprints(path)
    if stamp is None:
        raise OutputError(f"{path} exists and was not written by a prediction: {KEEP_IT}")
    if stamp.origin != origin:
        raise OutputError(f"{path} holds the results of another scene of this name: {KEEP_IT}")
    if not FORMATS[path.suffix.lower()].is_as_left(path):
        raise OutputError(f"{path} was edited after its prediction: {KEEP_IT}")


def check_format(path: Path, crs: Any) -> Format:
    """Return the format of a vector file, after checking that it supports the CRS.

    Raises:
        OutputError: no format has the suffix, or the format needs longitudes and latitudes and the
            CRS has none.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise OutputError(f"cannot write {path}: the suffix must be one of {', '.join(FORMATS)}")
    if kind.in_degrees and not _has_degrees(crs):
        raise OutputError(
            f"cannot write {path}: {kind.driver} needs longitudes and latitudes, and the scene "
            "has no coordinate reference system on Earth; choose another format"
        )
    return kind


def _has_degrees(crs: Any) -> bool:
    """Return whether coordinates of a CRS, or of none, can be transformed to WGS 84."""
    if crs is None:
        return False
    try:
        pyproj.Transformer.from_crs(pyproj.CRS.from_user_input(crs), "EPSG:4326")
    except pyproj.exceptions.ProjError:
        return False
    return True


def count_footprints(path: str | os.PathLike[str]) -> int:
    """Return the number of footprints in a file that :func:`write_footprints` wrote.

    Raises:
        OutputError: the file cannot be read.
    """
    path = Path(path)
    try:
        return FORMATS[path.suffix.lower()].count(path)
    except (*_WRITING_FAILED, VectorError) as error:
        raise OutputError(
            f"{path} cannot be read: move it, and predict the scene again without --resume"
        ) from error


class _Counted:
    """Batches with their total and their error, of which Arrow would pass on only the text."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._batches = batches
        self.number = 0
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._batches:
                self.number += batch.num_rows
                yield batch
        except BaseException as error:
            self.error = error
            raise


def _record_batch(batch: Footprints) -> pa.RecordBatch:
    geometry = pa.array(shapely.to_wkb(batch.polygons))
    return pa.record_batch([batch.scores, batch.areas_m2, geometry], schema=_SCHEMA)


def _in_degrees(batches: Iterable[Footprints], crs: pyproj.CRS) -> Iterator[Footprints]:
    for batch in batches:
        yield batch._replace(polygons=whole_in(batch.polygons, crs, "EPSG:4326"))
