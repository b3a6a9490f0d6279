"""Places as tiles of the web's map, by which a layer is ordered and divided among files.

A tile is named as in https://wiki.openstreetmap.org/wiki/Slippy_map_tilenames: zoom level, column
and row of a square in Web Mercator.
"""

from typing import NamedTuple

import numpy as np
import pyproj
from numpy.typing import NDArray

ZOOM = 12
"""Zoom level: tiles of ten kilometres at the equator and of five in the north of Europe."""

_NORTHERNMOST = 85.05112878


class PlaceTile(NamedTuple):
    """A tile of the web's map at the zoom level ``ZOOM``."""

    col: int
    row: int

    @property
    def name(self) -> str:
        """Zoom level, column and row."""
        return f"{ZOOM}-{self.col}-{self.row}"


def tile_numbers(
    x: NDArray[np.float64], y: NDArray[np.float64], crs: pyproj.CRS
) -> NDArray[np.int64]:
    """Return the tiles of points (N,) in a CRS as (N, 2) columns and rows; 0 without a location."""
    transformer = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    longitude, latitude = transformer.transform(x, y)
    known = np.isfinite(longitude) & np.isfinite(latitude)
    longitude = np.where(known, longitude, -180.0)
    latitude = np.radians(np.clip(np.where(known, latitude, 90.0), -_NORTHERNMOST, _NORTHERNMOST))
    count = 1 << ZOOM
    col = np.floor((longitude + 180.0) / 360.0 * count).astype(np.int64) % count
    row = np.floor((1.0 - np.arcsinh(np.tan(latitude)) / np.pi) / 2.0 * count).astype(np.int64)
    return np.stack([col, np.clip(row, 0, count - 1)], axis=1)
