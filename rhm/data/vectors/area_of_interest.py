"""Areas of interest: polygons of a vector file, or a box."""

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
from shapely.errors import ShapelyError

from rhm.data.vectors.vector_layer import is_finite, read_layer
from rhm.errors import ConfigError, VectorError, one_line, printable
from rhm.required_files import require_area

_PIECES = 64
"""Pieces of the longer side of an area, because another CRS makes curves of straight edges."""

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

    def in_crs(self, crs: Any) -> Any:
        """Return the polygons in another CRS; empty if they have no place there.

        Args:
            crs: CRS in any form that pyproj understands (including rasterio's).
        """
        shape = shapely.from_wkb(self.wkb)
        own, target = pyproj.CRS(self.crs), pyproj.CRS.from_user_input(crs)
        if own == target:
            return shape
        left, bottom, right, top = shape.bounds
        pieces = shapely.segmentize(shape, max(right - left, top - bottom) / _PIECES)
        parts = shapely.get_parts(gpd.GeoSeries([pieces], crs=own).to_crs(target).to_numpy())
        return shapely.make_valid(shapely.union_all(shapely.make_valid(parts[is_finite(parts)])))


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
        possible = len(words) in (4, 5) and np.isfinite([left, bottom, right, top]).all()
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
