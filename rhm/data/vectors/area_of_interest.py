"""Areas of interest: polygons of a vector file, or a box."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio.errors
import pyproj
import pyproj.exceptions
import shapely
from numpy.typing import NDArray
from pyproj.enums import TransformDirection
from shapely.affinity import translate
from shapely.errors import ShapelyError

from rhm.data.vectors.antimeridian import FullTurn, contiguous, turn_of
from rhm.data.vectors.vector_layer import Bounds, is_finite, read_layer
from rhm.errors import ConfigError, VectorError, one_line, printable
from rhm.required_files import require_area

_PIECES = 64
"""Pieces of the longer side of an area, because another CRS makes curves of straight edges."""

_MARGIN = 0.01
"""Part of a box by which it is grown, because its edges are curved where they are transformed."""

_FAILED = (
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    pyproj.exceptions.ProjError,
    ShapelyError,
    OSError,
    ValueError,
)


@dataclass(frozen=True)
class AreaOfInterest:
    """The ground that the user wants.

    Attributes:
        wkb: valid polygons.
        crs: their coordinate reference system as WKT.
        name: how the user named them.
    """

    wkb: bytes
    crs: str
    name: str = field(repr=False, compare=False)

    def in_crs(self, crs: Any, within: Bounds | None = None) -> Any:
        """Return the polygons in another CRS; empty if they have no place there.

        Without ``within``, parts that reach beyond what the CRS can describe are missing.

        Args:
            crs: CRS in any form that pyproj understands (including rasterio's).
            within: (left, bottom, right, top) in that CRS, beyond which nothing is needed. The
                polygons are there in full, whatever their size, and also where the box goes on
                beyond the 180th meridian, unless it reaches round the Earth. Outside it, they may
                be cut.

        Raises:
            pyproj.exceptions.ProjError: one of the two systems is in no relation to the other.
        """
        shape = shapely.from_wkb(self.wkb)
        own, target = pyproj.CRS(self.crs), pyproj.CRS.from_user_input(crs)
        turn = turn_of(target)
        if own != target:
            box = None if within is None else _box_in(within, target, own)
            if box is not None:
                shape = _cut(_around(shape, box, turn_of(own)), box)
            parts = _transformed(shape, own, target)
            if box is not None and within is not None and turn is not None:
                parts = contiguous(parts, (within[0] + within[2]) / 2, turn.length)
            parts = shapely.get_parts(shapely.make_valid(parts))
            shape = shapely.make_valid(shapely.union_all(parts[shapely.area(parts) > 0]))
        return shape if within is None else _around(shape, within, turn)


def read_area(text: str | os.PathLike[str]) -> AreaOfInterest:
    """Return the area that a file or the four numbers of a box describe.

    Args:
        text: vector file with polygons, or ``left,bottom,right,top`` in degrees of longitude and
            latitude (WGS 84). A fifth entry names another CRS: ``5e5,5e6,6e5,6e6,EPSG:32633``. In
            degrees, a box from east to west of the 180th meridian crosses it.

    Raises:
        VectorError: the file cannot be read, has no CRS, or no polygon.
        ConfigError: the text is neither a file nor a box.
    """
    name = os.fspath(text)
    require_area(name)
    return _of_file(Path(name)) if os.path.exists(name) else _of_box(name)


def _of_file(path: Path) -> AreaOfInterest:
    try:
        # Coordinates that are too large are refused below.
        with np.errstate(over="ignore"):
            layer = read_layer(path, lambda _: None)
        if layer.crs is None:
            raise VectorError(f"{path} has no CRS; assign one to it (ogr2ogr -a_srs), then retry")
        shape = shapely.union_all(layer.polygons)
        crs = pyproj.CRS.from_user_input(layer.crs).to_wkt()
    except _FAILED as error:
        raise VectorError(f"cannot read the area in {path}: {one_line(error)}") from error
    if shape.is_empty:
        raise VectorError(f"{path} has no polygon that could be an area of interest")
    if not np.isfinite(shape.length):
        raise VectorError(f"{path} has coordinates that are in no place on Earth")
    return AreaOfInterest(shapely.to_wkb(shape), crs, str(path))


def _of_box(text: str) -> AreaOfInterest:
    words = [word.strip() for word in text.split(",")]
    try:
        left, bottom, right, top = map(float, words[:4])
        crs = pyproj.CRS.from_user_input(words[4] if len(words) == 5 else "EPSG:4326")
        # Neither a system of heights nor one with its origin in the Earth has horizontal axes.
        flat = len(crs.axis_info) > 1 and not crs.is_geocentric
        possible = len(words) in (4, 5) and flat and np.isfinite([left, bottom, right, top]).all()
    except (ValueError, pyproj.exceptions.CRSError):
        possible = False
    # Sides in the wrong order are a mistake anywhere else than across the 180th meridian.
    crosses = possible and crs.is_geographic and left > 0.0 > right and left - right > 180.0
    if crosses:
        shape = shapely.box(left, bottom, 180.0, top) | shapely.box(-180.0, bottom, right, top)
    elif possible and left < right:
        shape = shapely.box(left, bottom, right, top)
    else:
        shape = shapely.Polygon()
    if shape.area == 0 or not np.isfinite(shape.length) or bottom >= top:
        raise ConfigError(
            f"'{printable(text)}' is no box: give left,bottom,right,top in degrees, or in the "
            "units of a CRS that is named as a fifth entry"
        )
    return AreaOfInterest(shapely.to_wkb(shape), crs.to_wkt(), text)


def _transformed(shape: Any, own: pyproj.CRS, crs: pyproj.CRS) -> NDArray[Any]:
    """Return the parts of polygons that have a place in another CRS, (N,)."""
    if shape.is_empty:
        return np.empty(0, dtype=object)
    left, bottom, right, top = shape.bounds
    pieces = shapely.segmentize(shape, max(right - left, top - bottom) / _PIECES)
    parts = shapely.get_parts(gpd.GeoSeries([pieces], crs=own).to_crs(crs).to_numpy())
    return np.asarray(parts[is_finite(parts)], dtype=object)


def _around(shape: Any, box: Bounds, turn: FullTurn | None) -> Any:
    """Return polygons together with their copies, whole turns away, that may meet a box."""
    # A box that is wider than the Earth is no place there.
    if turn is None or shape.is_empty or box[2] - box[0] > 2 * turn.length:
        return shape
    left, _, right, _ = shape.bounds
    first = math.floor((box[0] - right) / turn.length) + 1
    last = math.ceil((box[2] - left) / turn.length) - 1
    if first == last == 0:
        return shape
    return shapely.union_all([translate(shape, by * turn.length) for by in range(first, last + 1)])


def _cut(shape: Any, box: Bounds) -> Any:
    """Return the part of polygons in a box; unchanged if that is all."""
    frame = shapely.box(*box)
    if shape.is_empty or shapely.covers(frame, shapely.box(*shape.bounds)):
        return shape
    return shapely.intersection(shape, frame)


def _box_in(box: Bounds, crs: pyproj.CRS, own: pyproj.CRS) -> Bounds | None:
    """Return a box in the CRS of an area that contains a box in another one.

    It goes on beyond the 180th meridian where the other one does. The result is None if the area's
    CRS cannot describe all of the other box.
    """
    turn = turn_of(own)
    # Only for geographic systems, PROJ tells which bounds contain a pole or cross the meridian.
    system = own if turn is None or own.geodetic_crs is None else own.geodetic_crs
    full = turn_of(system)
    to_system = pyproj.Transformer.from_crs(crs, system, always_xy=True)
    left, bottom, right, top = to_system.transform_bounds(*box, densify_pts=_PIECES)
    if full is not None and left > right:
        right += full.length
    margin = _MARGIN * max(right - left, top - bottom)
    left, bottom, right, top = left - margin, bottom - margin, right + margin, top + margin
    middle = (left + right) / 2
    if full is not None:
        across = min(right - left, full.length) / 2
        left, right = middle - across, middle + across
        bottom, top = max(bottom, -full.length / 4), min(top, full.length / 4)
    if not _contains((left, bottom, right, top), box, to_system, turn_of(crs)):
        return None
    if turn is None or full is None or system == own:
        return left, bottom, right, top
    # A cylindrical projection makes a box of a box.
    from_system = pyproj.Transformer.from_crs(system, own, always_xy=True)
    (middle, _), (bottom, top) = from_system.transform([middle, middle], [bottom, top])
    across *= turn.length / full.length
    finite = np.isfinite([middle, bottom, top]).all()
    return (middle - across, bottom, middle + across, top) if finite else None


def _contains(
    outer: Bounds, inner: Bounds, to_outer: pyproj.Transformer, turn: FullTurn | None
) -> bool:
    """Return whether a box in one CRS contains a box in another, in which x may repeat."""
    side = max(outer[2] - outer[0], outer[3] - outer[1])
    if not np.isfinite(side) or side <= 0:
        return False
    edges = shapely.segmentize(shapely.box(*outer), side / _PIECES)
    points = shapely.get_coordinates(edges)
    x, y = to_outer.transform(points[:, 0], points[:, 1], direction=TransformDirection.INVERSE)
    if turn is not None:
        x = x - turn.length * np.round((x - (inner[0] + inner[2]) / 2) / turn.length)
    left, bottom, right, top = inner
    return bool(x.min() <= left and y.min() <= bottom and x.max() >= right and y.max() >= top)
