"""A prediction by rhm with each of its runtimes, by geoai, and by TerraTorch: seconds and memory.

    python -m pip install --target PEERS geoai-py terratorch
    OMP_NUM_THREADS=1 python benchmarks/peers.py --peers PEERS
    OMP_NUM_THREADS=1 python benchmarks/peers.py --peers PEERS --model MODEL --scene scene.tif

All predict the same scene with the same weights. Every candidate is a process of its own, which
predicts the scene once to warm up; a second time is measured. The candidates take turns, five times
each. *Peak* is the largest resident memory of the process. *Difference* is the mean difference
between the probabilities and those of rhm with PyTorch.

For 8-bit integers, the model is calibrated on the scene, in the same process, which takes the peak
of the memory; what that costs in IoU is not checked. Without a model, the weights are random, and
these probabilities mean nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from machine import machine
from prediction import USUAL, render, untrained
from rasterio.windows import Window
from torch import nn

from rhm.inference import network_for, predict_raster
from rhm.inference.many_scenes import samples_of_scenes
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.runtime.backends import Backend, float_graph
from rhm.inference.runtime.int8_graph import ranges_of
from rhm.inference.runtime.quantization import Quantization
from rhm.inference.runtime.runtimes import runtime_of
from rhm.inference.tiling.stream import Tiling
from rhm.models.model_file import load_model
from rhm.system import peak_memory_bytes

OURS = ("torch", "onnx", "openvino", "onnx-int8", "openvino-int8")
FITTED = "openvino-int8 --fit-tiles"
PEERS = ("geoai", "terratorch")
BORDER_PX = 16
CANDIDATES = (*PEERS, *OURS, FITTED)


@dataclass(frozen=True)
class Work:
    """What a candidate predicts."""

    model: Path
    scene: Path
    folder: Path

    def network(self, runtime: str) -> Backend:
        """Return the model with a runtime, calibrated on the scene for 8-bit integers."""
        model = load_model(self.model)
        name, precision = runtime_of(runtime)
        options = {"device": "cpu", "runtime": name, "precision": precision}
        if precision == "float":
            return network_for(model, **options)
        scenes = [str(self.scene)]
        tiles = samples_of_scenes(model, scenes, self.folder, PredictionConfig())
        ranges = ranges_of(float_graph(model), (tile.image for tile in islice(tiles, 8)))
        found = Quantization("", ranges, 8, "expected", 1.0, 1.0, 1.0)  # not checked
        return network_for(model, quantization=found, **options)


def ours(work: Work, runtime: str, *, fit_tiles: bool) -> tuple[float, Path]:
    """Predict with rhm, and return the seconds of the second time and the probabilities."""
    network = work.network(runtime)
    out = work.folder / f"{runtime}{'-fitted' * fit_tiles}"
    for _ in range(2):
        begun = time.perf_counter()
        result = predict_raster(network, work.scene, out, fit_tiles=fit_tiles)
        seconds = time.perf_counter() - begun
    return seconds, result.probability


def geoai(work: Work) -> tuple[float, Path]:
    """Predict with geoai and its defaults, except for the tiling, in the same way."""
    from geoai.inference import predict_geotiff

    network, normalised, tiling = plain(work)
    target = work.folder / "geoai.tif"
    for _ in range(2):
        begun = time.perf_counter()
        predict_geotiff(
            network,
            str(work.scene),
            str(target),
            tile_size=tiling.tile,
            overlap=tiling.overlap,
            batch_size=tiling.batch_size,
            preprocess_fn=normalised,
            device="cpu",
            verbose=False,
        )
        seconds = time.perf_counter() - begun
    return seconds, target


def terratorch(work: Work) -> tuple[float, Path]:
    """Predict with TerraTorch and its defaults, except for the tiling, in the same way."""
    from terratorch.tasks.tiled_inference import tiled_inference

    network, normalised, tiling = plain(work)
    target = work.folder / "terratorch.tif"
    for _ in range(2):
        begun = time.perf_counter()
        with rasterio.open(work.scene) as raster:
            image = torch.from_numpy(np.ascontiguousarray(normalised(raster.read())))
            profile = raster.profile | {"count": 1, "dtype": "float32", "nodata": None}
        probability = tiled_inference(
            network,
            image[None],
            crop=tiling.tile,
            stride=tiling.tile - tiling.overlap,
            batch_size=tiling.batch_size,
        )
        with rasterio.open(target, "w", **profile) as raster:
            raster.write(probability[0].numpy())
        seconds = time.perf_counter() - begun
    return seconds, target


def plain(work: Work) -> tuple[nn.Module, Callable[[np.ndarray], np.ndarray], Tiling]:
    """Return a network of probabilities, the normalisation of (bands, H, W), and the tiling."""
    model = load_model(work.model).to(memory_format=torch.channels_last)
    with rasterio.open(work.scene) as raster:
        table = model.spec.input_table(raster.dtypes[0])

    def normalised(image: np.ndarray) -> np.ndarray:
        pixels = np.ascontiguousarray(np.moveaxis(image.astype(np.uint8), 0, -1))
        return np.moveaxis(table.apply(pixels), -1, 0)

    return nn.Sequential(model, nn.Sigmoid()).eval(), normalised, Tiling()


def candidate(name: str, work: Work) -> None:
    """Predict, and print what was measured as JSON."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if name in PEERS:
        seconds, path = {"geoai": geoai, "terratorch": terratorch}[name](work)
    else:
        seconds, path = ours(work, name.partition(" ")[0], fit_tiles=name == FITTED)
    print(json.dumps({"seconds": seconds, "peak": peak_memory_bytes(), "path": str(path)}))


def border(scene: Path) -> Path:
    """Make the last columns of a scene without nodata nodata, and return its path."""
    with rasterio.open(scene, "r+") as raster:
        raster.nodata = 0
        window = Window(raster.width - BORDER_PX, 0, BORDER_PX, raster.height)
        raster.write(np.zeros((raster.count, raster.height, BORDER_PX), np.uint8), window=window)
    return scene


def differences(path: str, expected: str, scene: Path) -> tuple[float, float, float]:
    """Return the mean difference, the share of other masks, and that of nodata predicted."""
    with rasterio.open(path) as first, rasterio.open(expected) as second:
        ours, theirs = first.read(1, masked=True), second.read(1, masked=True)
    with rasterio.open(scene) as raster:
        nodata = raster.dataset_mask() == 0
    known = ~np.ma.getmaskarray(theirs) & ~np.ma.getmaskarray(ours)
    apart = np.abs(ours.data - theirs.data)[known].mean()
    other = ((ours.data > 0.5) != (theirs.data > 0.5))[known].mean()
    over = (~np.ma.getmaskarray(ours))[nodata].mean() if nodata.any() else np.nan
    return float(apart), float(other), float(over)


def median(results: list[dict[str, Any]], what: str) -> float:
    """Return the median of a measurement."""
    return statistics.median(float(each[what]) for each in results)


def compared(work: Work, runs: int, peers: Path | None, chosen: Sequence[str]) -> None:
    """Print the table."""
    names = [name for name in chosen if name not in PEERS or peers is not None]
    # The others are compared with its probabilities.
    names += ["torch"] if "torch" not in names else []
    paths = filter(None, [os.environ.get("PYTHONPATH"), str(peers) if peers else None])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "CI": "1"}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(runs):
        for name in names:
            words = ["--candidate", name, "--model", work.model, "--scene", work.scene]
            words += ["--work", work.folder]
            done = subprocess.run(
                [sys.executable, __file__, *map(str, words)],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    base = names[0]
    columns = f"seconds | times as fast as {base} | peak, MB | difference | other mask"
    print(f"| | {columns} | nodata predicted |\n|---|---|---|---|---|---|---|")
    seconds = {
        name: statistics.median(float(each["seconds"]) for each in found[name]) for name in names
    }
    for name in names:
        ratio = seconds[base] / seconds[name]
        peak = median(found[name], "peak") / 1e6
        paths_of = [str(found[each][0]["path"]) for each in (name, "torch")]
        off, other, over = differences(paths_of[0], paths_of[1], work.scene)
        who = name if name in PEERS else f"rhm, {name}"
        speed = f"{seconds[name]:.1f} | {ratio:.2f} | {peak:.0f}"
        # Tensors have no nodata.
        nodata = "" if name == "terratorch" else f"{over:.0%}"
        print(f"| {who} | {speed} | {off:.1e} | {other:.2%} | {nodata} |")


def main() -> None:
    """Compare the candidates, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, help="folder that the others are installed in")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--side", type=int, default=2_752)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES))
    parser.add_argument("--candidate", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.candidate:
        candidate(asked.candidate, Work(asked.model, asked.scene, asked.work))
        return
    print(machine("torch", "onnxruntime", "openvino", "rasterio", "timm"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = asked.model or untrained(folder, USUAL)
        scene = asked.scene or border(render(folder / "scene.tif", asked.side))
        compared(Work(model, scene, folder), asked.runs, asked.peers, asked.only)


if __name__ == "__main__":
    main()
