"""Georeferencing: where on Earth pixels lie, and how much ground they cover."""

import threading
from collections.abc import Sequence
from functools import lru_cache
from math import isfinite, sqrt
from typing import Any, NamedTuple, Protocol

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from pyproj import Geod, Transformer
from pyproj.exceptions import ProjError
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine, GCPTransformer
from shapely.affinity import affine_transform


class Georeferenced(Protocol):
    """What has a place, such as the properties of a raster."""

    @property
    def crs(self) -> CRS | None:
        """Coordinate reference system."""

    @property
    def transform(self) -> Affine:
        """Affine transform from (column, row) to coordinates."""

    @property
    def width(self) -> int:
        """Number of columns."""

    @property
    def height(self) -> int:
        """Number of rows."""

    @property
    def gcps(self) -> Sequence[object]:
        """Ground control points, if there is no transform."""


class GridScale(NamedTuple):
    """Number of pixels of a grid per pixel of a file, along each axis.

    Attributes:
        down: along columns, from top to bottom.
        across: along rows, from left to right.
    """

    down: float
    across: float

    @property
    def area(self) -> float:
        """Number of pixels of the grid per pixel of the file."""
        return self.down * self.across


ONE = GridScale(1.0, 1.0)
"""GridScale of the grid of a file itself."""

_WGS84 = Geod(ellps="WGS84")
_SAME = 0.01  # relative difference of sizes that resampling does not mend
_PIECES_PER_EDGE = 8


class _Transformers(threading.local):
    """Transformers that a thread has made; one takes as long to make as a small file to open.

    They must not be used by several threads.
    """

    def __init__(self) -> None:
        self.to_degrees = lru_cache(maxsize=16)(_to_degrees)


def _to_degrees(wkt: str) -> Transformer:
    return Transformer.from_crs(wkt, "EPSG:4326", always_xy=True)


_TRANSFORMERS = _Transformers()


def to_degrees(crs: CRS, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64] | None:
    """Transform coordinates (N,) and (N,) to longitudes and latitudes (N, 2) in EPSG:4326.

    The result is None if one of them has no location on Earth, for example in a local system.
    """
    try:
        transformer = _TRANSFORMERS.to_degrees(crs.to_wkt())
    except ProjError:
        return None
    lon, lat = transformer.transform(np.asarray(x), np.asarray(y))
    placed = np.isfinite(lon).all() and np.isfinite(lat).all() and (np.abs(lat) <= 90.0).all()
    return np.column_stack([lon, lat]) if placed else None


def ground_sampling_distance(crs: CRS, transform: Affine, height: int, width: int) -> float | None:
    """Return the side, in metres, of a square as large as the pixel at the raster's centre.

    It is measured on the ellipsoid, so that degrees and Web Mercator give correct results. The
    result is None if the centre has no location on Earth.

    Args:
        crs: CRS of the raster.
        transform: affine transform from (column, row) of pixels to coordinates.
        height: number of rows.
        width: number of columns.
    """
    sides = _sides_m(crs, transform, height, width)
    return None if sides is None else sqrt(sides[2])


def pixel_aspect(crs: CRS, transform: Affine, height: int, width: int) -> float:
    """Return how many times as wide as high the pixel at a raster's centre is on the ground.

    It is 1 if the centre has no location on Earth. In degrees of latitude and longitude it is
    about the cosine of the latitude. The arguments are those of ``ground_sampling_distance``.
    """
    sides = _sides_m(crs, transform, height, width)
    return 1.0 if sides is None else sides[1] / sides[0]


def is_square(aspect: float) -> bool:
    """Return whether pixels count as square, by ``pixel_aspect``."""
    return 1 / (1 + _SAME) <= aspect <= 1 + _SAME


def pixels_on_ground(gsd_m: float | None, aspect: float) -> str:
    """Return the size of pixels that are not square, as the end of a sentence about them."""
    stretch = sqrt(aspect)
    return f"cover {(gsd_m or 0.0) * stretch:.2g} x {(gsd_m or 0.0) / stretch:.2g} m of ground"


def _sides_m(
    crs: CRS, transform: Affine, height: int, width: int
) -> tuple[float, float, float] | None:
    """Return height and width in metres, and area in square metres, of the pixel at the centre."""
    row, col = height / 2, width / 2
    pixel = affine_transform(
        shapely.LineString([(col + 1, row), (col, row), (col, row + 1)]), transform.to_shapely()
    )
    places = to_degrees(crs, *np.transpose(pixel.coords))
    if places is None:
        return None
    azimuth_across, _, across = _WGS84.inv(*places[1], *places[0])
    azimuth_down, _, down = _WGS84.inv(*places[1], *places[2])
    area = across * down * abs(np.sin(np.radians(azimuth_across - azimuth_down)))
    return (down, across, area) if isfinite(area) and area > 0 else None


def scale_between(gsd_m: float | None, wanted_m: float | None, aspect: float = 1.0) -> GridScale:
    """Return the ``Raster`` scale that resamples to square pixels of ``wanted_m`` metres.

    The scale is 1 if either distance is unknown, and along each axis that it would change by less
    than 1 %.

    Args:
        gsd_m: ground sampling distance of the raster: the root of the area of a pixel.
        wanted_m: wanted size of pixels.
        aspect: shape of the raster's pixels, from ``pixel_aspect``.
    """
    if gsd_m is None or wanted_m is None:
        return ONE
    stretch = 1.0 if is_square(aspect) else sqrt(aspect)
    sides = gsd_m / stretch / wanted_m, gsd_m * stretch / wanted_m
    return GridScale(*(1.0 if abs(side - 1.0) < _SAME else side for side in sides))


def offset_px(raster: "Georeferenced", reference: "Georeferenced") -> float | None:
    """Return how far the corners of a raster lie from those of another, in pixels of the other.

    Returns:
        The largest distance of the four corners; None if one of the two has no georeference, or
        only ground control points.
    """
    if any(each.gcps or _in_pixels(each) for each in (raster, reference)):
        return None
    corners = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
    x, y = raster.transform @ (corners * (raster.width, raster.height)).T
    if raster.crs and reference.crs and raster.crs != reference.crs:
        try:
            moved = Transformer.from_crs(
                raster.crs.to_wkt(), reference.crs.to_wkt(), always_xy=True
            ).transform(x, y)
        except ProjError:
            return None
        x, y = moved
    cols, rows = ~reference.transform @ (np.asarray(x), np.asarray(y))
    wanted = corners * (reference.width, reference.height)
    distance = float(np.hypot(cols - wanted[:, 0], rows - wanted[:, 1]).max())
    return distance if isfinite(distance) else None


def _in_pixels(raster: "Georeferenced") -> bool:
    """Return whether the coordinates of a raster are its pixels, on a grid of any scale."""
    at = raster.transform
    upright = at.e > 0 and at.b == at.c == at.d == at.f == 0
    return bool(at.is_identity or (raster.crs is None and upright))


def to_pixels(
    geometries: NDArray[Any], transform: Affine, gcps: Sequence[GroundControlPoint] = ()
) -> NDArray[Any]:
    """Return geometries (N,) in the CRS of a raster as (column, row) of its pixels.

    Control points may bend straight edges, of which only the vertices are moved.

    Args:
        geometries: (N,) geometries.
        transform: affine transform from (column, row) to coordinates; unused with ``gcps``.
        gcps: ground control points of the raster, if it has these instead of a transform.
    """
    if gcps:
        with GCPTransformer(list(gcps)) as transformer:

            def through_gcps(places: NDArray[np.float64]) -> NDArray[np.float64]:
                rows, cols = transformer.rowcol(*places.T, op=lambda value: value)
                return np.column_stack([cols, rows])

            return np.asarray(shapely.transform(geometries, through_gcps), dtype=object)
    a, b, left, d, e, top = transform[:6]
    inverse = ~Affine(a, b, 0.0, d, e, 0.0)

    def affine(places: NDArray[np.float64]) -> NDArray[np.float64]:
        # The corner first: it is far from the origin, and subtracting it loses no digits.
        x, y = places[:, 0] - left, places[:, 1] - top
        return np.column_stack([inverse.a * x + inverse.b * y, inverse.d * x + inverse.e * y])

    return np.asarray(shapely.transform(geometries, affine), dtype=object)


def extent(
    height: int, width: int, transform: Affine, gcps: Sequence[GroundControlPoint] = ()
) -> tuple[float, float, float, float]:
    """Return the (left, bottom, right, top) of a raster in its CRS.

    Args:
        height: number of rows.
        width: number of columns.
        transform: affine transform from (column, row) to coordinates; unused with ``gcps``.
        gcps: ground control points, if there are these instead of a transform.
    """
    corners = shapely.box(0, 0, width, height)
    if not gcps:
        left, bottom, right, top = affine_transform(corners, transform.to_shapely()).bounds
        return left, bottom, right, top
    # Straight edges become curves.
    edges = shapely.segmentize(corners, max(height, width) / _PIECES_PER_EDGE)
    cols, rows = shapely.get_coordinates(edges).T
    with GCPTransformer(list(gcps)) as transformer:
        x, y = transformer.xy(rows, cols, offset="ul")
    return float(np.min(x)), float(np.min(y)), float(np.max(x)), float(np.max(y))


def scaled_gcps(
    gcps: Sequence[GroundControlPoint], step: tuple[float, float]
) -> tuple[GroundControlPoint, ...]:
    """Return ground control points on a grid whose pixels are ``step`` (rows, columns) as large."""
    return tuple(
        GroundControlPoint(gcp.row / step[0], gcp.col / step[1], gcp.x, gcp.y, gcp.z)
        for gcp in gcps
    )


def outline(crs: CRS | None, transform: Affine, height: int, width: int) -> shapely.Polygon:
    """Return the outline of a raster in EPSG:4326; empty if it has no location on Earth.

    Longitudes go on beyond 180 degrees where it crosses that meridian. A raster round a pole has
    all longitudes, up to the pole.

    Args:
        crs: CRS of the raster, or None.
        transform: affine transform from (column, row) of pixels to coordinates.
        height: number of rows.
        width: number of columns.
    """
    if crs is None:
        return shapely.Polygon()
    # Straight edges become curves in degrees.
    pixels = shapely.box(0, 0, width, height).segmentize(max(height, width) / _PIECES_PER_EDGE)
    ring = affine_transform(pixels, transform.to_shapely()).exterior.coords
    places = to_degrees(crs, *np.transpose(ring))
    if places is None:
        return shapely.Polygon()
    places[:, 0] = np.unwrap(places[:, 0], period=360.0)
    first, last = places[0, 0], places[-1, 0]
    if abs(last - first) > 180.0:
        pole = np.copysign(90.0, places[:, 1].mean())
        places = np.vstack([places, [(last, pole), (first, pole)]])
    return shapely.Polygon(places)
