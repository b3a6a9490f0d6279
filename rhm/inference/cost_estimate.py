"""The cost of a prediction, estimated from one batch before it begins."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from rhm.data.rasters.pixels import Pixels
from rhm.inference.plan import Plan
from rhm.inference.polygons import BAND_PIXELS
from rhm.inference.runtime.tta import Network, averaged_over_views
from rhm.inference.tiling.storage import STORAGES
from rhm.inference.tiling.stream import network_input, probabilities
from rhm.system import peak_memory_bytes

_TRACED_BYTES_PER_PIXEL = 25
"""Memory that tracing needs for a band: labels, probabilities, and the search for outlines."""

_OVERVIEWS = 4 / 3


@dataclass(frozen=True)
class Estimate:
    """The cost of predicting a scene on this machine.

    Attributes:
        tiles: number of tiles that the network predicts, if none of them is entirely nodata.
        seconds: time that these tiles take.
        memory_bytes: peak memory of the process; None if the system does not report it.
        disk_bytes: maximum size of the results together with the intermediate files.
    """

    tiles: int
    seconds: float
    memory_bytes: int | None
    disk_bytes: int


def estimate(model: Network, plan: Plan) -> Estimate:
    """Predict one batch and estimate what the complete scene will take.

    Args:
        model: model in ``eval`` mode.
        plan: plan of the scene.

    Raises:
        ModelFileError: the model does not return one finite logit per pixel.
    """
    grid, tiling = plan.grid, plan.grid.tiling
    network = averaged_over_views(model) if tiling.views else model
    tiles = len(grid.rows) * len(grid.cols)
    bands = len(plan.task.table.tables)
    black = Pixels.blank(tiling.tile, tiling.tile, bands, plan.scene.dtype)
    image = network_input(black, plan.task.table, tiling.tile)
    batch = torch.stack([image] * min(tiling.batch_size, len(grid.cols)))
    probabilities(network, batch)  # warm-up: allocates memory and selects algorithms
    begun = time.perf_counter()
    probabilities(network, batch)
    seconds = (time.perf_counter() - begun) / len(batch) * tiles
    pixels = plan.scene.height * plan.scene.width
    stored = np.dtype(STORAGES[plan.config.dtype].dtype).itemsize
    rasters = (stored + 1) * pixels
    peak = peak_memory_bytes()
    return Estimate(
        tiles=tiles,
        seconds=seconds,
        memory_bytes=(
            None if peak is None else peak + min(pixels, BAND_PIXELS) * _TRACED_BYTES_PER_PIXEL
        ),
        disk_bytes=round(grid.height * grid.width * stored + rasters * (1 + _OVERVIEWS)),
    )
