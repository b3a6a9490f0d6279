"""Regularisation: clean outlines for footprints that were traced from pixels.

Traced outlines have pixel steps, ragged walls and rounded corners; buildings have straight walls,
most of them at right angles. Every outline is cut where it turns (``outlines``), lines along and
across the building's dominant direction are fitted to the pieces (``walls``), and the lines that
are worth keeping meet at corners (``junctions``). This is done for thousands of buildings at once.
"""

from dataclasses import replace
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from rhm.data.footprints import metric_crs
from rhm.data.vectors.antimeridian import contiguous, turn_of
from rhm.errors import ConfigError, VectorError
from rhm.inference.regularization.junctions import corners, tidied
from rhm.inference.regularization.outlines import Rings, rings_of, split
from rhm.inference.regularization.rings import (
    Floats,
    Integers,
    across,
    along,
    latest,
    neighbours,
    totals,
    turned,
)
from rhm.inference.regularization.walls import (
    FREE,
    Pieces,
    Walls,
    align,
    cut_into_pieces,
    first_walls,
    fit,
    pooled_turn,
    sloped,
)

_POINTS_AT_ONCE = 400_000  # some hundred megabytes
_ROUNDING = 1e-6  # of an IoU: on a pixel grid, it may equal the minimum exactly
_SMALL = 0.25  # tolerance of small buildings, relative to the square root of their area


def regularize(
    polygons: NDArray[Any],
    *,
    tolerance_m: float,
    angle_tolerance_deg: float = 5.0,
    min_iou: float = 0.75,
) -> NDArray[Any]:
    """Give footprints straight walls, and right angles where the walls are almost perpendicular.

    A wall follows the dominant direction of its building, or the perpendicular, exactly if it
    lies within the angle tolerance of it, or if following it moves the ends of the wall by less
    than two and a half tolerances relative to each other. All other walls are oblique, and keep
    the direction that fits them best. Each line balances the area outside it with the area that
    is missing inside, so that sizes are preserved. Steps and bays below one tolerance (on long
    walls, one and a half), corners cut by less than a tolerance, and holes below four square
    tolerances disappear. Round buildings become polygons; the smallest ones, with a radius below
    six tolerances, may become squares.

    A result that would be invalid, or would overlap the original too little, is replaced by the
    original after Douglas-Peucker simplification, or by the original itself if that overlaps too
    little as well. Neighbouring footprints are not considered: footprints that share a wall may
    overlap by about the tolerance.

    Args:
        polygons: (N,) valid polygons in a plane in metres (or in pixels; so is the tolerance then).
        tolerance_m: tolerated distance, in metres, of an outline from its wall; use two or three
            pixels for traced outlines. For a building smaller than four by four tolerances, a
            quarter of the square root of its area is used instead.
        angle_tolerance_deg: maximum angle, in degrees, by which a long wall may be turned; with
            45, no wall is oblique.
        min_iou: minimum intersection over union of a result and its original.

    Returns:
        (N,) valid polygons in the same order, none of them empty.

    Raises:
        ConfigError: an option is out of its range.
        VectorError: a geometry is not a polygon, or is empty.
    """
    _check_options(tolerance_m, angle_tolerance_deg, min_iou)
    polygons = np.asarray(polygons, dtype=object)
    unfit = (
        shapely.get_type_id(polygons) != shapely.GeometryType.POLYGON.value
    ) | shapely.is_empty(polygons)
    if unfit.any():
        raise VectorError(
            f"only polygons can be regularised, but footprint {np.argmax(unfit)} is empty or not "
            "a polygon; split multipolygons and collections first"
        )
    if not polygons.size:
        return polygons
    amount = np.cumsum(shapely.get_num_coordinates(polygons)) // _POINTS_AT_ONCE
    chunks = np.split(polygons, np.flatnonzero(np.diff(amount)) + 1)
    return np.concatenate(
        [_accepted(chunk, tolerance_m, angle_tolerance_deg, min_iou) for chunk in chunks]
    )


def regularize_frame(
    frame: gpd.GeoDataFrame | gpd.GeoSeries,
    *,
    tolerance_m: float,
    angle_tolerance_deg: float = 5.0,
    min_iou: float = 0.75,
) -> gpd.GeoDataFrame | gpd.GeoSeries:
    """Regularise the polygons of a frame or series in any CRS; see :func:`regularize`.

    The regularisation takes place in the local metric plane of
    :func:`rhm.data.footprints.metric_crs`. Its angles are true near the centre of the frame, and
    less than a tenth of a degree off at a distance of 400 km. Without a CRS that has a location
    on Earth, the tolerance is in the unit of the coordinates.

    Returns:
        A copy with the same rows, CRS and other columns.

    Raises:
        ConfigError: an option is out of its range.
        VectorError: a geometry is not a polygon, or is empty.
    """
    options = {
        "tolerance_m": tolerance_m,
        "angle_tolerance_deg": angle_tolerance_deg,
        "min_iou": min_iou,
    }
    traced = frame.geometry
    if not len(traced) or traced.crs is None or traced.crs.geodetic_crs is None:
        clean = gpd.GeoSeries(regularize(traced.to_numpy(), **options), traced.index, traced.crs)
    else:
        plane = traced.to_crs(metric_crs(traced))
        clean = gpd.GeoSeries(regularize(plane.to_numpy(), **options), traced.index, plane.crs)
        clean = clean.to_crs(traced.crs)
        turn = turn_of(traced.crs)
        if turn is not None:
            near = traced.bounds.minx.to_numpy()
            whole = contiguous(clean.to_numpy(), near, turn.length)
            clean = gpd.GeoSeries(whole, traced.index, traced.crs)
        # Rounding on the way back can invalidate polygons with narrow gaps.
        clean = clean.where(clean.is_valid, traced)
    if isinstance(frame, gpd.GeoSeries):
        return clean.rename(frame.name)
    return frame.set_geometry(clean.rename(traced.name))


def _check_options(tolerance_m: float, angle_tolerance_deg: float, min_iou: float) -> None:
    if not 0.0 < tolerance_m < np.inf:
        raise ConfigError(f"tolerance_m must be a length above 0, got {tolerance_m}")
    if not 0.0 <= angle_tolerance_deg <= 45.0:
        raise ConfigError(
            f"angle_tolerance_deg must be between 0 and 45 degrees, got {angle_tolerance_deg}"
        )
    if not 0.0 <= min_iou <= 1.0:
        raise ConfigError(f"min_iou must be between 0 and 1, got {min_iou}")


def _accepted(
    polygons: NDArray[Any], tolerance_m: float, angle_tolerance_deg: float, min_iou: float
) -> NDArray[Any]:
    """Return the regularised, simplified or original polygons: the first that is good enough."""
    clean, swept = _regular(polygons, tolerance_m, angle_tolerance_deg)
    both = shapely.area(clean) + shapely.area(polygons)
    good = shapely.is_valid(clean)
    # The overlay takes as long as everything else; it is skipped where a bound suffices.
    unsure = np.flatnonzero(good & ~(both - swept >= min_iou * (both + swept)))
    good[unsure] = _overlap(clean[unsure], polygons[unsure], min_iou)
    rest = np.flatnonzero(~good)
    if rest.size:
        simple = shapely.simplify(polygons[rest], tolerance_m)
        near = shapely.is_valid(simple) & ~shapely.is_empty(simple)
        near[near] = _overlap(simple[near], polygons[rest[near]], min_iou)
        clean[rest] = np.where(near, simple, polygons[rest])
    return clean


def _overlap(one: NDArray[Any], other: NDArray[Any], min_iou: float) -> NDArray[np.bool_]:
    common = shapely.area(shapely.intersection(one, other))
    iou: Floats = common / (shapely.area(one) + shapely.area(other) - common)
    return iou >= min_iou - _ROUNDING


def _regular(
    polygons: NDArray[Any], tolerance_m: float, angle_tolerance_deg: float
) -> tuple[NDArray[Any], Floats]:
    """Return (N,) polygons, possibly invalid, and (N,) bounds on how much their areas differ.

    The bound applies to the area that lies in only one of the polygons before and after.
    """
    boxes = shapely.bounds(polygons)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    unit = np.minimum(tolerance_m, _SMALL * np.sqrt(shapely.area(polygons)))
    outlines = rings_of(polygons, middles, unit)
    pieces = cut_into_pieces(outlines, split(outlines))
    pieces, angles = align(pieces, outlines.polygon, len(polygons), angle_tolerance_deg)
    walls = tidied(first_walls(pieces, angle_tolerance_deg), pieces)
    pieces, walls, more = _settled(pieces, walls, outlines.polygon, len(polygons))
    between = corners(walls, pieces)
    swept = totals(outlines.polygon, _swept(pieces, walls, between), len(polygons))
    building = outlines.polygon[walls.ring]
    placed = turned(between, -(angles + more)[building]) * unit[building, None]
    clean = _polygons(placed + middles[building], walls.ring, outlines)
    return clean, (swept + outlines.dropped) * unit**2


def _settled(
    pieces: Pieces, walls: Walls, polygon: Integers, count: int
) -> tuple[Pieces, Walls, Floats]:
    """Fit the dominant direction, and then the lines, to the walls in their present state.

    Returns:
        Pieces and walls in turned axes, and the (count,) angles by which the axes are turned.
    """
    building, free = polygon[walls.ring], walls.kind == FREE
    begin, end = walls.ends(pieces)
    found = fit(pieces, walls.owners(pieces), begin, end, walls.direction)
    fixed = found._replace(covariance=found.covariance * ~free, variance=found.variance * ~free)
    more = pooled_turn(fixed, building, count)
    own = turned(sloped(walls.direction, found), more[building])
    walls = replace(
        walls,
        direction=np.where(free[:, None], own, walls.direction),
        through=turned(walls.through, more[building]),
    )
    pieces = pieces.turned(more[polygon])
    begin, end = walls.ends(pieces)
    found = fit(pieces, walls.owners(pieces), begin, end, walls.direction)
    left = np.stack([-walls.direction[:, 1], walls.direction[:, 0]], axis=1)
    return pieces, replace(walls, through=begin + found.offset[:, None] * left), more


def _polygons(places: Floats, ring: Integers, outlines: Rings) -> NDArray[Any]:
    """Build polygons from the corners of their rings; rings of one or two remain degenerate."""
    sizes = np.bincount(ring, minlength=len(outlines.polygon))
    closing = np.where(sizes < 3, 4 - sizes, 1)
    order = np.concatenate([np.arange(len(ring)), np.repeat(np.cumsum(sizes) - sizes, closing)])
    order = order[np.argsort(ring[order], kind="stable")]
    ring_ends = np.concatenate([[0], np.cumsum(sizes + closing)])
    polygon_ends = np.searchsorted(outlines.polygon, np.arange(len(outlines.dropped) + 1))
    built: NDArray[Any] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, places[order], (ring_ends, polygon_ends)
    )
    return built


def _swept(pieces: Pieces, walls: Walls, between: Floats) -> Floats:
    """Return the (R,) areas that rings sweep as each point moves to the nearest one of its wall.

    The area between a ring and the ring of its corners is no larger.
    """
    before = neighbours(walls.ring)[0]
    owners = latest(walls.owners(pieces), pieces.ring)
    wall, ring = owners[pieces.piece], pieces.ring[pieces.piece]
    following = pieces.following
    start, stop = pieces.points, pieces.points[following]
    first, last = between[before[wall]], between[wall]
    left, reached = _onto(start, first, last), _onto(stop, first, last)
    swept = _triangles(start, stop, reached) + _triangles(start, reached, left)
    # Between one wall and the next, the nearest points pass through the corners in between.
    entered = wall[following]
    over = wall != entered
    swept += over * _triangles(stop, reached, last)
    swept += over * _triangles(stop, between[before[entered]], left[following])
    areas = totals(ring, swept, ring[-1] + 1)
    gates = np.zeros_like(between)
    gates[wall[over]] = stop[over]
    passed = walls.first < 0
    gate = latest(np.where(passed, -1, np.arange(len(walls))), walls.ring)
    areas += totals(
        walls.ring, passed * _triangles(gates[gate], between[before], between), len(areas)
    )
    return areas


def _onto(points: Floats, begin: Floats, end: Floats) -> Floats:
    """Return the (K, 2) points on segments that are nearest to the given points."""
    segment = end - begin
    squared = along(segment, segment)
    way = along(segment, points - begin) / np.where(squared > 0, squared, 1)
    return begin + np.clip(way, 0, 1)[:, None] * segment


def _triangles(one: Floats, two: Floats, three: Floats) -> Floats:
    return np.abs(across(two - one, three - one)) / 2
