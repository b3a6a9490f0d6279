"""Rows of a prediction: those of existing probabilities, and resampling to the grid of a scene."""

from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine
from scipy.ndimage import distance_transform_edt

from rhm.data.rasters.cog import BLOCK_PX
from rhm.data.rasters.gdal_options import GDAL_ERRORS, open_dataset, quiet_about_georeference
from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import Window, in_bands, partition
from rhm.errors import OutputError
from rhm.inference.tiling.storage import Storage, maps_in
from rhm.models.expected_iou import ExpectedIoU

_FILLED_PX = 512
"""Side of the parts in which what is lost beside nodata is filled."""

Rows = Iterator[tuple[int, NDArray[Any]]]
"""A raster from top to bottom: index of the first row, and stored values (rows, maps x width)."""


def rows_of(path: Path) -> Rows:
    """Yield the rows of existing probabilities, in whole rows of blocks.

    Raises:
        OutputError: the raster cannot be read.
    """
    try:
        with open_dataset(path) as raster:
            for first in range(0, raster.height, BLOCK_PX):
                last = min(first + BLOCK_PX, raster.height)
                maps = raster.read(window=((first, last), (0, raster.width)))
                yield first, np.concatenate(list(maps), axis=1)
    except GDAL_ERRORS as error:
        raise OutputError(
            f"{path} cannot be read: predict the scene again without --resume"
        ) from error


def expectation_of(rows: Rows, storage: Storage, maps: int, threshold: float) -> ExpectedIoU:
    """Return the expected IoU of a scene, counted from all of its stored probabilities.

    Args:
        rows: rows of the prediction.
        storage: storage of the probabilities.
        maps: number of maps, of which the first is the building probability.
        threshold: probability from which a pixel counts as building.
    """
    counted = ExpectedIoU(threshold)
    for _, stored in rows:
        probability = maps_in(stored, maps)[0]
        for part in in_bands(*probability.shape):
            counted.add(storage.decode(probability[part]), probability[part] != storage.nodata)
    return counted


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
    maps: int = 1,
) -> Rows:
    """Resample stored probabilities from the grid of a prediction to the grid of its scene.

    Probabilities are interpolated, or averaged if the pixels of the scene are larger. Nodata pixels
    of the scene become nodata. Beside them, where the nearest pixel of the prediction may be
    nodata, a pixel has the probability of the nearest one that is known.

    Args:
        rows: rows of the prediction.
        scene: scene, open on its own grid.
        storage: storage of the probabilities.
        scratch: path of a temporary copy, which is not removed.
        shape: number of rows and columns of the grid of the prediction.
        count: number of rows to yield at a time.
        origin: row and column of this grid in which the prediction begins.
        part: window of the scene to yield; by default all of it.
        maps: number of maps, whose values in a row follow each other.

    Raises:
        RasterError: the scene cannot be read.
        OutputError: the copy cannot be written.
    """
    _copy(rows, storage, scratch, shape, origin, maps)
    height, width = scene.info.height, scene.info.width
    part = part or Window(0, 0, height, width)
    # The farthest that a pixel can be from the next one of the prediction but one.
    reach = ceil(2.0 * max(height / shape[0], width / shape[1], 1.0))
    with Raster(scratch, shape=(height, width)) as predicted:
        for first in range(0, part.height, count):
            rows_left = min(count, part.height - first)
            window = Window(part.row + first, part.col, rows_left, part.width)
            valid = scene.read(window).valid
            values, known = _filled(predicted, window, valid, reach)
            stored = np.moveaxis(values, 2, 1)
            stored[np.broadcast_to(~(known & valid)[:, None], stored.shape)] = storage.nodata
            yield first, stored.reshape(len(stored), -1)


def _filled(predicted: Raster, window: Window, valid: NDArray[np.bool_], reach: int) -> Pixels:
    """Return a window of a prediction, with what valid pixels of the scene lack taken from near.

    Args:
        predicted: prediction on the grid of the scene.
        window: window to read.
        valid: (height, width) validity of the scene.
        reach: largest distance in pixels.
    """
    values, known = predicted.read(window)
    lost = valid & ~known
    if not lost.any():
        return Pixels(values, known)
    known = known.copy()
    # In parts, whose size bounds the memory that distances take.
    for part in partition(window.height, window.width, _FILLED_PX):
        here = lost[part.slices]
        if not here.any():
            continue
        row, col = window.row + part.row - reach, window.col + part.col - reach
        around = Window(row, col, part.height + 2 * reach, part.width + 2 * reach)
        wide, known_around = predicted.read(around)
        far, nearest = distance_transform_edt(~known_around, return_indices=True)
        inside = Window(reach, reach, part.height, part.width).slices
        found = here & (far[inside] <= reach)
        rows, cols = (axis[inside][found] for axis in nearest)
        values[part.slices][found] = wide[rows, cols]
        known[part.slices] |= found
    return Pixels(values, known)


def _copy(
    rows: Rows,
    storage: Storage,
    path: Path,
    shape: tuple[int, int],
    origin: tuple[int, int],
    maps: int,
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
                count=maps,
                dtype=storage.dtype,
                nodata=storage.nodata,
                transform=Affine.identity(),
                bigtiff="if_safer",
                **sparse,
            )
        row, col = origin
        with copy:
            for first, stored in rows:
                top, (height, width) = row + first, (len(stored), stored.shape[1] // maps)
                place = ((top, top + height), (col, col + width))
                copy.write(np.ascontiguousarray(maps_in(stored, maps)), window=place)
    except GDAL_ERRORS as error:
        raise OutputError(f"cannot write {path.parent} (disk full?): {error}") from error
