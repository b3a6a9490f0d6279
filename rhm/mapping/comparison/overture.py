"""Buildings as GeoParquet in the schema of Overture Maps, theme ``buildings``.

https://docs.overturemaps.org/schema/reference/buildings/building describes the columns. Values
that footprints from imagery do not tell are null. ``bbox`` is the covering of GeoParquet 1.1.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pyproj
import shapely
from numpy.typing import NDArray

from rhm.errors import OutputError
from rhm.files import atomic_path
from rhm.inference.layers import stamps
from rhm.inference.layers.stamps import Stamp

OVERTURE_SUFFIXES = (".parquet",)
"""Suffixes of files in Overture's schema."""

_BATCH = 1 << 16
_SPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "rhm.buildings")
_EDGES = ("xmin", "xmax", "ymin", "ymax")
_SOURCE = pa.struct(
    [
        ("property", pa.string()),
        ("dataset", pa.string()),
        ("record_id", pa.string()),
        ("update_time", pa.string()),
        ("confidence", pa.float64()),
    ]
)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("geometry", pa.binary()),
        ("bbox", pa.struct([(edge, pa.float32()) for edge in _EDGES])),
        ("version", pa.int32()),
        ("sources", pa.list_(_SOURCE)),
        ("level", pa.int32()),
        ("subtype", pa.string()),
        ("class", pa.string()),
        ("height", pa.float64()),
        ("num_floors", pa.int32()),
        ("has_parts", pa.bool_()),
        ("is_underground", pa.bool_()),
        ("theme", pa.string()),
        ("type", pa.string()),
    ]
)


@dataclass(frozen=True)
class OvertureBuildings:
    """Buildings for Overture's schema.

    Attributes:
        polygons: (N,) polygons in EPSG:4326.
        ids: (N,) identifiers that the buildings have in the existing map, or None.
        records: (N,) identifiers in the dataset that the geometry comes from, or None.
        datasets: (N,) names of these datasets.
        confidence: (N,) confidence in [0, 1]; NaN if it is unknown.
        height: (N,) heights in metres; NaN if they are unknown.
        floors: (N,) numbers of floors; NaN if they are unknown.
    """

    polygons: NDArray[Any]
    ids: Sequence[str | None]
    records: Sequence[str | None]
    datasets: Sequence[str]
    confidence: NDArray[np.float64]
    height: NDArray[np.float64]
    floors: NDArray[np.float64]


def write_overture(buildings: OvertureBuildings, path: Path, stamp: Stamp) -> None:
    """Write buildings as GeoParquet in Overture's schema.

    Args:
        buildings: the buildings.
        path: path of the file.
        stamp: origin to store in the file, by which it is known when it is to be replaced.

    Raises:
        OutputError: the file cannot be written.
    """
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": pyproj.CRS("OGC:CRS84").to_json_dict(),
        "covering": {"bbox": {edge: ["bbox", edge] for edge in _EDGES}},
    }
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    schema = SCHEMA.with_metadata({"geo": json.dumps(geo), "RHM": stamp.text})
    with atomic_path(path) as temporary:
        try:
            with pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
                for batch in _batches(buildings):
                    writer.write_batch(batch)
            stamps.seal(temporary)
        except (pa.ArrowException, OSError) as error:
            raise OutputError(f"cannot write {path}: {error}") from error


def _batches(buildings: OvertureBuildings) -> Iterator[pa.RecordBatch]:
    for first in range(0, max(1, len(buildings.polygons)), _BATCH):
        yield _batch(buildings, slice(first, first + _BATCH))


def _batch(buildings: OvertureBuildings, rows: slice) -> pa.RecordBatch:
    polygons = buildings.polygons[rows]
    count = len(polygons)
    left, bottom, right, top = shapely.bounds(polygons).reshape(-1, 4).T
    edges = [_rounded(left, -np.inf), _rounded(right, np.inf)]
    edges += [_rounded(bottom, -np.inf), _rounded(top, np.inf)]
    boxes = pa.StructArray.from_arrays(edges, names=list(_EDGES))
    ids = [
        known or str(uuid.uuid5(_SPACE, shapely.to_wkb(shapely.normalize(shape)).hex()))
        for known, shape in zip(buildings.ids[rows], polygons, strict=True)
    ]
    floors = buildings.floors[rows]
    columns: dict[str, Any] = {
        "id": pa.array(ids, pa.string()),
        "geometry": pa.array(shapely.to_wkb(polygons), pa.binary()),
        "bbox": boxes,
        "version": pa.array(np.zeros(count, np.int32)),
        "sources": pa.array(_sources(buildings, rows), pa.list_(_SOURCE)),
        "height": pa.array(buildings.height[rows], from_pandas=True),
        "num_floors": pa.array(
            [int(each) if np.isfinite(each) else None for each in floors], pa.int32()
        ),
        "has_parts": pa.array(np.zeros(count, dtype=bool)),
        "is_underground": pa.array(np.zeros(count, dtype=bool)),
        "theme": pa.array(["buildings"] * count, pa.string()),
        "type": pa.array(["building"] * count, pa.string()),
    }
    arrays = [
        columns[field.name] if field.name in columns else pa.nulls(count, field.type)
        for field in SCHEMA
    ]
    return pa.record_batch(arrays, schema=SCHEMA)


def _rounded(values: NDArray[np.float64], towards: float) -> NDArray[np.float32]:
    """Return values in single precision, none of which lies on the other side of what it was."""
    near = values.astype(np.float32)
    beyond = near > values if towards < 0 else near < values
    return np.where(beyond, np.nextafter(near, np.float32(towards)), near)


def _sources(buildings: OvertureBuildings, rows: slice) -> list[list[dict[str, Any]]]:
    told = zip(
        buildings.datasets[rows], buildings.records[rows], buildings.confidence[rows], strict=True
    )
    return [
        [
            {
                "property": "",
                "dataset": dataset,
                "record_id": record,
                "update_time": None,
                "confidence": float(confidence) if np.isfinite(confidence) else None,
            }
        ]
        for dataset, record, confidence in told
    ]
