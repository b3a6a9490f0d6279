"""The parts of a country: a million images in a catalog, ten thousand scenes, and their price.

    python benchmarks/scaling.py catalog
    python benchmarks/scaling.py start
    python benchmarks/scaling.py scenes
    python benchmarks/scaling.py cost

``catalog`` opens some thousand small images, and then repeats their rows until the table has as
many as asked for. ``start`` does what every training does before its first step, with chips of
eight bands of 11 bits. ``scenes`` sends small scenes through one Dask scheduler with a network that
takes next to no time, so that what is left is what each scene costs besides. ``cost`` predicts one
scene with the starter model by every runtime that is installed. ``merging.py`` has the rest.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import rasterio
import shapely
import torch
from machine import machine
from numpy.typing import NDArray
from rasterio.transform import from_origin
from torch import Tensor, nn

from rhm.data.catalog import Catalog
from rhm.data.sources import Source
from rhm.inference import network_for
from rhm.inference.many_scenes import predict_scenes
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.runtime.runtimes import RUNTIMES
from rhm.inference.runtime.tta import Network
from rhm.inference.scenes import predict_scene
from rhm.inference.tiling.dask_cluster import DaskCluster
from rhm.inference.tiling.workers import LocalProcesses, ModelSource
from rhm.models.build import SegmentationModel
from rhm.models.model_file import load_model, save_model
from rhm.models.spec import ModelSpec
from rhm.synthetic.world import write_sample_world
from rhm.system import peak_memory_bytes
from rhm.training.config import parse_config
from rhm.training.imagery import gather

UTM = "EPSG:32633"
KM2_PIXELS = 1e6
EAST, NORTH = 300_000.0, 6_000_000.0
START_PX, START_FILES = 256, 100
"""Side of the chips of ``start`` in pixels, and how many of them are different."""


def main() -> None:
    """Measure one part, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts: dict[str, Callable[[argparse.Namespace, Path], None]] = {
        "catalog": of_catalog,
        "start": of_start,
        "scenes": of_scenes,
        "cost": of_cost,
    }
    parser.add_argument("part", choices=list(parts))
    parser.add_argument("--images", type=int, default=4000, help="images that are opened")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the catalog")
    parser.add_argument("--scenes", type=int, default=10_000, help="scenes of the scheduler")
    parser.add_argument("--side", type=int, default=128, help="side of these scenes in pixels")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--scene", type=Path, help="scene to predict; default: a synthetic one")
    parser.add_argument("--gsd-m", type=float, default=0.5, help="metres per pixel of the country")
    parser.add_argument("--euros", type=float, default=0.04, help="price of a core for an hour")
    asked = parser.parse_args()
    print(machine("geopandas", "rasterio", "torch"), end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        parts[asked.part](asked, Path(folder))


def of_catalog(asked: argparse.Namespace, folder: Path) -> None:
    """Index images, and time what is done with a large catalog."""
    sources = []
    for number in range(asked.images):
        path = folder / f"{number:06}.tif"
        write_image(path, 64, number)
        sources.append(Source(path, None, "country", f"{number // 100}"))
    print("| step | images | seconds | CPU seconds | images a CPU second |\n|---|---|---|---|---|")
    for workers in asked.workers:
        with timed(f"index, {workers} processes", asked.images):
            catalog = Catalog.build(sources, workers=workers)
    large = repeated(catalog, asked.rows, folder)
    path = folder / "large.parquet"
    with timed("save", asked.rows):
        large.save(path)
    del large, catalog
    with timed("load and check", asked.rows):
        large = Catalog.load(path)
    with timed("choose a domain", asked.rows):
        large.select(domains=["region 7"])
    with timed("assign splits by group", asked.rows):
        large.assign_splits({"val": 0.1, "test": 0.1})
    size = path.stat().st_size / 1e6
    print(f"\n{size:.0f} MB on disk, {(peak_memory_bytes() or 0) / 1e9:.1f} GB at the peak")


def of_start(asked: argparse.Namespace, folder: Path) -> None:
    """Count the chips of a training, without and with a bank of these chips."""
    rng = np.random.default_rng(0)
    grey = rng.gamma(4.0, 100.0, (8, START_PX, START_PX))
    sources = []
    for number in range(asked.images):
        image, label = folder / f"{number:06}.tif", folder / f"{number:06}-mask.tif"
        if number < START_FILES:
            pixels = np.roll(grey, number, axis=1) * rng.uniform(0.5, 1.5)
            write_bands(image, np.clip(pixels, 1, 2047).astype(np.uint16), number)
            write_bands(label, np.eye(START_PX, dtype=np.uint8)[None], number)
        else:
            # Another name of the same file takes no space.
            for path in (image, label):
                os.link(path.with_name(f"{number % START_FILES:06}{path.name[6:]}"), path)
        sources.append(Source(image, label, f"region {number % 5}", f"{number:06}", "train"))
    path = folder / "catalog.parquet"
    Catalog.build(sources, workers=max(asked.workers)).save(path)
    print("| step | images | seconds | CPU seconds | images a CPU second | MB more |")
    print("|---|---|---|---|---|---|")
    for augment in ({}, {"colour": "rhm", "bank": "sources"}):
        tree = {"name": "start", "data": {"catalog": str(path)}, "augment": augment}
        config = parse_config(tree)
        with timed(f"gather, {augment.get('bank', 'no bank')}", asked.images, memory=True):
            gather(config)


def repeated(catalog: Catalog, rows: int, folder: Path) -> Catalog:
    """Return a catalog with as many rows, each with a path, a place and a group of its own."""
    copies = -(-rows // len(catalog))
    frame = pandas.concat([catalog.frame] * copies, ignore_index=True).iloc[:rows].copy()
    numbers = np.arange(len(frame))
    frame["image"] = [str(folder / "images" / f"{number:08}.tif") for number in numbers]
    frame["domain"] = [f"region {number % 50}" for number in numbers]
    frame["group"] = [f"{number // 100}" for number in numbers]
    outlines = frame.geometry.to_numpy().copy()
    shifts = np.repeat(1e-6 * (numbers // len(catalog)), shapely.get_num_coordinates(outlines))
    moved = shapely.set_coordinates(outlines, shapely.get_coordinates(outlines) + shifts[:, None])
    return Catalog(geopandas.GeoDataFrame(frame, geometry=moved, crs=catalog.frame.crs))


@contextmanager
def timed(step: str, images: int, *, memory: bool = False) -> Iterator[None]:
    """Print a row of the table, with what the step adds to the peak of memory if asked to."""
    before = peak_memory_bytes() or 0
    begun, busy_before = time.perf_counter(), processor_seconds()
    yield
    seconds, busy = time.perf_counter() - begun, processor_seconds() - busy_before
    row = f"| {step} | {images} | {seconds:.1f} | {busy:.1f} | {images / busy:.0f} |"
    more = ((peak_memory_bytes() or 0) - before) / 1e6
    print(row + f" {more:.0f} |" * memory, flush=True)


def processor_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def of_scenes(asked: argparse.Namespace, folder: Path) -> None:
    """Predict many small scenes on a scheduler on this machine."""
    scenes = []
    for number in range(asked.scenes):
        path = folder / "scenes" / f"{number:06}.tif"
        path.parent.mkdir(exist_ok=True)
        write_image(path, asked.side, number)
        scenes.append(path)
    model = SegmentationModel(ModelSpec("unet", "test_efficientnet", 3, gsd_m=0.5)).eval()
    file = folder / "quick.safetensors"
    save_model(model, file)
    loaded = load_model(file)
    config = PredictionConfig(tile=128, overlap=32)
    source = ModelSource.of(file, None, "cpu", "torch", None)

    def dask(count: int) -> DaskCluster:
        return DaskCluster(source, "local", count=count)

    print("| way | scenes | seconds | CPU seconds | CPU ms a scene | failed | peak MB here |")
    print("|---|---|---|---|---|---|---|")
    few = scenes[: max(1, len(scenes) // 10)]
    ways: list[tuple[str, int, Callable[[int], Any], list[Path]]] = [
        ("here", 0, lambda _: nullcontext(), few)
    ]
    for count in asked.workers:
        ways += [
            (f"{count} processes", count, partial(LocalProcesses, source), few),
            (f"Dask, {count} workers", count, dask, scenes),
        ]
    for way, count, start, some in ways:
        begun, busy_before = time.perf_counter(), processor_seconds()
        with start(count) as workers:
            results = predict_scenes(
                loaded, some, folder / way, config, workers=workers, side_by_side=count + 1
            )
        seconds, busy = time.perf_counter() - begun, processor_seconds() - busy_before
        failed = sum(result.error is not None for result in results)
        peak = (peak_memory_bytes() or 0) / 1e6
        times = f"{seconds:.0f} | {busy:.0f} | {1000 * busy / len(some):.0f}"
        print(f"| {way} | {len(some)} | {times} | {failed} | {peak:.0f} |", flush=True)


def of_cost(asked: argparse.Namespace, folder: Path) -> None:
    """Predict one scene by every runtime, and tell what a country costs at this speed."""
    path = asked.scene
    if path is None:
        write_sample_world(folder, tiles_per_domain=36, scene_size=1536)
        (path,) = (folder / "scenes").glob("*.tif")
    with rasterio.open(path) as scene:
        pixels = scene.width * scene.height
        read = path.stat().st_size
    model = load_model("starter")
    country = 1000 * KM2_PIXELS / asked.gsd_m**2
    print(
        "| runtime | CPU seconds per Mpx | hours of a core for 1000 km2 | euros | GB read "
        "| GB written |"
    )
    print("|---|---|---|---|---|---|")
    config = PredictionConfig(fit_tiles=True, resample=False, dtype="uint8")
    here = [name for name, each in RUNTIMES.items() if each.installed and "cpu" in each.devices]
    for name in ("no network", *here):
        network: Network = Brightness(model.spec)
        if name in RUNTIMES:
            network = network_for(model, device="cpu", runtime=name)
        begun = time.process_time()
        predict_scene(network, path, folder / name, config)
        seconds = (time.process_time() - begun) / pixels
        written = sum(file.stat().st_size for file in (folder / name).iterdir())
        hours = seconds * country / 3600
        print(
            f"| {name} | {seconds * 1e6:.2f} | {hours:.2f} | {hours * asked.euros:.2f} "
            f"| {read / pixels * country / 1e9:.1f} | {written / pixels * country / 1e9:.2f} |",
            flush=True,
        )


class Brightness(nn.Module):
    """Takes bright pixels for buildings, so that all that is left of the work is around it."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.slope = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, 1, H, W) of images (N, 3, H, W)."""
        return self.slope * (images.mean(dim=1, keepdim=True) - 1.0)


def write_image(path: Path, side: int, number: int) -> None:
    """Write an image of noise with houses, at a place of its own."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(60, 90, (3, side, side), dtype=np.uint8)
    for _ in range(side // 32):
        row, col = rng.integers(0, side - 12, 2)
        pixels[:, row : row + 12, col : col + 12] = rng.integers(120, 250)
    write_bands(path, pixels, number)


def write_bands(path: Path, pixels: NDArray[Any], number: int) -> None:
    """Write pixels (C, side, side) as an image at a place of its own."""
    count, side, _ = pixels.shape
    transform = from_origin(
        EAST + side * (number % 1000), NORTH - side * (number // 1000), 0.5, 0.5
    )
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=count, dtype=pixels.dtype,
        crs=UTM, transform=transform, tiled=True, blockxsize=256, blockysize=256,
        compress="deflate",
    ) as raster:  # fmt: skip
        raster.write(pixels)


if __name__ == "__main__":
    main()
