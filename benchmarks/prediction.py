"""Memory, speed and resumption of prediction, from a file to its COGs and footprints.

    python benchmarks/prediction.py memory
    python benchmarks/prediction.py speed
    python benchmarks/prediction.py footprints
    python benchmarks/prediction.py kill

``memory`` measures the peak resident memory of the whole process on rendered scenes of increasing
size, with a light model. ``speed`` measures pixels per second end to end, compared with the same
network on tensors that are already in memory and, if geoai is installed, with geoai and the same
network. ``footprints`` measures the time that 10 000 buildings add to a prediction. ``kill`` kills
processes at random moments, resumes them, and compares the files.
"""

import argparse
import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
import torch
from machine import machine, medians_ms
from rasterio.transform import from_origin
from rasterio.windows import Window as RasterioWindow
from torch import nn

from rhm.inference import polygonize, predict_raster
from rhm.inference.tiling.stream import Grid, Tiling, probabilities
from rhm.models.build import SegmentationModel
from rhm.models.model_file import load_model, save_model
from rhm.models.spec import ModelSpec

SIDES = (6_000, 30_000)
LIGHT = "mobilenetv3_small_050"
USUAL = "tf_efficientnet_lite0"
TOWN_SIDE, HOUSES = 8_192, 40  # a block
KILLS = 20

PREDICT = """
import sys
from rhm.inference import predict_raster
from rhm.inference.polygons import PolygonConfig
from rhm.models.model_file import load_model
model = load_model(sys.argv[1])
def network(images):
    # Runs the model, but outputs realistic buildings: an untrained model predicts countless ones.
    return 1e-3 * model(images) + 20.0 * (images.mean(1, keepdim=True) - 0.7)
predict_raster(network, sys.argv[2], sys.argv[3], dtype="uint8", resume=True,
               polygons=PolygonConfig(min_area_m2=5.0, simplify_m=0.5))
"""


def main() -> None:
    """Run the requested measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("memory", "speed", "footprints", "kill"))
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES))
    parser.add_argument("--side", type=int, default=2_752)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    print(machine("torch", "rasterio", "segmentation-models-pytorch", "timm"))
    with tempfile.TemporaryDirectory() as folder:
        if asked.what == "memory":
            memory(Path(folder), asked.sides)
        elif asked.what == "speed":
            speed(Path(folder), asked.side, asked.runs)
        elif asked.what == "footprints":
            town(Path(folder), asked.runs)
        else:
            kill(Path(folder))


def memory(folder: Path, sides: list[int]) -> None:
    """Print the peak memory of processes that predict square scenes of these sides."""
    model = untrained(folder, LIGHT)
    print("| scene | minutes | Mpx/s | peak resident memory |\n|---|---|---|---|")
    for side in sides:
        scene = render(folder / f"{side}.tif", side)
        begun = time.perf_counter()
        with subprocess.Popen([sys.executable, "-c", PREDICT, model, scene, folder / "out"]) as run:
            _, status, usage = os.wait4(run.pid, 0)
        assert status == 0, "the prediction failed"
        seconds = time.perf_counter() - begun
        print(
            f"| {side} x {side} x 3 uint8 | {seconds / 60:.1f} | {side**2 / seconds / 1e6:.2f} "
            f"| {usage.ru_maxrss / 1024:.0f} MB |",
            flush=True,
        )
        scene.unlink()


def speed(folder: Path, side: int, runs: int) -> None:
    """Print the pixels per second of a prediction and of its network alone."""
    scene = render(folder / "scene.tif", side)
    grid = Grid(side, side, Tiling())
    tile, batch = grid.tiling.tile, grid.tiling.batch_size
    seen = len(grid.rows) * len(grid.cols) * tile**2
    network = Seeing(load_model(untrained(folder, USUAL)).to(memory_format=torch.channels_last))
    images = torch.rand(batch, 3, tile, tile).to(memory_format=torch.channels_last)
    whole, rest = divmod(len(grid.cols), batch)
    batches = [images] * whole + ([images[:rest]] if rest else [])

    def alone() -> None:
        for _ in grid.rows:
            for each in batches:
                probabilities(network, each)

    candidates = {
        "the network alone": alone,
        "rhm: file to COGs and footprints": lambda: predict_raster(
            network, scene, folder / "out", dtype="uint8"
        ),
    }
    if importlib.util.find_spec("geoai"):
        candidates["geoai: file to GeoTIFF"] = lambda: geoai(network, scene, folder / "geoai.tif")
    times = medians_ms(candidates, runs)
    print(
        f"scene of {side} x {side} pixels, of which the network sees {seen / side**2:.2f} times as "
        f"many in overlapping tiles of {tile}; {torch.get_num_threads()} threads\n"
        "| | seconds | Mpx/s through the network | relative to the network alone |\n"
        "|---|---|---|---|"
    )
    for name, ms in times.items():
        share = times["the network alone"] / ms
        print(f"| {name} | {ms / 1e3:.1f} | {seen / ms / 1e3:.3f} | {share:.1%} |")


class Seeing(nn.Module):
    """Runs a network but outputs realistic buildings: an untrained one predicts countless ones."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (N, 1, H, W) of shares (N, bands, H, W)."""
        shares = images.mean(1, keepdim=True)
        logits: torch.Tensor = 1e-3 * self.network(images) + 20.0 * (shares - 0.7)
        return logits


def geoai(network: nn.Module, scene: Path, target: Path) -> None:
    """Predict a scene with geoai and its defaults, except for the tiling."""
    from geoai.inference import predict_geotiff

    tiling = Tiling()
    predict_geotiff(
        nn.Sequential(network, nn.Sigmoid()),
        str(scene),
        str(target),
        tile_size=tiling.tile,
        overlap=tiling.overlap,
        batch_size=tiling.batch_size,
        device="cpu",
        verbose=False,
    )


def town(folder: Path, runs: int) -> None:
    """Print the time for footprints, as a share of the prediction of a town."""
    scene = render(folder / "town.tif", TOWN_SIDE, houses=HOUSES)
    network = load_model(untrained(folder, USUAL)).to(memory_format=torch.channels_last)
    begun = time.perf_counter()
    result = predict_raster(Seeing(network), scene, folder / "out", dtype="uint8")
    seconds = time.perf_counter() - begun
    ways = {
        "as traced": {},
        "simplified": {"simplify_m": 0.5},
        "regularised": {"regularize_m": 0.75},
        "split": {"split_m": 3.0},
    }
    times = medians_ms(
        {name: partial(polygonize, result.probability, **way) for name, way in ways.items()}, runs
    )
    print(
        f"{result.count} buildings on {TOWN_SIDE} x {TOWN_SIDE} pixels, predicted in {seconds:.0f} "
        f"s; {torch.get_num_threads()} threads\n"
        "| footprints | seconds | share of the prediction time |\n|---|---|---|"
    )
    for name, ms in times.items():
        print(f"| {name} | {ms / 1e3:.2f} | {ms / 1e3 / seconds:.1%} |")


def kill(folder: Path) -> None:
    """Print whether predictions that are killed and resumed give the same files."""
    model, scene = untrained(folder, LIGHT), render(folder / "scene.tif", 4_000)
    command = [sys.executable, "-c", PREDICT, str(model), str(scene)]
    begun = time.perf_counter()
    subprocess.run([*command, str(folder / "whole")], check=True)
    seconds = time.perf_counter() - begun
    expected = digests(folder / "whole")
    rng = np.random.default_rng(0)
    kills = same = 0
    for attempt in range(KILLS):
        out = folder / f"killed{attempt}"
        with subprocess.Popen([*command, str(out)]) as run:
            try:
                run.wait(rng.uniform(0.2, 1.0) * seconds)
            except subprocess.TimeoutExpired:
                run.send_signal(signal.SIGKILL)
                kills += 1
        subprocess.run([*command, str(out)], check=True)
        same += digests(out) == expected
    print(
        f"{kills} of {KILLS} predictions were killed at a random moment of {seconds:.0f} s; after "
        f"resuming, {same} of {KILLS} gave the same files, byte for byte, as an uninterrupted run"
    )


def digests(folder: Path) -> dict[str, str]:
    """Return a hash of every file in a folder, including hidden files."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def untrained(folder: Path, encoder: str) -> Path:
    """Write a U-Net with random weights and return its path."""
    torch.manual_seed(0)
    path = folder / f"{encoder}.safetensors"
    save_model(SegmentationModel(ModelSpec("unet", encoder, bands=3)), path)
    return path


def render(path: Path, side: int, houses: int = 12) -> Path:
    """Write a scene of bright buildings on noisy ground, block by block; return its path."""
    rng = np.random.default_rng(0)
    ground = rng.integers(40, 120, (512, 512, 3), dtype=np.uint8)
    places = np.stack(np.divmod(rng.permutation(12 * 12)[:houses], 12), axis=1) * 42
    for row, col in places + rng.integers(2, 10, (houses, 2)):
        ground[row : row + 24, col : col + 32] = 220
    block = np.moveaxis(ground, -1, 0)
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8"}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    place = {"crs": "EPSG:32633", "transform": from_origin(5e5, 5e6, 0.3, 0.3)}
    with rasterio.open(path, "w", **profile, **layout, **place, bigtiff="if_safer") as raster:
        for row in range(0, side, 512):
            for col in range(0, side, 512):
                height, width = min(512, side - row), min(512, side - col)
                window = RasterioWindow(col, row, width, height)
                raster.write(block[:, :height, :width], window=window)
    return path


if __name__ == "__main__":
    main()
