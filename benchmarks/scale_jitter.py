"""Chips at random ground sampling distances, per second of one core: three ways to read them.

    python benchmarks/scale_jitter.py

Chips of 256 pixels at 0.6 to 1.6 times the imagery's distance, log-uniform, image and mask:

    open    opens ``Raster(scale=...)`` and ``Label`` for every chip
    gdal    datasets stay open; GDAL reads each window resampled (``out_shape``)
    rhm     ``TrainingChips.read(distance=...)``: the window as it is stored, through the cache of
            decoded blocks, then resized once

The ways take turns over the same tiles and distances. Imagery: Massachusetts' crops of 500 x 500
(PNG) where the folder of RHM_DATA, or ../shared/data, has them, and four scenes of 5000 x 5000 in
the layouts of ``benchmarks/loader.py``. One process, GDAL_NUM_THREADS=1, processor time; all
pixels fit into the cache.
"""

import os

os.environ["GDAL_NUM_THREADS"] = "1"
os.environ["GDAL_CACHEMAX"] = "2048"

import itertools
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import rasterio
import torch
from loader import LAYOUTS, scene, written
from machine import machine, medians_ms
from rasterio.enums import Resampling
from rasterio.windows import Window as RasterioWindow

from rhm.augmentation.augment_config import AugmentConfig
from rhm.augmentation.geometry import ChipGeometry
from rhm.data.catalog import Catalog, Source, Tile
from rhm.data.chips import Preparation, TrainingChips
from rhm.data.radiometry import Scaling
from rhm.data.rasters.windows import random_window

SIDE, CHIPS = 256, 100
DATA = Path(os.environ.get("RHM_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
GEOMETRY = ChipGeometry(AugmentConfig(geometry={"scale": [0.6, 1.6]}).geometry)


def massachusetts() -> list[Tile]:
    """Return twenty real tiles, or none where there is no imagery."""
    folder = DATA / "massachusetts"
    images = sorted((folder / "images").glob("*.png"))[:20]
    sources = [Source(each, folder / "masks" / each.name, "m", each.stem) for each in images]
    return list(Catalog.build(sources).tiles) if sources else []


def rng_of(index: int) -> np.random.Generator:
    """Return the source of a chip's draws."""
    return np.random.default_rng([0, index])


def opened(tiles: list[Tile], index: int) -> object:
    """Open image and label at the chip's distance and read a window."""
    rng = rng_of(index)
    scale = 1.0 / GEOMETRY.distance(rng=rng)
    tile = tiles[int(rng.integers(len(tiles)))]
    with tile.open(scale) as raster, tile.open_label(raster) as label:
        window = random_window(raster.info.height, raster.info.width, SIDE, rng=rng)
        return raster.read(window), label.read(window)


def resampled(datasets: list[tuple[object, object]], tiles: list[Tile], index: int) -> object:
    """Let GDAL read a window of open datasets at the chip's distance."""
    rng = rng_of(index)
    side = round(SIDE * GEOMETRY.distance(rng=rng))
    number = int(rng.integers(len(tiles)))
    place = random_window(tiles[number].height, tiles[number].width, side, rng=rng)
    window = RasterioWindow(place.col, place.row, side, side)
    shrinking = side > SIDE
    image, label = datasets[number]
    pixels = image.read(
        window=window,
        out_shape=(3, SIDE, SIDE),
        resampling=Resampling.average if shrinking else Resampling.bilinear,
    )
    how = Resampling.mode if shrinking else Resampling.nearest
    return pixels, label.read(1, window=window, out_shape=(SIDE, SIDE), resampling=how)


def training_chips(tiles: list[Tile]) -> TrainingChips:
    """Return chips that are read at many distances; nothing else is drawn."""
    return TrainingChips(
        tiles,
        size=SIDE,
        preparation=Preparation({"uint8": Scaling("uint8", (0.0,) * 3, (255.0,) * 3).table()}),
        augmentations={},
        balance=0.0,
        seed=0,
        geometry=GEOMETRY,
    )


def chips_per_second(tiles: list[Tile]) -> dict[str, float]:
    """Measure each way."""
    chips = training_chips(tiles)

    def read(index: int) -> object:
        rng = rng_of(index)
        return chips.read(rng=rng, distance=GEOMETRY.distance(rng=rng))

    def in_turn(call: Callable[[int], object]) -> Callable[[], object]:
        indices = itertools.cycle(range(CHIPS))
        return lambda: call(next(indices))

    with ExitStack() as stack:
        datasets = [
            tuple(stack.enter_context(rasterio.open(path)) for path in (tile.image, tile.label))
            for tile in tiles
        ]
        for index in range(CHIPS):
            read(index)
            resampled(datasets, tiles, index)
        measured = medians_ms(
            {
                "open": in_turn(lambda index: opened(tiles, index)),
                "gdal": in_turn(lambda index: resampled(datasets, tiles, index)),
                "rhm": in_turn(read),
            },
            runs=CHIPS,
            clock=time.process_time,
        )
    return {name: 1000.0 / milliseconds for name, milliseconds in measured.items()}


def main() -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    gdal = f"GDAL {rasterio.__gdal_version__}"
    print(machine("numpy", "opencv-python-headless", "rasterio"), gdal, sep=", ")
    print(f"{'imagery':<22} {'open':>7} {'gdal':>7} {'rhm':>7}   chips per second of one core")

    def show(name: str, tiles: list[Tile]) -> None:
        rates = chips_per_second(tiles)
        print(f"{name:<22}", *(f"{rate:>7.0f}" for rate in rates.values()), flush=True)

    if real := massachusetts():
        show("Massachusetts, PNG", real)
    image, mask = scene()
    for layout, options in LAYOUTS.items():
        with written(image, mask, options) as tiles:
            show(f"scene, {layout}", list(tiles))


if __name__ == "__main__":
    main()
