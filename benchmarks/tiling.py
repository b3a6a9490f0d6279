"""How much the tiles of a prediction cost, and how much they change it.

    OMP_NUM_THREADS=1 python benchmarks/tiling.py MODEL IMAGE...

Of every image, the largest square whose side is a multiple of 32 is predicted as a whole, and a
tile in its middle is predicted alone. The table gives the largest difference between both
probabilities at pixels that are at least so far from the edge of the tile, for a tile that begins
at a multiple of 32 pixels of the image, and for one that does not.
"""

import argparse

import numpy as np
import torch
from machine import machine

from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import Window
from rhm.inference import network_for
from rhm.inference.tiling.stream import network_input, probabilities
from rhm.models.model_file import load_model

STRIDE, TILE, MOST = 32, 512, 1152
DISTANCES = (0, 32, 64, 96, 128, 160, 192, 224)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--runtime", default="auto")
    asked = parser.parse_args()
    network = network_for(load_model(asked.model), runtime=asked.runtime)
    print(machine("torch", "timm", "segmentation-models-pytorch"), network.runtime)
    print(f"| image | begins at | {' | '.join(f'{each} px' for each in DISTANCES)} |")
    print("|---" * (2 + len(DISTANCES)) + "|")
    rows = np.arange(TILE)
    edge = np.minimum(rows, TILE - 1 - rows)
    distance = np.minimum(edge[:, None], edge[None, :])
    for path in asked.images:
        with Raster(path) as raster:
            side = min(raster.info.height, raster.info.width, MOST) // STRIDE * STRIDE
            if side < TILE + 2 * max(DISTANCES):
                continue
            table = network.spec.table_of(raster)
            image = network_input(raster.read(Window(0, 0, side, side)), table, side)[None]
        (whole,) = probabilities(network, image)
        first = (side - TILE) // 2 // STRIDE * STRIDE
        for begin in (first, first + 6):
            part = np.s_[begin : begin + TILE]
            tile = image[..., part, part].contiguous(memory_format=torch.channels_last)
            difference = np.abs(probabilities(network, tile)[0] - whole[part, part])
            cells = (f"{difference[distance >= each].max():.1e}" for each in DISTANCES)
            print(f"| {raster.info.path.rpartition('/')[2]} | {begin} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
