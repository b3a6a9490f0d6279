"""Polygons of vector files of any size with some of their attributes, a batch at a time."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pyogrio
import pyproj
import pyproj.exceptions
import shapely
from numpy.typing import NDArray
from shapely.errors import ShapelyError

from rhm.data.vectors.geoparquet import check_geoparquet
from rhm.data.vectors.layer_choice import facts_of_layer, polygon_layers, selection
from rhm.data.vectors.repair import TangledError
from rhm.data.vectors.side_files import no_side_files
from rhm.data.vectors.vector_layer import (
    VectorFormat,
    checked_format,
    valid_polygons,
)
from rhm.errors import VectorError, one_line

BATCH = 1 << 16
"""Most features of a batch."""

_FAILED = (
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    pyogrio.errors.FeatureError,
    pyproj.exceptions.ProjError,
    pa.ArrowException,
    ShapelyError,
    OSError,
    ValueError,
    RuntimeError,
)


@dataclass(frozen=True)
class PolygonBatch:
    """Some polygons of a file.

    Attributes:
        polygons: (N,) valid polygons without heights.
        columns: attributes of the polygons, (N,) each, by name; only those that the file has.
    """

    polygons: NDArray[Any]
    columns: dict[str, NDArray[Any]]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return an attribute as numbers, (N,) float64; NaN where it is missing or no number."""
        values = self.columns.get(name)
        if values is None:
            return np.full(len(self.polygons), np.nan)
        if values.dtype.kind in "iuf":
            return values.astype(np.float64)
        return np.array([_number(value) for value in values], dtype=np.float64)

    def texts(self, name: str) -> NDArray[Any]:
        """Return an attribute as texts, (N,) of str or None; whole numbers have no decimals."""
        values = self.columns.get(name, np.full(len(self.polygons), None, dtype=object))
        return np.array([_text(value) for value in values], dtype=object)


@dataclass(frozen=True)
class StreamedLayer:
    """A vector file that is being read.

    Attributes:
        crs: coordinate reference system, or None.
        names: names of all attributes.
        batches: the polygons; a multipolygon gives one for each of its parts.
    """

    crs: pyproj.CRS | None
    names: tuple[str, ...]
    batches: Iterator[PolygonBatch]


@contextmanager
def streamed(path: str | os.PathLike[str], columns: Sequence[str]) -> Iterator[StreamedLayer]:
    """Open a vector file and yield its polygons in batches.

    Args:
        path: file in one of ``vector_layer.VECTOR_FORMATS``. Of several layers, the one with
            polygons is read; the folders of a KML file are read together.
        columns: names of the attributes to read, where the file has them.

    Raises:
        VectorError: the file cannot be read, is of another format than its name says, has no
            polygon layer or more than one, or a polygon cannot be repaired. The iterator raises it,
            too.
    """
    path = Path(path)
    try:
        kind = checked_format(path)
        opened = _by_gdal(path, kind, columns) if kind.drivers else _by_arrow(path, columns)
        with opened as layer:
            yield layer
    except TangledError as error:
        raise VectorError(f"{path}: {error}") from error
    except _FAILED as error:
        told = one_line(error)
        if "Nonlinear" in told:
            told = "it has curved polygons: make them straight, with ogr2ogr -nlt CONVERT_TO_LINEAR"
        raise VectorError(f"cannot read footprints from {path}: {told}") from error


@contextmanager
def _by_gdal(path: Path, kind: VectorFormat, columns: Sequence[str]) -> Iterator[StreamedLayer]:
    layers = polygon_layers(path, kind.drivers, together=kind.together)
    facts = facts_of_layer(path, layers[0], kind.drivers)
    chosen, crs = selection(layers), facts["crs"]
    names = _attributes(path, chosen) if len(layers) > 1 else tuple(map(str, facts["fields"]))
    wanted = [column for column in columns if column in names]
    asked: dict[str, Any] = {"columns": wanted, "batch_size": BATCH, "use_pyarrow": True}
    with no_side_files(), pyogrio.open_arrow(path, **chosen, **asked) as (meta, reader):
        geometry = meta["geometry_name"] or "wkb_geometry"
        yield StreamedLayer(
            None if crs is None else pyproj.CRS.from_user_input(crs),
            names,
            (_batch(batch, geometry, wanted) for batch in reader),
        )


@no_side_files()
def _attributes(path: Path, chosen: dict[str, str]) -> tuple[str, ...]:
    """Return the names of the attributes that at least one of several layers has."""
    with pyogrio.open_arrow(path, **chosen, read_geometry=False, use_pyarrow=True) as (meta, _):
        return tuple(map(str, meta["fields"]))


@contextmanager
def _by_arrow(path: Path, columns: Sequence[str]) -> Iterator[StreamedLayer]:
    with path.open("rb") as file:
        table = pyarrow.parquet.ParquetFile(file)
        geometry, crs = check_geoparquet(table)
        names = tuple(name for name in table.schema_arrow.names if name != geometry)
        wanted = [column for column in columns if column in names]
        batches = table.iter_batches(BATCH, columns=[geometry, *wanted])
        yield StreamedLayer(crs, names, (_batch(batch, geometry, wanted) for batch in batches))


def _batch(batch: pa.RecordBatch, geometry: str, wanted: Sequence[str]) -> PolygonBatch:
    stored = batch.column(batch.schema.get_field_index(geometry)).to_numpy(zero_copy_only=False)
    found = shapely.force_2d(shapely.from_wkb(stored, on_invalid="ignore"))
    polygons, source = valid_polygons(np.atleast_1d(found))
    columns = {name: _values(batch.column(name))[source] for name in wanted}
    return PolygonBatch(polygons, columns)


def _values(column: pa.Array) -> NDArray[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_integer(column.type) and column.null_count:
        # As numbers with decimals, large identifiers would become those of others.
        return np.array(column.to_pylist(), dtype=object)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _text(value: Any) -> str | None:
    if not isinstance(value, float | np.floating):
        return None if value is None else str(value)
    if np.isnan(value):
        return None
    # Some formats store whole numbers with decimals.
    return str(int(value)) if float(value).is_integer() else str(value)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
