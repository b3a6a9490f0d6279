"""What a prediction will cost, measured on one batch before it begins."""

import sys
import time
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import torch

from rhm.data.rasters.pixels import Pixels
from rhm.inference.plan import Plan
from rhm.inference.polygons import BAND_PIXELS
from rhm.inference.runtime.tta import Network, averaged_over_views
from rhm.inference.tiling.storage import STORAGES
from rhm.inference.tiling.stream import network_input, probabilities

_TRACED_BYTES_PER_PIXEL = 25
"""What tracing holds of a band: labels, probabilities, and what finding outlines takes."""

_OVERVIEWS = 4 / 3


@dataclass(frozen=True)
class Estimate:
    """What predicting a scene costs on this machine.

    Attributes:
        tiles: that the network sees, if none is without data.
        seconds: for them.
        memory_bytes: of the process at its peak; None where the system does not tell.
        disk_bytes: that the results and what is kept until they are complete take at most.
    """

    tiles: int
    seconds: float
    memory_bytes: int | None
    disk_bytes: int


def estimate(model: Network, plan: Plan) -> Estimate:
    """Predict one batch and say what all of a scene will take.

    Args:
        model: in ``eval`` mode.
        plan: of the scene.

    Raises:
        ModelFileError: the model does not give one finite logit a pixel.
    """
    grid, tiling = plan.grid, plan.grid.tiling
    network = averaged_over_views(model) if tiling.views else model
    tiles = len(grid.rows) * len(grid.cols)
    bands = len(plan.task.table.tables)
    black = Pixels.blank(tiling.tile, tiling.tile, bands, plan.scene.dtype)
    image = network_input(black, plan.task.table, tiling.tile)
    batch = torch.stack([image] * min(tiling.batch_size, len(grid.cols)))
    probabilities(network, batch)  # the first one finds room and fastest ways
    begun = time.perf_counter()
    probabilities(network, batch)
    seconds = (time.perf_counter() - begun) / len(batch) * tiles
    pixels = plan.scene.height * plan.scene.width
    stored = np.dtype(STORAGES[plan.config.dtype].dtype).itemsize
    rasters = (stored + 1) * pixels
    return Estimate(
        tiles=tiles,
        seconds=seconds,
        memory_bytes=_peak_memory(min(pixels, BAND_PIXELS) * _TRACED_BYTES_PER_PIXEL),
        disk_bytes=round(grid.height * grid.width * stored + rasters * (1 + _OVERVIEWS)),
    )


def _peak_memory(more: int) -> int | None:
    """Return this process's peak memory so far, and what will come on top, in bytes."""
    if sys.platform == "win32":
        return None
    resource = import_module("resource")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024) + more
