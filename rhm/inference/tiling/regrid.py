"""From the grid of a prediction back to the grid of its scene."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from rhm.data.rasters.gdal_options import quiet_about_georeference
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import Window
from rhm.errors import OutputError
from rhm.inference.tiling.storage import Storage

Rows = Iterator[tuple[int, NDArray[Any]]]
"""A raster from top to bottom: the first row, and some rows of stored values (rows, width)."""


def on_scene_grid(
    rows: Rows,
    scene: Raster,
    storage: Storage,
    scratch: Path,
    *,
    shape: tuple[int, int],
    count: int,
) -> Rows:
    """Bring stored probabilities from a prediction's grid to the one of its scene.

    Between pixels they are interpolated, or averaged where the scene's are larger. Pixels of the
    scene that hold no data get none.

    Args:
        rows: of the prediction.
        scene: on its own grid.
        storage: of the values.
        scratch: a path to write a copy to, which is left there.
        shape: rows and columns of the prediction.
        count: rows to yield at a time.

    Raises:
        RasterError: the scene cannot be read.
        OutputError: the copy cannot be written.
    """
    _copy(rows, storage, scratch, shape)
    height, width = scene.info.height, scene.info.width
    with Raster(scratch, shape=(height, width)) as predicted:
        for first in range(0, height, count):
            window = Window(first, 0, min(count, height - first), width)
            values, known = predicted.read(window)
            valid = scene.read(window).valid
            stored = values[..., 0]
            stored[~(known & valid)] = storage.nodata
            yield first, stored


def _copy(rows: Rows, storage: Storage, path: Path, shape: tuple[int, int]) -> None:
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
            )
        with copy:
            for first, stored in rows:
                place = ((first, first + len(stored)), (0, shape[1]))
                copy.write(np.ascontiguousarray(stored), 1, window=place)
    except rasterio.errors.RasterioError as error:
        raise OutputError(f"cannot write {path.parent} (disk full?): {error}") from error
