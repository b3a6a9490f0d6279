"""What differs between new buildings and an existing map: matched, changed, new and gone."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyproj
import shapely
from numpy.typing import NDArray

import rhm
from rhm.data.footprints import areas_m2, metric_crs
from rhm.data.vectors.antimeridian import whole_in
from rhm.data.vectors.area_of_interest import AreaOfInterest
from rhm.errors import VectorError
from rhm.inference.layers.stamps import Stamp
from rhm.inference.layers.vector_files import FORMATS, write_table
from rhm.mapping.compare_config import CompareConfig
from rhm.mapping.comparison.building_matches import Matches, match_buildings
from rhm.mapping.comparison.imagery_shift import ImageryShift, estimate_shift
from rhm.mapping.comparison.map_buildings import MapBuildings, read_map
from rhm.mapping.comparison.overture import OVERTURE_SUFFIXES, OvertureBuildings, write_overture
from rhm.mapping.layer_files import LAYER_ORIGIN, check_file

MATCHED, CHANGED, NEW, GONE = "matched", "changed", "new", "gone"
"""Values of the column ``status``."""

SCHEMA = pa.schema(
    [
        ("status", pa.string()),
        ("id", pa.string()),
        ("existing_id", pa.string()),
        ("iou", pa.float64()),
        ("east_m", pa.float64()),
        ("north_m", pa.float64()),
        ("score", pa.float64()),
        ("area_m2", pa.float64()),
        ("existing_area_m2", pa.float64()),
        ("geometry", pa.binary()),
    ]
)
"""Columns of the layer of changes. ``east_m`` and ``north_m`` are the offset of the new building's
centroid from the existing one's, as the layers are."""


@dataclass(frozen=True)
class MapChanges:
    """The result of a comparison.

    Attributes:
        path: layer of changes.
        matched: number of new buildings that the map has.
        changed: number of buildings that differ too much to be the same.
        new: number of new buildings that the map lacks.
        gone: number of buildings of the map that the new layer lacks.
        mean_iou: mean IoU of the matched ones; nan without any.
        shift: systematic shift between the layers.
        notes: facts that the user should know.
    """

    path: Path
    matched: int
    changed: int
    new: int
    gone: int
    mean_iou: float
    shift: ImageryShift
    notes: tuple[str, ...] = ()


def compare_maps(
    new: str | os.PathLike[str],
    existing: str | os.PathLike[str],
    target: str | os.PathLike[str],
    config: CompareConfig | None = None,
    *,
    area: AreaOfInterest | None = None,
    overture: str | os.PathLike[str] | None = None,
) -> MapChanges:
    """Compare new buildings with an existing map, and write a layer with the ``status`` of each.

    A systematic shift between the layers is estimated and removed before buildings are compared;
    geometries are written as they are. Both layers are in memory.

    Args:
        new: layer of new buildings; see ``map_buildings.read_map``.
        existing: layer of the existing map.
        target: file in one of ``vector_files.FORMATS``, in the CRS of the new layer.
        config: options.
        area: area of the existing map in which both are compared; by default, the convex hull of
            the new buildings, because nobody looked for buildings elsewhere. New buildings count
            where they are without the shift.
        overture: GeoParquet file for the buildings that are there now, in Overture's schema.

    Raises:
        VectorError: a layer cannot be read, has no CRS, or there are no new buildings.
        OutputError: a file cannot be written or must not be replaced.
    """
    config, target = config or CompareConfig(), Path(target)
    today = None if overture is None else Path(overture)
    read = (Path(new), Path(existing))
    _check_targets(target, today, read, overwrite=config.overwrite)
    ours, theirs = read_map(new), read_map(existing)
    if not len(ours):
        raise VectorError(f"{new} has no buildings to compare")
    plane = metric_crs(gpd.GeoSeries(shapely.centroid(ours.polygons), crs=ours.crs))
    placed, there = ours.in_crs(plane), theirs.in_crs(plane)
    # Until the shift is known, a building and its counterpart may be on two sides of the edge.
    close, nearby = _within(placed, there, plane, area, margin_m=config.most_shift_m)
    shift = estimate_shift(placed[close], there[nearby], config.most_shift_m)
    moved = shapely.transform(placed, lambda points: points - [shift.east_m, shift.north_m])
    kept, known = _within(moved, there, plane, area)
    beyond = int(np.count_nonzero(~kept))
    ours, placed, moved = ours[kept], placed[kept], moved[kept]
    theirs, there, left_out = theirs[known], there[known], int(np.count_nonzero(~known))
    matches = match_buildings(moved, there, same=config.same, touching=config.touching)
    rows = _rows(ours, theirs, placed, there, matches)
    crs = _written_crs(target, ours.crs)
    told = (rhm.__version__, config, shift, crs.to_wkt(), area, rows.num_rows)
    stamp = Stamp(hashlib.sha256(repr(told).encode()).hexdigest(), LAYER_ORIGIN)
    # Somebody may have edited an earlier result in the meantime.
    _check_targets(target, today, read, overwrite=config.overwrite)
    write_table(
        _in_crs(rows, ours.crs, crs), SCHEMA, crs, target, stamp=stamp, overwrite=config.overwrite
    )
    if today is not None:
        aligned = replace(ours, polygons=moved, crs=plane).in_crs("EPSG:4326")
        _write_overture(ours, aligned, theirs, matches, Path(existing).stem, today, stamp)
    status = np.array(rows.column("status").to_pylist(), dtype=object)
    counts = {name: int(np.count_nonzero(status == name)) for name in (MATCHED, CHANGED, NEW, GONE)}
    iou = matches.iou[matches.matched]
    counted = {"of the map": left_out, "of the new layer": beyond}
    notes = [
        f"{count} buildings {whose} lie elsewhere and were left out"
        for whose, count in counted.items()
        if count
    ]
    mean_iou = float(iou.mean()) if len(iou) else float("nan")
    return MapChanges(target, **counts, mean_iou=mean_iou, shift=shift, notes=tuple(notes))


def _within(
    new: NDArray[Any],
    existing: NDArray[Any],
    plane: pyproj.CRS,
    area: AreaOfInterest | None,
    *,
    margin_m: float = 0.0,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which buildings of both layers are in the area, or at most the margin outside it."""
    if area is None:
        hull = shapely.convex_hull(shapely.GeometryCollection(list(new)))
        return np.ones(len(new), dtype=bool), shapely.dwithin(existing, hull, margin_m)
    bounds = shapely.total_bounds(np.concatenate([new, existing]))
    left, bottom, right, top = bounds + margin_m * np.array([-1, -1, 1, 1])
    shape = area.in_crs(plane, (left, bottom, right, top))
    shapely.prepare(shape)
    return shapely.dwithin(shape, new, margin_m), shapely.dwithin(shape, existing, margin_m)


def _rows(
    ours: MapBuildings,
    theirs: MapBuildings,
    placed: NDArray[Any],
    there: NDArray[Any],
    matches: Matches,
) -> pa.RecordBatch:
    """Return the layer of changes: every new building, then those that only the map has."""
    status = np.where(matches.matched, MATCHED, np.where(matches.new, NEW, CHANGED))
    known = matches.partner >= 0
    rest = np.flatnonzero(~matches.taken)
    numbers = np.arange(len(ours))
    one = np.concatenate([numbers, np.where(matches.gone[rest], -1, matches.counterpart[rest])])
    other = np.concatenate([matches.partner, rest])
    offset = np.full((len(one), 2), np.nan)
    both = (one >= 0) & (other >= 0)
    offset[both] = _centroids(placed[one[both]]) - _centroids(there[other[both]])
    iou = np.concatenate([np.where(known, matches.iou, np.nan), np.full(len(rest), np.nan)])
    theirs_in_ours = theirs.in_crs(ours.crs)
    shapes = np.concatenate([ours.polygons, theirs_in_ours[rest]])
    ids = _with_none(ours.ids)[one]
    columns = [
        pa.array([*status, *np.where(matches.gone[rest], GONE, CHANGED)], pa.string()),
        pa.array(list(ids), pa.string()),
        pa.array(list(_with_none(theirs.ids)[other]), pa.string()),
        *(pa.array(values, from_pandas=True) for values in (iou, *offset.T)),
        pa.array(np.append(ours.score, np.nan)[one], from_pandas=True),
        pa.array(_areas(ours)[one], from_pandas=True),
        pa.array(_areas(theirs)[other], from_pandas=True),
        pa.array(shapely.to_wkb(shapes), pa.binary()),
    ]
    return pa.record_batch(columns, schema=SCHEMA)


def _areas(buildings: MapBuildings) -> NDArray[np.float64]:
    """Return the areas in square metres, and nan behind them."""
    if not len(buildings):
        return np.full(1, np.nan)
    return np.append(areas_m2(gpd.GeoSeries(buildings.polygons, crs=buildings.crs)), np.nan)


def _with_none(ids: NDArray[Any]) -> NDArray[Any]:
    """Return identifiers, and None behind them."""
    return np.array([*ids, None], dtype=object)


def _centroids(polygons: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(shapely.get_coordinates(shapely.centroid(polygons))).reshape(-1, 2)


def _written_crs(target: Path, own: pyproj.CRS) -> pyproj.CRS:
    return pyproj.CRS("EPSG:4326") if FORMATS[target.suffix.lower()].in_degrees else own


def _in_crs(rows: pa.RecordBatch, own: pyproj.CRS, crs: pyproj.CRS) -> list[pa.RecordBatch]:
    if own == crs:
        return [rows]
    shapes = shapely.from_wkb(rows.column("geometry").to_pylist())
    moved = whole_in(shapes, own, crs)
    columns = [*rows.columns[:-1], pa.array(shapely.to_wkb(moved), pa.binary())]
    return [pa.record_batch(columns, schema=SCHEMA)]


def _check_targets(
    target: Path, today: Path | None, read: tuple[Path, Path], *, overwrite: bool
) -> None:
    check_file(target, read, to="compare", overwrite=overwrite)
    if today is not None:
        suffixes = OVERTURE_SUFFIXES
        check_file(today, (*read, target), to="compare", suffixes=suffixes, overwrite=overwrite)


def _write_overture(
    ours: MapBuildings,
    aligned: NDArray[Any],
    theirs: MapBuildings,
    matches: Matches,
    dataset: str,
    path: Path,
    stamp: Stamp,
) -> None:
    """Write the buildings that are there now: those of the map that are matched, and our own.

    Our own are where the map would have them (``aligned``, in degrees): with the shift between the
    layers, they would lie on their neighbours.
    """
    old = matches.partner[matches.matched]
    known, own = theirs[old], ours[~matches.matched]
    # A changed building keeps the identifier of the map, if it is the only one with it.
    partner = matches.partner[~matches.matched]
    first = np.zeros(len(partner), dtype=bool)
    first[np.unique(partner, return_index=True)[1]] = True
    kept = first & (partner >= 0) & ~np.isin(partner, old)
    ids = _with_none(theirs.ids)[partner]
    ids[~kept] = None
    all_ids = np.array([*known.ids, *ids], dtype=object)
    # The polygons of one feature share its identifier, which must be unique.
    all_ids[pd.Series(all_ids).duplicated().to_numpy()] = None
    degrees = [known.in_crs("EPSG:4326"), aligned[~matches.matched]]
    write_overture(
        OvertureBuildings(
            np.concatenate(degrees),
            list(all_ids),
            [*known.ids, *own.ids],
            [dataset] * len(known) + ["rhm"] * len(own),
            np.concatenate([ours.score[matches.matched], own.score]),
            np.concatenate([known.height, own.height]),
            np.concatenate([known.floors, own.floors]),
        ),
        path,
        stamp,
    )
