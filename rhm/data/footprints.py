"""Building footprints as polygons and as masks, and the plane in which they are measured.

Footprints are a :class:`geopandas.GeoSeries` or :class:`geopandas.GeoDataFrame` of polygons in
the coordinate reference system (CRS) of their imagery. Lengths and areas are never measured in
that CRS, which may be in degrees or have a scale that varies with latitude, but in a local metric
CRS that :func:`metric_crs` centres on the data.
"""

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio.errors
import pyproj
import pyproj.exceptions
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj.crs import ProjectedCRS
from pyproj.crs.coordinate_operation import LambertAzimuthalEqualAreaConversion
from rasterio.features import rasterize
from shapely.errors import ShapelyError

from rhm.data.vectors.antimeridian import turn_of, whole_in
from rhm.data.vectors.vector_layer import Bounds, read_layer, simple_parts, valid_polygons
from rhm.errors import VectorError, one_line

_POLYGON = 3  # shapely's type id
_BESIDE_MERIDIAN = 1 / 360
"""Part of a full turn from the 180th meridian within which footprints may be drawn on beyond it."""

_READ_ERRORS = (
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    pyproj.exceptions.ProjError,
    ShapelyError,
    OSError,
    ValueError,
)


def read_footprints(
    path: str | os.PathLike[str], crs: Any, bounds: Bounds | None = None
) -> gpd.GeoDataFrame:
    """Read the polygons of a vector file into the CRS of a raster.

    Attributes are not read. Each polygon of a multipolygon or collection becomes a separate row,
    because a footprint is one connected piece of ground. Invalid polygons are repaired. Heights,
    other types of geometry, and geometries that have no finite coordinates in ``crs`` are
    dropped. Files in formats without a spatial index are read once, and kept as long as memory
    allows.

    Args:
        path: file in one of ``rhm.data.vectors.vector_layer.VECTOR_FORMATS``. Of several layers,
            the one with polygons is read; the folders of a KML file are read together.
        crs: CRS of the raster, in any form that pyproj understands (including rasterio's).
        bounds: (left, bottom, right, top) in ``crs``; polygons that do not intersect this box
            are left out.

    Returns:
        A frame in ``crs`` with the column ``geometry`` (polygons), in the order of the file.

    Raises:
        VectorError: the file cannot be read, is of another format than its name says, has no
            polygon layer or more than one, or no CRS, a polygon cannot be repaired, or ``crs`` is
            None or unknown.
    """
    target = _pyproj_crs(crs, path)
    area = None if bounds is None else shapely.box(*bounds)
    try:
        layer = read_layer(
            path, lambda crs: _box_in(crs, target, area.bounds) if area is not None else None
        )
        if layer.crs is None:
            raise VectorError(f"{path} has no CRS; assign one to it (ogr2ogr -a_srs), then retry")
        near = None if bounds is None else (bounds[0] + bounds[2]) / 2
        placed = whole_in(layer.polygons, layer.crs, target, near)
        polygons, _ = valid_polygons(placed)
    except _READ_ERRORS as error:
        raise VectorError(f"cannot read footprints from {path}: {one_line(error)}") from error
    if area is not None:
        polygons = polygons[shapely.intersects(polygons, area)]
    return gpd.GeoDataFrame(geometry=polygons, crs=target)


def burn(
    footprints: gpd.GeoSeries | gpd.GeoDataFrame | Iterable[Any],
    transform: Affine,
    height: int,
    width: int,
) -> NDArray[np.uint8]:
    """Rasterise footprints: a pixel is building if its centre lies in a polygon.

    Args:
        footprints: polygons or multipolygons in the CRS of ``transform``; other geometries are
            ignored.
        transform: affine transform from (column, row) to the coordinates of the footprints.
        height: number of rows of the mask.
        width: number of columns of the mask.

    Returns:
        Mask of 0 and 1, (height, width) uint8.
    """
    geometries = np.asarray(list(getattr(footprints, "geometry", footprints)), dtype=object)
    # Part by part, because the rasteriser leaves holes where parts of a multipolygon overlap.
    parts = simple_parts(geometries)[0]
    parts = parts[(shapely.get_type_id(parts) == _POLYGON) & ~shapely.is_empty(parts)]
    return _rasterized(parts, transform, height, width)


def burn_numbers(
    polygons: NDArray[Any],
    numbers: NDArray[np.uint8],
    transform: Affine,
    height: int,
    width: int,
) -> NDArray[np.uint8]:
    """Rasterise polygons with a number each; where they overlap, the last one stays.

    Args:
        polygons: (N,) polygons in the CRS of ``transform``.
        numbers: (N,) numbers of at least 1.
        transform: affine transform from (column, row) to the coordinates of the polygons.
        height: number of rows of the mask.
        width: number of columns of the mask.

    Returns:
        Mask (height, width) uint8, non-zero on the pixels that ``burn`` marks.
    """
    numbered = list(zip(polygons, numbers.tolist(), strict=True))
    return _rasterized(numbered, transform, height, width)


def _rasterized(
    shapes: Sequence[Any] | NDArray[Any], transform: Affine, height: int, width: int
) -> NDArray[np.uint8]:
    if not len(shapes):
        return np.zeros((height, width), np.uint8)
    mask: NDArray[np.uint8] = rasterize(
        shapes, out_shape=(height, width), transform=transform, dtype="uint8"
    )
    return mask


def metric_crs(geometries: gpd.GeoSeries) -> pyproj.CRS:
    """Return a local CRS in metres, centred on the geometries.

    It is the Lambert azimuthal equal-area projection (Snyder, Map Projections, 1987, section 24)
    on the ellipsoid of the geometries' own datum. Areas are exact everywhere and lengths are true
    near the centre; zone borders, the poles and the 180th meridian are no special cases.

    Raises:
        VectorError: there are no geometries, or their CRS does not locate them on Earth.
    """
    if geometries.crs is None or geometries.crs.geodetic_crs is None:
        raise VectorError(
            "footprints without a geographic or projected CRS have no size in metres; assign a CRS"
        )
    geodetic = geometries.crs.geodetic_crs
    boxes = geometries.bounds.to_numpy()
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    middles = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    x, y = _to_geodetic(geometries.crs).transform(*middles)
    placed = np.isfinite(x) & np.isfinite(y)
    if not placed.any():
        raise VectorError("no footprint has a location on Earth; check the CRS of the coordinates")
    unit = geodetic.axis_info[0].unit_conversion_factor  # radians, of degrees or gradians
    longitude, latitude = _mean_direction(x[placed] * unit, y[placed] * unit)
    return ProjectedCRS(
        LambertAzimuthalEqualAreaConversion(
            latitude_natural_origin=float(np.degrees(latitude)),
            longitude_natural_origin=float(np.degrees(longitude)),
        ),
        name="local metric plane",
        geodetic_crs=geodetic,
    )


# Making one takes 5 ms; pyproj keeps what it made for each thread that uses it.
@lru_cache(maxsize=16)
def _to_geodetic(crs: pyproj.CRS) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)


def areas_m2(geometries: gpd.GeoSeries) -> NDArray[np.float64]:
    """Measure areas in square metres, in the :func:`metric_crs` of the geometries.

    A series without CRS is in image coordinates, so its areas are in square pixels.

    Returns:
        (N,) areas.

    Raises:
        VectorError: see :func:`metric_crs`.
    """
    if geometries.crs is not None and len(geometries):
        geometries = geometries.to_crs(metric_crs(geometries))
    return np.asarray(geometries.area, dtype=np.float64)


def polygon_parts(geometries: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Repair geometries and split them into valid polygons.

    Args:
        geometries: (N,) shapely geometries of any type, with finite coordinates.

    Returns:
        (M,) valid, non-empty polygons, and (M,) the index of the geometry that each belongs to.
    """
    parts, source = simple_parts(shapely.make_valid(geometries))
    keep = (shapely.get_type_id(parts) == _POLYGON) & (shapely.area(parts) > 0)
    return parts[keep], source[keep]


def _pyproj_crs(crs: Any, path: str | os.PathLike[str]) -> pyproj.CRS:
    if crs is None:
        raise VectorError(
            f"cannot place the footprints of {path} on a raster without a CRS; assign one to the "
            "raster"
        )
    try:
        return pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        raise VectorError(f"cannot place the footprints of {path}: unknown CRS {crs}") from error


def _box_in(crs: Any, target: pyproj.CRS, bounds: Bounds) -> Bounds | None:
    """Return a box in ``crs`` that contains ``bounds`` in ``target``; None if it is not finite.

    Beside the 180th meridian and beyond it, the box goes round the Earth, because footprints may be
    on either side of the meridian or drawn on beyond it.
    """
    to_file = pyproj.Transformer.from_crs(target, crs, always_xy=True)
    left, bottom, right, top = to_file.transform_bounds(*bounds, densify_pts=21)
    if not np.isfinite([left, bottom, right, top]).all():
        return None
    # Edges are curved between the points at which they are transformed.
    margin = 0.01 * max(right - left, top - bottom)
    turn = turn_of(pyproj.CRS.from_user_input(crs))
    if turn is not None:
        inside = (0.5 - _BESIDE_MERIDIAN) * turn.length
        # Bounds that cross the meridian have their left beyond their right.
        if left > right or left < turn.middle - inside or right > turn.middle + inside:
            left, right = turn.middle - turn.length, turn.middle + turn.length
    return left - margin, bottom - margin, right + margin, top + margin


def _mean_direction(
    longitude: NDArray[np.float64], latitude: NDArray[np.float64]
) -> tuple[float, float]:
    """Average locations on the sphere, in radians, as directions from its centre."""
    x, y, z = (
        np.mean(np.cos(latitude) * np.cos(longitude)),
        np.mean(np.cos(latitude) * np.sin(longitude)),
        np.mean(np.sin(latitude)),
    )
    return float(np.arctan2(y, x)), float(np.arctan2(z, np.hypot(x, y)))
