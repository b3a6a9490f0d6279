"""Crops of large scenes per second and core: as typical scripts read them, and as rhm does.

    python benchmarks/loader.py

Four scenes of 5000 x 5000 x 3 uint8 with masks of the same size, as in the Inria dataset, are
written to a temporary folder in one file layout after another. One process with GDAL_NUM_THREADS=1
reads the same random windows of image and mask in different ways, which take turns:

    open-read-close   opens both files with rasterio for every crop, as most scripts do
    bound             only ``dataset.read(window)``, with datasets that are already open
    rhm               what ``TrainingChips`` reads: it chooses a tile and a window, such that half
                      of them show a building, and reads image, mask and validity
    whole sample      the same with flips, normalisation and tensors: ``TrainingChips[index]``

All of them have the same limit for decoded pixels (GDAL_CACHEMAX): first one that all scenes fit
into, then one that they do not fit into. Every crop is timed separately and the methods take turns,
so that cached pixels are no closer than in training. ``bound`` and ``rhm`` each follow the method
that runs the same code.
"""

import os

os.environ["GDAL_NUM_THREADS"] = "1"
os.environ["GDAL_CACHEMAX"] = "2048"

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import numpy as np
import rasterio
import torch
from machine import machine, medians_ms
from rasterio.env import set_gdal_config
from rasterio.transform import Affine
from rasterio.windows import Window as RasterioWindow

from rhm.augmentation.augment_config import AugmentConfig
from rhm.augmentation.chip_augmentation import ChipAugmentation
from rhm.data.catalog import Catalog, Source, Tile
from rhm.data.chips import Preparation, TrainingChips
from rhm.data.footprints import burn
from rhm.data.radiometry import Scaling
from rhm.synthetic.render import render
from rhm.synthetic.town import TOWNS
from rhm.synthetic.town_plan import lay_out
from rhm.synthetic.world import SENSORS

SIDE_PX, GSD_M, SCENES = 5000, 0.3, 4
CROPS = 200
LITTLE_MB = 64

TILES = {"tiled": True, "blockxsize": 256, "blockysize": 256}
LAYOUTS = {
    f"{shape} {compress or 'plain'}": options | ({"compress": compress} if compress else {})
    for shape, options in (("striped", {}), ("tiled", TILES))
    for compress in (None, "lzw", "deflate")
}


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Return an image of a synthetic town and its building mask (0 and 255)."""
    rng = np.random.default_rng(0)
    side = SIDE_PX // 2
    layout = lay_out(TOWNS["alder"], (side * GSD_M, side * GSD_M), rng=rng)
    view = render(TOWNS["alder"], layout, (side, side), GSD_M, rng=rng)
    image = SENSORS["aerial"].see(view, rng=rng)
    footprints = [building.footprint for building in layout.buildings]
    mask = 255 * burn(footprints, Affine.scale(GSD_M), side, side)

    def four(quarter: np.ndarray) -> np.ndarray:
        a, b, c, d = (np.rot90(quarter, turn) for turn in range(4))
        return np.vstack([np.hstack([a, b]), np.hstack([c, d])])

    return four(image), four(mask)


def write(path: Path, pixels: np.ndarray, **layout: object) -> None:
    """Write (H, W) or (H, W, bands) as a GeoTIFF with pixel-interleaved bands."""
    bands = pixels.reshape(*pixels.shape[:2], -1)
    height, width, count = bands.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype="uint8",
        crs="EPSG:32633", transform=Affine(GSD_M, 0, 5e5, 0, -GSD_M, 5e6), interleave="pixel",
        **layout,
    ) as dataset:  # fmt: skip
        dataset.write(np.moveaxis(bands, -1, 0))


@contextmanager
def written(image: np.ndarray, mask: np.ndarray, layout: dict[str, object]) -> Iterator[list[Tile]]:
    """Yield catalogued scenes with different rotations; they are removed afterwards."""
    with tempfile.TemporaryDirectory() as name:
        sources = []
        for turn in range(SCENES):
            paths = Path(name) / f"image{turn}.tif", Path(name) / f"mask{turn}.tif"
            for path, pixels in zip(paths, (image, mask), strict=True):
                write(path, np.rot90(pixels, turn), **layout)
            sources.append(Source(*paths, "town", str(turn)))
        yield Catalog.build(sources).tiles


def training_chips(tiles: list[Tile], size: int) -> TrainingChips:
    """Return chips that are flipped, rotated and normalised."""
    scaling = Scaling.of_bytes(3)
    table = scaling.table()
    augmentation = ChipAugmentation(
        AugmentConfig(), dtype=np.dtype(np.uint8), low=scaling.low, high=scaling.high
    )
    return TrainingChips(
        tiles,
        size=size,
        preparation=Preparation(lambda dtype, scene: table),
        augmentations={"uint8": augmentation},
        balance=0.5,
        seed=0,
    )


def rng_of(index: int) -> np.random.Generator:
    """Return the random generator of a sample, as ``TrainingChips`` creates it."""
    return np.random.default_rng([0, index])


def open_read_close(tile: Tile, window: RasterioWindow) -> tuple[np.ndarray, np.ndarray]:
    """Read image and mask as a typical script does."""
    with rasterio.open(tile.image) as image:
        pixels = image.read(window=window)
    with rasterio.open(tile.label) as label:
        return pixels, label.read(1, window=window)


def in_turn(read: Callable[[int], object]) -> Callable[[], object]:
    """Return a function that reads the next crop whenever it is called."""
    indices = itertools.cycle(range(CROPS))
    return lambda: read(next(indices))


def crops_per_second(tiles: list[Tile], size: int) -> dict[str, float]:
    """Measure each way of reading crops of ``size`` pixels."""
    chips, whole = training_chips(tiles, size), training_chips(tiles, size)
    drawn = [chips.draw(rng=rng_of(index))[:2] for index in range(CROPS)]
    windows = [RasterioWindow(w.col, w.row, w.width, w.height) for _, w in drawn]
    with ExitStack() as stack:
        datasets = [
            tuple(stack.enter_context(rasterio.open(path)) for path in (tile.image, tile.label))
            for tile in tiles
        ]

        def bound(index: int) -> tuple[np.ndarray, np.ndarray]:
            image, label = datasets[drawn[index][0]]
            return image.read(window=windows[index]), label.read(1, window=windows[index])

        for index in range(CROPS):
            pixels, truth = bound(index)
            _, ours, mask = chips.read(rng=rng_of(index))
            np.testing.assert_array_equal(np.moveaxis(pixels, 0, -1), ours.values)
            np.testing.assert_array_equal(truth == 255, mask == 1)
            assert ours.valid.all()
            assert whole[index]["image"].shape == (3, size, size)
        measured = medians_ms(
            {
                "open-read-close": in_turn(
                    lambda index: open_read_close(tiles[drawn[index][0]], windows[index])
                ),
                "bound": in_turn(bound),
                "whole sample": in_turn(lambda index: whole[index]),
                "rhm": in_turn(lambda index: chips.read(rng=rng_of(index))),
            },
            runs=CROPS,
        )
    return {name: 1000.0 / milliseconds for name, milliseconds in measured.items()}


def main() -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    image, mask = scene()
    print(machine("numpy", "rasterio", "torch"), f"GDAL {rasterio.__gdal_version__}", sep=", ")
    print("crops per second and core", "", sep="\n")
    names = ("open-read-close", "bound", "rhm", "whole sample")
    print(f"{'layout':<16} {'side':>4} {'memory':>8}", *(f"{name:>15}" for name in names), end=" ")
    print("rhm / open-read-close", "rhm / bound")
    for layout, options in LAYOUTS.items():
        with written(image, mask, options) as tiles:
            for size, limit_mb in ((256, 2048), (512, 2048), (256, LITTLE_MB)):
                set_gdal_config("GDAL_CACHEMAX", limit_mb << 20)
                rates = crops_per_second(tiles, size)
                print(f"{layout:<16} {size:>4} {limit_mb:>5} MB", end=" ")
                print(*(f"{rates[name]:>15.0f}" for name in names), end=" ")
                print(f"{rates['rhm'] / rates['open-read-close']:>21.1f}", end=" ")
                print(f"{rates['rhm'] / rates['bound']:>11.2f}", flush=True)


if __name__ == "__main__":
    main()
