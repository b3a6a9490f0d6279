"""The part of a scene that an area of interest covers, and results that are cut to it."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from rasterio.control import GroundControlPoint
from rasterio.features import rasterize
from rasterio.rpc import RPC

from rhm.data.rasters.georeference import GridScale, to_pixels
from rhm.data.rasters.raster_info import RasterInfo
from rhm.data.rasters.windows import Window
from rhm.data.vectors.area_of_interest import AreaOfInterest
from rhm.errors import OutsideAreaError, RasterError
from rhm.inference.pixel_grid import PixelGrid
from rhm.inference.tiling.regrid import Rows

_INTERPOLATED_PX = 2.0
"""Pixels around the area that an interpolation at its edge takes into account."""

_MARGIN = 0.05
"""Part of a scene by which its outline is grown: the polynomials from pixels to the ground, and
back, agree to the accuracy of the control points."""

_PIECES = 16
"""Pieces of the longer side of a scene, because control points make curves of its edges."""


@dataclass(frozen=True)
class SceneArea:
    """The part of a scene that an area of interest covers.

    Attributes:
        wkb: polygons in pixels of the scene, (column, row).
        window: smallest window that contains all pixels whose centres they cover.
    """

    wkb: bytes
    window: Window

    def cut_info(self, scene: RasterInfo) -> RasterInfo:
        """Return the properties of the scene, cut to the window."""
        row, col, height, width = self.window
        return replace(
            scene,
            height=height,
            width=width,
            transform=scene.transform @ Affine.translation(col, row),
            gcps=tuple(
                GroundControlPoint(gcp.row - row, gcp.col - col, gcp.x, gcp.y, gcp.z)
                for gcp in scene.gcps
            ),
            rpcs=None if scene.rpcs is None else _moved(scene.rpcs, row, col),
        )

    def on_grid(self, scale: GridScale, *, resampled: bool) -> bytes:
        """Return the polygons in pixels of the grid that is predicted.

        Args:
            scale: number of pixels of the grid per pixel of the scene.
            resampled: whether the two grids differ, so that results are interpolated.
        """
        shape = shapely.transform(
            shapely.from_wkb(self.wkb), lambda points: points * [scale.across, scale.down]
        )
        if resampled:
            reach = _INTERPOLATED_PX + max(scale)
            shape = shapely.buffer(shape, reach, join_style="mitre")
        return bytes(shapely.to_wkb(shape))

    def outside(self, first: int, count: int) -> NDArray[np.bool_]:
        """Return which pixels of some rows of the window lie outside, (count, width) bool."""
        window = self.window
        inside = rasterize(
            [shapely.from_wkb(self.wkb)],
            out_shape=(count, window.width),
            transform=Affine.translation(window.col, window.row + first),
            dtype="uint8",
        )
        return np.asarray(inside == 0)


def scene_area(scene: RasterInfo, area: AreaOfInterest) -> SceneArea:
    """Return the part of a scene that an area of interest covers.

    Raises:
        OutsideAreaError: the scene has no pixel in it.
        RasterError: the scene has no place on Earth that an area could be compared with.
    """
    outline = _outline(scene)
    shape = _placed(area, scene, outline)
    if scene.gcps:
        # Far from the control points, the polynomials that locate pixels have no meaning.
        shape = shapely.intersection(shape, outline)
    shape = _in_pixels(shape, scene)
    shape = shapely.intersection(shape, shapely.box(0, 0, scene.width, scene.height))
    parts = shapely.get_parts(shape)
    shape = shapely.union_all(parts[shapely.area(parts) > 0])
    if not shape.is_empty:
        left, top, right, bottom = shape.bounds
        # A pixel belongs to the area if its centre does.
        col, row = max(0, int(np.ceil(left - 0.5))), max(0, int(np.ceil(top - 0.5)))
        width = min(scene.width, int(np.floor(right + 0.5))) - col
        height = min(scene.height, int(np.floor(bottom + 0.5))) - row
        if width > 0 and height > 0:
            return SceneArea(bytes(shapely.to_wkb(shape)), Window(row, col, height, width))
    raise OutsideAreaError(f"{scene.path} lies outside the area of interest ({area.name})")


def cut_rows(
    rows: Rows,
    area: SceneArea,
    origin: tuple[int, int],
    nodata: float,
    count: int,
    *,
    maps: int = 1,
) -> Rows:
    """Cut the rows of a prediction to an area.

    Args:
        rows: rows of stored probabilities.
        area: area.
        origin: row and column of the scene in which these rows begin.
        nodata: stored value of pixels outside the area.
        count: number of rows to yield at a time.
        maps: number of maps, whose values in a row follow each other.

    Yields:
        Rows of the window of the area, counted from its first one.
    """
    window = area.window
    left = window.col - origin[1]
    waiting: list[NDArray[Any]] = []
    first = have = 0
    for row, stored in rows:
        top = max(0, window.row - origin[0] - row)
        bottom = min(len(stored), window.row + window.height - origin[0] - row)
        if top >= bottom:
            continue
        of_maps = stored[top:bottom].reshape(bottom - top, maps, -1)
        within = of_maps[..., left : left + window.width]
        waiting.append(within.reshape(bottom - top, -1))
        have += bottom - top
        while have >= count:
            together = np.concatenate(waiting)
            yield first, _blanked(together[:count], area, first, nodata)
            waiting, have, first = [together[count:]], have - count, first + count
    if have:
        yield first, _blanked(np.concatenate(waiting), area, first, nodata)


def blanked_rows(rows: Rows, area: SceneArea, nodata: float) -> Rows:
    """Yield rows of the window of an area with nodata outside the area."""
    for first, stored in rows:
        yield first, _blanked(stored, area, first, nodata)


def _blanked(stored: NDArray[Any], area: SceneArea, first: int, nodata: float) -> NDArray[Any]:
    outside = area.outside(first, len(stored))
    result = np.array(stored)
    # A view of all maps, of which each row has the values one after another.
    of_maps = result.reshape(len(stored), -1, outside.shape[1])
    of_maps[np.broadcast_to(outside[:, None], of_maps.shape)] = nodata
    return result


def _placed(area: AreaOfInterest, scene: RasterInfo, outline: Any) -> Any:
    """Return the polygons of an area, at least those in an outline, in the CRS of a scene."""
    if scene.crs is not None and (scene.rpcs is None or not scene.transform.is_identity):
        with suppress(ProjError):  # a local system, which has no place on Earth
            return area.in_crs(scene.crs.to_wkt(), outline.bounds)
    raise RasterError(
        f"{scene.path} has no coordinate reference system on Earth, so no area of interest can be "
        "found in it: georeference it first"
    )


def _outline(scene: RasterInfo) -> Any:
    """Return the outline of a scene, and of some pixels around it, in the CRS of the scene."""
    side = max(scene.height, scene.width)
    margin = max(_INTERPOLATED_PX, _MARGIN * side)
    pixels = shapely.box(-margin, -margin, scene.width + margin, scene.height + margin)
    pixels = shapely.segmentize(pixels, side / _PIECES)
    return shapely.make_valid(shapely.transform(pixels, PixelGrid.of_info(scene).to_coordinates))


def _in_pixels(shape: Any, scene: RasterInfo) -> Any:
    """Return polygons in the CRS of a scene in its pixels, (column, row)."""
    (moved,) = to_pixels(np.array([shape], dtype=object), scene.transform, scene.gcps)
    return shapely.make_valid(moved) if scene.gcps else moved


def wanted_tiles(
    wkb: bytes, rows: list[int], cols: list[int], tile: int
) -> Iterator[tuple[int, int]]:
    """Yield the row and column in the grid of the tiles that polygons touch.

    Args:
        wkb: polygons in pixels.
        rows: first pixel row of each row of tiles.
        cols: first pixel column of each column of tiles.
        tile: side of a tile in pixels.
    """
    shape = shapely.from_wkb(wkb)
    left, top, right, bottom = shape.bounds
    near_rows = [n for n, first in enumerate(rows) if first < bottom and first + tile > top]
    near_cols = [n for n, first in enumerate(cols) if first < right and first + tile > left]
    shapely.prepare(shape)
    for row in near_rows:
        boxes = [
            shapely.box(cols[c], rows[row], cols[c] + tile, rows[row] + tile) for c in near_cols
        ]
        for col, meets in zip(near_cols, shapely.intersects(shape, boxes), strict=True):
            if meets:
                yield row, col


def _moved(rpcs: RPC, row: int, col: int) -> RPC:
    """Return coefficients of which a pixel of the scene is the first one."""
    values = {**rpcs.to_dict(), "line_off": rpcs.line_off - row, "samp_off": rpcs.samp_off - col}
    return RPC(**values)
