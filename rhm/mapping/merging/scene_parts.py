"""Parts: the footprints of one scene in the CRS of the merged layer, kept on disk.

A part holds everything that merging needs to know about its scene. It appears under its name only
when it is complete, so that an interrupted run finds it again.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyproj
import shapely
from numpy.typing import NDArray

import rhm
from rhm.data.footprints import areas_m2
from rhm.data.vectors.antimeridian import FullTurn, turn_of, whole_in
from rhm.data.vectors.streamed_layer import PolygonBatch, streamed
from rhm.data.vectors.vector_layer import is_finite
from rhm.errors import OutputError, VectorError
from rhm.files import atomic_path
from rhm.mapping.merging.valid_regions import CLEAR, ValidRegion, region_of
from rhm.mapping.scene_layers import SceneLayer

_COLUMNS = ("score", "area_m2")
_REGION, _PIXEL, _TURN = b"region", b"pixel", b"turn"
_SCHEMA = pa.schema(
    [
        ("score", pa.float64()),
        ("area_m2", pa.float64()),
        ("size", pa.float64()),
        ("sight", pa.int8()),
        ("left", pa.float64()),
        ("bottom", pa.float64()),
        ("right", pa.float64()),
        ("top", pa.float64()),
        ("geometry", pa.large_binary()),
    ]
)


@dataclass(frozen=True)
class ScenePart:
    """The footprints of a scene in the CRS of the merged layer.

    Attributes:
        table: one row for each footprint: score, area in square metres and in the unit of the CRS,
            how well the scene sees it (``valid_regions``), bounds, and geometry as WKB.
        region: what the scene shows, as polygons; None if that is unknown.
        pixel: side of a pixel in the unit of the CRS; 0 if it is unknown.
        turn: full turn after which the coordinates of the CRS repeat, or None. All geometries are
            in the principal turn, by their middles; none is torn at its end.
    """

    table: pa.Table
    region: Any
    pixel: float
    turn: FullTurn | None = None

    def numbers(self, *names: str) -> NDArray[Any]:
        """Return a column (N,), or several columns (N, columns), as numbers."""
        columns = [self.table.column(name).to_numpy() for name in names]
        return columns[0] if len(names) == 1 else np.stack(columns, axis=1)


def part_path(folder: Path, layer: SceneLayer, crs: pyproj.CRS) -> Path:
    """Return where the part of a scene is kept, by everything that determines its content."""
    files = [layer.vectors, *([layer.mask] if layer.mask else [])]
    states = [(os.path.abspath(file), *_state(file)) for file in files]
    told = repr((rhm.__version__, layer.name, states, crs.to_wkt()))
    return folder / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.arrow"


def _state(file: Path) -> tuple[int, int]:
    try:
        state = file.stat()
    except OSError as error:
        raise VectorError(f"cannot read {file}: {error.strerror or error}") from error
    return state.st_size, state.st_mtime_ns


def crs_of_layer(layer: SceneLayer) -> pyproj.CRS:
    """Return the CRS of the footprints of a scene.

    Raises:
        VectorError: the file cannot be read, or has no CRS.
    """
    with streamed(layer.vectors, ()) as found:
        crs = found.crs
    if crs is None:
        raise VectorError(
            f"{layer.vectors} has no CRS, so its place among the other scenes is unknown: assign "
            "one to its scene, and predict it again"
        )
    return crs


def write_part(layer: SceneLayer, crs: pyproj.CRS, path: Path) -> None:
    """Read the footprints of a scene and write them as a part.

    Raises:
        VectorError: the footprints cannot be read.
        RasterError: the mask cannot be read.
        OutputError: the part cannot be written.
    """
    region = region_of(layer.mask) if layer.mask else None
    with streamed(layer.vectors, _COLUMNS) as found:
        own = found.crs
        batches = [_measured(batch, own, crs, region) for batch in found.batches]
    outline = None if region is None else _moved(region.outline, region.crs, crs)
    turn = turn_of(crs)
    known = {} if turn is None else {_TURN: json.dumps(turn).encode()}
    if region is not None and outline is not None and region.area_px:
        known[_REGION] = shapely.to_wkb(outline)
        known[_PIXEL] = repr(float(np.sqrt(outline.area / region.area_px))).encode()
    schema = _SCHEMA.with_metadata(known)
    with atomic_path(path) as temporary, pa.OSFile(str(temporary), "wb") as file:
        try:
            with pa.ipc.new_file(file, schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
        except (pa.ArrowException, OSError) as error:
            raise OutputError(f"cannot write {path} (disk full?): {error}") from error


def read_part(path: Path) -> ScenePart:
    """Read a part that :func:`write_part` wrote.

    Raises:
        OutputError: it is damaged.
    """
    try:
        with pa.OSFile(str(path), "rb") as file:
            table = pa.ipc.open_file(file).read_all()
        known = table.schema.metadata or {}
        region = shapely.from_wkb(known[_REGION]) if _REGION in known else None
        turn = FullTurn(*json.loads(known[_TURN])) if _TURN in known else None
        return ScenePart(table, region, float(known.get(_PIXEL, b"0")), turn)
    except (pa.ArrowException, OSError, ValueError, shapely.errors.ShapelyError) as error:
        raise OutputError(f"{path} is damaged: merge again without --resume") from error


def _measured(
    batch: PolygonBatch, own: pyproj.CRS | None, crs: pyproj.CRS, region: ValidRegion | None
) -> pa.RecordBatch:
    """Return the rows of some footprints."""
    polygons, scores = batch.polygons, batch.numbers("score")
    series = gpd.GeoSeries(polygons, crs=own)
    sight = np.full(len(polygons), CLEAR, dtype=np.int8)
    if region is not None:
        sight = region.sight(_beside(region, polygons, own))
    placed = whole_in(polygons, own, crs)
    kept = is_finite(placed) & shapely.is_valid(placed) & (shapely.area(placed) > 0)
    placed = placed[kept]
    # What a file says may be the area of all parts of a feature, or that before an edit.
    areas = areas_m2(series[kept]) if kept.any() else np.empty(0)
    bounds = shapely.bounds(placed).reshape(-1, 4)
    columns = [scores[kept], areas, shapely.area(placed), sight[kept], *bounds.T]
    arrays = [pa.array(np.ascontiguousarray(column)) for column in columns]
    geometry = pa.array(shapely.to_wkb(placed), type=pa.large_binary())
    return pa.record_batch([*arrays, geometry], schema=_SCHEMA)


def _beside(region: ValidRegion, polygons: NDArray[Any], own: pyproj.CRS | None) -> NDArray[Any]:
    """Return footprints (N,) in the CRS of their scene, on its side of the 180th meridian."""
    if region.crs is None or region.outline.is_empty:
        return polygons
    left, _, right, _ = region.outline.bounds
    return whole_in(polygons, own, region.crs.to_wkt(), near=(left + right) / 2)


def _moved(outline: Any, own: Any, crs: pyproj.CRS) -> Any:
    """Return what a scene shows in another CRS; None if it has no place there."""
    if own is None:
        return None
    (moved,) = whole_in(np.array([outline], dtype=object), own.to_wkt(), crs)
    return shapely.make_valid(moved) if is_finite(np.array([moved]))[0] else None
