"""Polygons across the 180th meridian, where coordinates jump by a full turn.

In longitude and latitude, and in cylindrical projections such as Web Mercator, the place x and the
place x plus a full turn are the same. A transformation of coordinates gives each vertex the place
in the principal turn, from 180 degrees west to 180 degrees east, and so tears a building on the
meridian into one that reaches round the Earth. Here, polygons stay whole: those on the meridian
have vertices beyond it.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import pyproj
import pyproj.exceptions
import shapely
from numpy.typing import NDArray
from shapely.affinity import translate

_SAMPLES = 360
_SAME = 1e-6
"""Part of a step between samples by which a projection may be off and still be cylindrical."""


class FullTurn(NamedTuple):
    """The turn round the Earth after which the coordinates of a system repeat.

    Attributes:
        length: how much larger x is after a turn, in the unit of the system.
        middle: x in the middle of the principal turn, to half a degree.
    """

    length: float
    middle: float


# Keeps what would otherwise be computed for each scene; a new system takes up to 10 ms.
@lru_cache(maxsize=64)
def turn_of(crs: pyproj.CRS) -> FullTurn | None:
    """Return the full turn of a CRS; None if its coordinates do not repeat.

    They do in geographic systems and in cylindrical projections in their normal aspect.
    """
    geodetic = crs.geodetic_crs
    if geodetic is None or not geodetic.is_geographic:
        return None
    full = round(2 * math.pi / geodetic.axis_info[0].unit_conversion_factor, 9)
    if crs.is_geographic:
        return FullTurn(full, 0.0)
    longitudes = (np.arange(_SAMPLES) + 0.5) / _SAMPLES * full - full / 2
    latitudes = np.full(_SAMPLES, full / 40)
    try:
        forward = pyproj.Transformer.from_crs(geodetic, crs, always_xy=True)
        x, _ = forward.transform(longitudes, latitudes)
        elsewhere, _ = forward.transform(longitudes, 5 * latitudes)
    except pyproj.exceptions.ProjError:
        return None
    if not (np.isfinite(x).all() and np.isfinite(elsewhere).all()):
        return None
    step = float(np.median(np.diff(x)))
    # Equal steps, apart from where the projection is cut, and the same at any latitude.
    others = int(np.count_nonzero(np.abs(np.diff(x) - step) > _SAME * step))
    if step <= 0 or others > 1 or np.abs(x - elsewhere).max() > _SAME * step:
        return None
    along = np.unwrap(x, period=_SAMPLES * step)
    length = float(along[-1] - along[0]) * _SAMPLES / (_SAMPLES - 1)
    return FullTurn(length, float(x.min() + x.max()) / 2)


def contiguous(
    geometries: NDArray[Any], near: float | NDArray[np.float64], turn: float
) -> NDArray[Any]:
    """Undo the jump at the 180th meridian that a transformation of coordinates introduces.

    Args:
        geometries: (N,) geometries, none of them wider than a full turn.
        near: x, or (N,) one for each geometry, near which all vertices are placed.
        turn: full turn in the unit of x.

    Returns:
        (N,) the same geometries; if they cross the meridian, with vertices beyond it.
    """
    if isinstance(near, np.ndarray):
        points, owner = shapely.get_coordinates(geometries, return_index=True)
        near = near[owner]
    else:
        points = shapely.get_coordinates(geometries)
    # What is exactly half a turn away stays there, whatever the rounding of the transformation.
    with np.errstate(invalid="ignore"):
        turns = np.round((points[:, 0] - near) / (turn * (1 + 1e-9)))
    return _turned(geometries, points, turns, turn)


def placed_near(geometries: NDArray[Any], near: float, turn: float) -> NDArray[Any]:
    """Move whole geometries (N,) by full turns, so that their middles are closest to an x."""
    turns = turns_from(shapely.bounds(geometries).reshape(-1, 4), near - turn / 2, turn)
    if not turns.any():
        return geometries
    points, owner = shapely.get_coordinates(geometries, return_index=True)
    return _turned(geometries, points, turns[owner], turn)


def turns_from(bounds: NDArray[np.float64], first: float, turn: float) -> NDArray[np.float64]:
    """Return by how many turns geometries lie beyond the turn that begins at an x.

    Args:
        bounds: (N, 4) left, bottom, right, top.
        first: x at which the turn begins.
        turn: full turn in the unit of x.

    Returns:
        (N,) whole numbers, by the middles of the geometries.
    """
    with np.errstate(invalid="ignore"):
        turns = np.floor(((bounds[:, 0] + bounds[:, 2]) / 2 - first) / turn)
    return np.where(np.isfinite(turns), turns, 0.0)


def whole_in(
    geometries: NDArray[Any], own: Any, crs: Any, near: float | None = None
) -> NDArray[Any]:
    """Transform geometries into another CRS without tearing them at the 180th meridian.

    Args:
        geometries: (N,) geometries that reach less than half round the Earth.
        own: their CRS, in any form that pyproj understands.
        crs: CRS of the result.
        near: x near which the geometries are placed as wholes; by default they are placed in the
            principal turn.

    Returns:
        (N,) geometries. Those that need neither a transformation nor a turn stay as they are, bit
        by bit; those without a place in the CRS have coordinates that are not finite.
    """
    series = gpd.GeoSeries(geometries, crs=own)
    target = pyproj.CRS.from_user_input(crs)
    same, turn = series.crs == target, turn_of(target)
    moved = np.array((series if same else series.to_crs(target)).to_numpy(), dtype=object)
    if turn is None:
        return moved
    left, _, right, _ = shapely.bounds(moved).reshape(-1, 4).T
    torn = right > left + turn.length / 2
    if torn.any() and not same:
        boxes = series[torn].bounds
        x, y = (boxes.minx + boxes.maxx) / 2, (boxes.miny + boxes.maxy) / 2
        middles = gpd.GeoSeries.from_xy(x, y, crs=series.crs).to_crs(target)
        moved[torn] = contiguous(moved[torn], middles.x.to_numpy(), turn.length)
    return placed_near(moved, turn.middle if near is None else near, turn.length)


def cut_at_meridian(geometry: Any) -> Any:
    """Return a geometry in degrees, cut at the 180th meridian, with no longitude beyond it.

    Args:
        geometry: valid polygon in longitudes from -540 to 540 degrees, and latitudes.
    """
    left, _, right, _ = geometry.bounds
    if geometry.is_empty or (left >= -180.0 and right <= 180.0):
        return geometry
    parts = []
    for turn in (-360.0, 0.0, 360.0):
        part = shapely.intersection(geometry, shapely.box(turn - 180.0, -90.0, turn + 180.0, 90.0))
        if part.area:
            parts.append(translate(part, -turn))
    return parts[0] if len(parts) == 1 else shapely.union_all(parts)


def in_one_crs(first: Any, second: Any) -> tuple[gpd.GeoSeries, gpd.GeoSeries]:
    """Return the geometries of two layers in the CRS of the first, on one side of 180 degrees.

    All of them are placed as wholes near the first geometry that has a place, so that what
    overlaps on the ground has coordinates that overlap.

    Args:
        first: GeoSeries or GeoDataFrame with a CRS.
        second: the same, of geometries that reach less than half round the Earth.
    """
    left, _, right, _ = shapely.bounds(first.geometry.to_numpy()).reshape(-1, 4).T
    near = next((float(x) for x in (left + right) / 2 if np.isfinite(x)), None)
    one, other = (
        gpd.GeoSeries(whole_in(each.geometry.to_numpy(), each.crs, first.crs, near), crs=first.crs)
        for each in (first, second)
    )
    return one, other


def _turned(
    geometries: NDArray[Any], points: NDArray[np.float64], turns: NDArray[np.float64], turn: float
) -> NDArray[Any]:
    turns = np.where(np.isfinite(turns), turns, 0.0)
    if not turns.any():
        return geometries
    points[:, 0] -= turn * turns
    return np.asarray(shapely.set_coordinates(geometries.copy(), points), dtype=object)
