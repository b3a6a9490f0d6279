"""Prediction of strips, the units of work of one or several processes."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from rhm.colour.lookup import PixelMap
from rhm.data.rasters.damaged import SalvagedRaster
from rhm.data.rasters.gdal_options import limited_cache
from rhm.data.rasters.georeference import ONE, GridScale
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.raster_info import RasterInfo
from rhm.data.rasters.windows import Window
from rhm.inference.runtime.tta import Network
from rhm.inference.tiling.journal import pack
from rhm.inference.tiling.storage import STORAGES
from rhm.inference.tiling.stream import Grid, Tiling, classes_of, predict_blocks
from rhm.models.building_classes import maps_of

LEAST_CACHE = 64 << 20
"""Smallest size of GDAL's cache of decoded blocks, in bytes."""


@dataclass(frozen=True)
class StripSource:
    """A scene and how it is read; can be sent to another process.

    Attributes:
        path: absolute path of the scene, or anything else that GDAL opens.
        bands: 1-based indices of the bands to read; None for all except alpha.
        black_is_nodata: whether pixels that are zero in all bands are nodata.
        scale: number of pixels of the grid per pixel of the file.
        skip_errors: whether blocks that cannot be read are nodata, instead of an error.
    """

    path: str
    bands: tuple[int, ...] | None = None
    black_is_nodata: bool = False
    scale: GridScale = ONE
    skip_errors: bool = False

    def on_own_grid(self) -> "StripSource":
        """Return the same scene on the grid of its file."""
        return replace(self, scale=ONE)

    def open(self) -> Raster:
        """Open the raster.

        Raises:
            RasterError: the raster cannot be opened; see ``Raster``.
        """
        kind = SalvagedRaster if self.skip_errors else Raster
        return kind(
            self.path, bands=self.bands, black_is_nodata=self.black_is_nodata, scale=self.scale
        )


@dataclass(frozen=True)
class Task:
    """Everything that determines the stored maps of a scene, except the network.

    The stored values of all maps of a row follow each other, (rows, maps x width), like bands that
    are interleaved by line. For networks without classes, the only map is the probability.

    Attributes:
        source: scene and how it is read.
        table: map from stored values to the input of the network.
        tiling: options of the tiles.
        dtype: dtype of the stored probabilities, one of ``STORAGES``.
        area: polygons in pixels of the grid, as WKB, to which tiles are limited; None for all.
        digest: hash of the scene from ``scene_identity``, which must be the same in every process;
            None if it is not checked.
    """

    source: StripSource
    table: PixelMap
    tiling: Tiling
    dtype: str
    area: bytes | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Strip:
    """A finished strip.

    Attributes:
        index: index of the strip.
        packed: compressed stored values of the strip, from ``pack``.
        pixels: number of pixels of the strip.
        damaged: windows of the scene that could not be read for the strip.
    """

    index: int
    packed: bytes
    pixels: int
    damaged: tuple[Window, ...]


class Workers(Protocol):
    """Something that predicts strips, such as this process, several processes or a cluster."""

    def predict(self, task: Task, missing: Sequence[range]) -> Iterator[Strip]:
        """Yield the strips of the missing ranges, in any order."""

    def stop(self) -> None:
        """Give up all strips that are being predicted; whoever waits for them gets an error."""


@dataclass(frozen=True)
class ThisProcess:
    """Predicts strips in this process, one after another.

    Attributes:
        network: network that returns logits for normalised images.
    """

    network: Network

    def predict(self, task: Task, missing: Sequence[range]) -> Iterator[Strip]:
        """Yield the strips of the missing ranges, from top to bottom."""
        for strips in missing:
            yield from predict_strips(self.network, task, strips)

    def stop(self) -> None:
        """Do nothing: whoever waits for strips is predicting them."""


def predict_strips(network: Network, task: Task, strips: range) -> Iterator[Strip]:
    """Predict consecutive strips of a scene; a thread compresses each while the next is predicted.

    Raises:
        RasterError: the scene cannot be read.
        ModelFileError: the network does not return finite logits of its classes for each pixel.
    """
    waiting: Future[Strip] | None = None
    if isinstance(network, nn.Module) and any(part.training for part in network.modules()):
        # For good: other threads may be predicting with it, and so may its next user.
        network.eval()
    with task.source.open() as raster, ThreadPoolExecutor(1) as packer:
        grid = Grid(raster.info.height, raster.info.width, task.tiling, task.area)
        storage, maps = STORAGES[task.dtype], len(maps_of(classes_of(network)))
        with (
            limited_cache(sweep_bytes(raster.info, raster.stored_shape[1], task)),
            closing(
                predict_blocks(network, raster.read, grid, task.table, strips=strips)
            ) as blocks,
        ):
            for index in strips:
                top, bottom = grid.strip(index)
                stored = np.empty((bottom - top, maps, grid.width), dtype=task.dtype)
                for block in islice(blocks, len(grid.cols)):
                    rows, cols = block.window._replace(row=block.window.row - top).slices
                    for number, each in enumerate(block.maps):
                        stored[rows, number, cols] = storage.encode(each, block.valid)
                if waiting is not None:
                    yield waiting.result()
                waiting = packer.submit(_packed, index, stored, raster)
            if waiting is not None:
                yield waiting.result()


def sweep_bytes(info: RasterInfo, width: int, task: Task) -> int:
    """Return the size of the decoded blocks under one row of tiles, in bytes.

    Args:
        info: blocks, bands and dtype of the scene.
        width: number of columns of its file.
        task: tiles of the scene.
    """
    rows = info.block_shape[0]
    reach = (math.ceil(task.tiling.tile / task.source.scale.down / rows) + 1) * rows
    return max(LEAST_CACHE, reach * width * len(info.bands) * np.dtype(info.dtype).itemsize)


def _packed(index: int, stored: NDArray[Any], raster: Raster) -> Strip:
    damaged = tuple(raster.damaged) if isinstance(raster, SalvagedRaster) else ()
    rows, _, width = stored.shape
    return Strip(index, pack(stored), rows * width, damaged)
