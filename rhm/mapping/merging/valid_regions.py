"""The part of the ground that a scene shows, from the mask of its prediction."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from rhm.data.rasters.gdal_options import GDAL_ERRORS, open_dataset
from rhm.data.rasters.raster import describe
from rhm.data.rasters.windows import in_bands
from rhm.errors import RasterError
from rhm.inference.polygons import Ground
from rhm.inference.tiling.storage import MASK_NODATA
from rhm.inference.tracing.components import Outlines, Tracer

SPECK_PX = 64
"""Nodata, and valid pixels amidst nodata, of a smaller area count as if they were not there."""

TOUCHING_PX = 2.0
"""A footprint so close to the border of its scene may continue beyond it. Straightened and
simplified outlines end a little before the pixels that they stand for."""

MARGIN_PX = 32.0
"""So close to the border, the network saw mirrored ground instead of what is really there."""

CLEAR, NEAR, CUT = 0, 1, 2
"""How well a scene sees a building: away from its border, near it, or cut by it."""

_PIECES_PER_EDGE = 16


@dataclass(frozen=True)
class ValidRegion:
    """The part of the ground that a scene shows.

    Attributes:
        outline: polygons in the CRS of the scene.
        crs: CRS of the scene, or None.
        area_px: its area in pixels.
    """

    outline: Any
    crs: CRS | None
    area_px: float

    @property
    def pixel(self) -> float:
        """Side of a square as large as a pixel, in the unit of the CRS."""
        return float(np.sqrt(shapely.area(self.outline) / self.area_px)) if self.area_px else 0.0

    def sight(self, polygons: NDArray[Any]) -> NDArray[np.int8]:
        """Return how well the scene sees footprints (N,) in its CRS, as (N,) int8."""
        seen = np.full(len(polygons), CLEAR, dtype=np.int8)
        edges = _segments(self.outline)
        if not len(edges):
            return seen
        tree = shapely.STRtree(edges)
        for reach, kind in ((MARGIN_PX, NEAR), (TOUCHING_PX, CUT)):
            near, _ = tree.query(polygons, predicate="dwithin", distance=reach * self.pixel)
            seen[near] = kind
        return seen


def region_of(mask: Path) -> ValidRegion:
    """Return the part of the ground that is not nodata in the mask of a prediction.

    The mask is read some rows at a time.

    Raises:
        RasterError: the mask cannot be read.
    """
    info = describe(mask)
    tracer = Tracer(info.width)
    found: list[Outlines] = []
    try:
        with open_dataset(mask) as raster:
            for rows in in_bands(info.height, info.width):
                place = ((rows.start, rows.stop), (0, info.width))
                valid = raster.read(1, window=place) != MASK_NODATA
                found.append(tracer.feed(valid, valid.astype(np.float32)))
    except GDAL_ERRORS as error:
        raise RasterError(
            f"{mask} cannot be read: predict its scene again, or remove it to merge without it"
        ) from error
    outlines = np.concatenate([each.polygons for each in (*found, tracer.finish())])
    kept = [_without_specks(each) for each in outlines if each.area >= SPECK_PX]
    pixels = np.array([shapely.segmentize(each, _piece(each)) for each in kept], dtype=object)
    placed = Ground(info).placed(pixels) if kept else pixels
    area = float(shapely.area(np.array(kept, dtype=object)).sum())
    return ValidRegion(shapely.MultiPolygon(list(placed)), info.crs, area)


def _without_specks(polygon: shapely.Polygon) -> shapely.Polygon:
    holes = [ring for ring in polygon.interiors if shapely.Polygon(ring).area >= SPECK_PX]
    return shapely.Polygon(polygon.exterior, holes)


def _piece(polygon: shapely.Polygon) -> float:
    """Return the length of the pieces of a long edge, which another CRS makes a curve."""
    left, top, right, bottom = polygon.bounds
    return max(SPECK_PX, float(max(right - left, bottom - top)) / _PIECES_PER_EDGE)


def _segments(outline: Any) -> NDArray[Any]:
    """Return the edges of polygons, one line each."""
    return np.array(list(_edges(outline)), dtype=object)


def _edges(outline: Any) -> Iterator[Any]:
    for ring in shapely.get_rings(shapely.get_parts(outline)):
        points = shapely.get_coordinates(ring)
        yield from shapely.linestrings(np.stack([points[:-1], points[1:]], axis=1))
