"""Predicting strips of a scene: the unit of work, for one process or many."""

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
from rhm.data.rasters.raster import Raster, RasterInfo
from rhm.data.rasters.windows import Window
from rhm.inference.runtime.tta import Network
from rhm.inference.tiling.journal import pack
from rhm.inference.tiling.storage import STORAGES
from rhm.inference.tiling.stream import Grid, Tiling, predict_blocks

LEAST_CACHE = 64 << 20
"""Bytes of decoded blocks that GDAL keeps, whatever is predicted."""


@dataclass(frozen=True)
class StripSource:
    """A scene and the way to read it; can be sent to another process.

    Attributes:
        path: anything GDAL opens.
        bands: 1-based indices of the bands to use; None for all but alpha.
        black_is_nodata: whether pixels that are zero in all bands have no data.
        scale: pixels of the grid to read on per pixel of the file, along an axis.
        skip_errors: whether blocks that cannot be read have no data, instead of ending it all.
    """

    path: str
    bands: tuple[int, ...] | None = None
    black_is_nodata: bool = False
    scale: float = 1.0
    skip_errors: bool = False

    def on_own_grid(self) -> "StripSource":
        """Return the same scene on the grid of its file."""
        return replace(self, scale=1.0)

    def open(self) -> Raster:
        """Open the raster.

        Raises:
            RasterError: see ``Raster``.
        """
        kind = SalvagedRaster if self.skip_errors else Raster
        return kind(
            self.path, bands=self.bands, black_is_nodata=self.black_is_nodata, scale=self.scale
        )


@dataclass(frozen=True)
class Task:
    """All that decides a scene's stored probabilities, but the network.

    Attributes:
        source: the scene.
        table: from its stored values to the network's input.
        tiling: tiles, overlap and batch.
        dtype: of the stored probabilities, one of ``STORAGES``.
    """

    source: StripSource
    table: PixelMap
    tiling: Tiling
    dtype: str


@dataclass(frozen=True)
class Strip:
    """A finished strip.

    Attributes:
        index: of the strip.
        packed: its stored probabilities, as ``pack`` made them.
        pixels: how many they are.
        damaged: windows of the scene that could not be read for it.
    """

    index: int
    packed: bytes
    pixels: int
    damaged: tuple[Window, ...]


class Workers(Protocol):
    """Who predicts strips."""

    def predict(self, task: Task, missing: Sequence[range]) -> Iterator[Strip]:
        """Yield the strips of some runs of consecutive ones, in any order."""


@dataclass(frozen=True)
class ThisProcess:
    """Predicts strips here, one after another.

    Attributes:
        network: gives logits of normalised images.
    """

    network: Network

    def predict(self, task: Task, missing: Sequence[range]) -> Iterator[Strip]:
        """Yield the strips of some runs, from top to bottom."""
        for strips in missing:
            yield from predict_strips(self.network, task, strips)


def predict_strips(network: Network, task: Task, strips: range) -> Iterator[Strip]:
    """Predict consecutive strips of a scene; a thread packs one while the next is predicted.

    Raises:
        RasterError: the scene cannot be read.
        ModelFileError: the network gives something else than one finite logit a pixel.
    """
    waiting: Future[Strip] | None = None
    if isinstance(network, nn.Module):
        # For good: other threads may be predicting with it, and so may its next user.
        network.eval()
    with task.source.open() as raster, ThreadPoolExecutor(1) as packer:
        grid = Grid(raster.info.height, raster.info.width, task.tiling)
        storage = STORAGES[task.dtype]
        with (
            limited_cache(_sweep_bytes(raster.info, task)),
            closing(
                predict_blocks(network, raster.read, grid, task.table, strips=strips)
            ) as blocks,
        ):
            for index in strips:
                top, bottom = grid.strip(index)
                stored = np.empty((bottom - top, grid.width), dtype=task.dtype)
                for block in islice(blocks, len(grid.cols)):
                    place = block.window._replace(row=block.window.row - top).slices
                    stored[place] = storage.encode(block.probability, block.valid)
                if waiting is not None:
                    yield waiting.result()
                waiting = packer.submit(_packed, index, stored, raster)
            if waiting is not None:
                yield waiting.result()


def _sweep_bytes(info: RasterInfo, task: Task) -> int:
    """Return how much of a scene to keep decoded: the blocks under one row of tiles."""
    rows = info.block_shape[0]
    reach = (math.ceil(task.tiling.tile / task.source.scale / rows) + 1) * rows
    row_bytes = info.width / task.source.scale * len(info.bands) * np.dtype(info.dtype).itemsize
    return max(LEAST_CACHE, round(reach * row_bytes))


def _packed(index: int, stored: NDArray[Any], raster: Raster) -> Strip:
    damaged = tuple(raster.damaged) if isinstance(raster, SalvagedRaster) else ()
    return Strip(index, pack(stored), stored.size, damaged)
