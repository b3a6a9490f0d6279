"""Resampling of a prediction to the grid of its scene."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from rhm.data.rasters.gdal_options import GDAL_ERRORS, quiet_about_georeference
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import Window
from rhm.errors import OutputError
from rhm.inference.tiling.storage import Storage

Rows = Iterator[tuple[int, NDArray[Any]]]
"""A raster from top to bottom: index of the first row, and stored values (rows, width)."""


def on_scene_grid(
    rows: Rows,
    scene: Raster,
    storage: Storage,
    scratch: Path,
    *,
    shape: tuple[int, int],
    count: int,
    origin: tuple[int, int] = (0, 0),
    part: Window | None = None,
) -> Rows:
    """Resample stored probabilities from the grid of a prediction to the grid of its scene.

    Probabilities are interpolated, or averaged if the pixels of the scene are larger. Nodata pixels
    of the scene become nodata.

    Args:
        rows: rows of the prediction.
        scene: scene, open on its own grid.
        storage: storage of the probabilities.
        scratch: path of a temporary copy, which is not removed.
        shape: number of rows and columns of the grid of the prediction.
        count: number of rows to yield at a time.
        origin: row and column of this grid in which the prediction begins.
        part: window of the scene to yield; by default all of it.

    Raises:
        RasterError: the scene cannot be read.
        OutputError: the copy cannot be written.
    """
    _copy(rows, storage, scratch, shape, origin)
    height, width = scene.info.height, scene.info.width
    part = part or Window(0, 0, height, width)
    with Raster(scratch, shape=(height, width)) as predicted:
        for first in range(0, part.height, count):
            rows_left = min(count, part.height - first)
            window = Window(part.row + first, part.col, rows_left, part.width)
            values, known = predicted.read(window)
            valid = scene.read(window).valid
            stored = values[..., 0]
            stored[~(known & valid)] = storage.nodata
            yield first, stored


def _copy(
    rows: Rows, storage: Storage, path: Path, shape: tuple[int, int], origin: tuple[int, int]
) -> None:
    # A prediction of a part leaves blocks that are never written, and take no space.
    sparse = {"tiled": True, "sparse_ok": True} if origin != (0, 0) else {}
    try:
        with quiet_about_georeference():
            copy = rasterio.open(
                path,
                "w",
                driver="GTiff",
                height=shape[0],
                width=shape[1],
                count=1,
                dtype=storage.dtype,
                nodata=storage.nodata,
                transform=Affine.identity(),
                bigtiff="if_safer",
                **sparse,
            )
        row, col = origin
        with copy:
            for first, stored in rows:
                top, (height, width) = row + first, stored.shape
                place = ((top, top + height), (col, col + width))
                copy.write(np.ascontiguousarray(stored), 1, window=place)
    except GDAL_ERRORS as error:
        raise OutputError(f"cannot write {path.parent} (disk full?): {error}") from error
