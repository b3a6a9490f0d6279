"""The cost of a prediction, estimated from one batch before it begins."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rhm.data.rasters.cog import BLOCK_PX
from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.windows import BAND_PIXELS
from rhm.inference.plan import Plan
from rhm.inference.runtime.tta import Network, averaged_over_views
from rhm.inference.tiling.storage import STORAGES
from rhm.inference.tiling.stream import network_input, probabilities
from rhm.inference.tiling.strips import sweep_bytes
from rhm.system import peak_memory_bytes

_TRACED_BYTES_PER_PIXEL = 25
"""Memory that tracing needs for a band: labels, probabilities, and the search for outlines."""

_STRIPS_IN_MEMORY = 4
"""One strip is predicted while the one before is compressed and an earlier one is unpacked, which
is there once more as bytes."""

_OVERVIEWS = 4 / 3

_SECONDS_PER_PIXEL = 0.25e-6
"""Time for everything but the network, per pixel of a scene: reading, resampling, compressing and
tracing, on one core; ``benchmarks/scaling.py cost`` measures it."""

_SECONDS_PER_SCENE = 0.2
"""Time that the smallest scene takes besides."""


@dataclass(frozen=True)
class Estimate:
    """The cost of predicting a scene on this machine.

    Attributes:
        tiles: number of tiles that the network predicts, if none of them is entirely nodata.
        seconds: time that the scene takes, most of it for these tiles.
        memory_bytes: peak memory of the process; None if the system does not report it.
        disk_bytes: maximum size of the results together with the intermediate files.
    """

    tiles: int
    seconds: float
    memory_bytes: int | None
    disk_bytes: int


class TileClock:
    """Measures how long a network takes for a tile, once for each kind of tile.

    Args:
        model: model in ``eval`` mode.
    """

    def __init__(self, model: Network) -> None:
        self._model = model
        self._known: dict[tuple[Any, ...], float] = {}

    def seconds(self, plan: Plan) -> float:
        """Return the time of a tile of a scene, in seconds.

        Raises:
            ModelFileError: the model does not return finite logits of its classes for each pixel.
        """
        tiling, bands = plan.grid.tiling, len(plan.task.table.tables)
        count = min(tiling.batch_size, len(plan.grid.cols))
        kind = tiling, count, bands
        if kind not in self._known:
            network = averaged_over_views(self._model) if tiling.views else self._model
            black = Pixels.blank(tiling.tile, tiling.tile, bands, plan.scene.dtype)
            batch = torch.stack([network_input(black, plan.task.table, tiling.tile)] * count)
            probabilities(network, batch)  # warm-up: allocates memory and selects algorithms
            begun = time.perf_counter()
            probabilities(network, batch)
            self._known[kind] = (time.perf_counter() - begun) / count
        return self._known[kind]


def estimate(clock: TileClock, plan: Plan) -> Estimate:
    """Estimate what a scene will take, without reading it.

    Args:
        clock: clock of the model.
        plan: plan of the scene.

    Raises:
        ModelFileError: the model does not return finite logits of its classes for each pixel.
    """
    grid = plan.grid
    pixels = plan.scene.height * plan.scene.width
    besides = pixels * _SECONDS_PER_PIXEL + _SECONDS_PER_SCENE
    peak = peak_memory_bytes()
    stored = len(plan.maps) * np.dtype(STORAGES[plan.config.dtype].dtype).itemsize
    rasters = (stored + 1) * pixels
    return Estimate(
        tiles=grid.tiles,
        seconds=clock.seconds(plan) * grid.tiles + besides,
        memory_bytes=None if peak is None else peak + _streamed_bytes(plan),
        disk_bytes=round(grid.height * grid.width * stored + rasters * (1 + _OVERVIEWS)),
    )


def _streamed_bytes(plan: Plan) -> int:
    """Return the memory for what is kept of a scene at a time, besides the network's tiles."""
    scene, tiling, grid = plan.scene, plan.grid.tiling, plan.grid
    stored = len(plan.maps) * np.dtype(STORAGES[plan.config.dtype].dtype).itemsize
    sums = len(plan.maps) * 2 * tiling.overlap * np.dtype(np.float32).itemsize
    strips = _STRIPS_IN_MEMORY * (tiling.tile - tiling.overlap) * stored
    # Rows of blocks of both rasters: those being written, those in GDAL's cache, and the next ones.
    written = min(BLOCK_PX, scene.height) * (3 * stored + 1)
    traced = min(scene.height * scene.width, BAND_PIXELS) * _TRACED_BYTES_PER_PIXEL
    decoded = min(
        sweep_bytes(scene, scene.width, plan.task),
        scene.height * scene.width * len(scene.bands) * np.dtype(scene.dtype).itemsize,
    )
    return grid.width * (sums + strips) + scene.width * written + traced + decoded
