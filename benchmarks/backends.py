"""OpenVINO and ONNX Runtime compared with PyTorch on the CPU: time per tile, and time to open.

    OMP_NUM_THREADS=1 python benchmarks/backends.py
    OMP_NUM_THREADS=1 python benchmarks/backends.py --int8 --networks 1
    python benchmarks/backends.py --threads 1 2 --batches 1 4

The benchmark runs four networks with random weights on batches of tiles of 512 x 512. The runtimes
take turns on the same images, which they receive in the same way as in ``rhm predict``. *Opening*
is everything that a runtime needs before the first tile: tracing the network, compiling the graph,
and testing it. *Pays off* is the number of tiles after which that time is recovered. Where the
processor multiplies bfloat16 numbers, OpenVINO is also tried with them. With ``--int8``, both also
run the network in 8-bit integers, whose ranges come from random images.
"""

import argparse
import os
import statistics
import time
from typing import Any

import torch
from machine import machine, medians_ms

from rhm.inference import network_for
from rhm.inference.runtime.backends import Backend, float_graph
from rhm.inference.runtime.int8_graph import ranges_of
from rhm.inference.runtime.quantization import Quantization
from rhm.inference.runtime.runtimes import RUNTIMES, runtime_of
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec

SIDE = 512
NETWORKS = (
    ("unet", "tf_efficientnet_lite0"),
    ("fpn", "resnet18"),
    ("unet", "mobilenetv3_large_100"),
    ("unet", "convnext_atto"),
)
COMPARED = ("onnx", "openvino", "openvino-bfloat16")
IN_INT8 = ("onnx-int8", "openvino-int8")


def probabilities(network: Backend, images: torch.Tensor) -> torch.Tensor:
    """Return the probabilities that a runtime predicts."""
    with torch.inference_mode():
        return network(images.to(memory_format=torch.channels_last)).sigmoid()


def opened(
    runtime: str, model: SegmentationModel, ranges: dict[str, tuple[float, float]]
) -> Backend:
    """Return a model with a runtime, which may be one in 8-bit integers."""
    name, precision = runtime_of(runtime)
    quantization = None
    if precision == "int8":
        quantization = Quantization("", ranges, 1, "expected", 1.0, 1.0, 1.0)
    return network_for(
        model, device="cpu", runtime=name, precision=precision, quantization=quantization
    )


def opening_ms(runtime: str, model: SegmentationModel, ranges: dict[str, Any]) -> float:
    """Return the median time in milliseconds until a runtime has predicted a first, small tile."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        probabilities(opened(runtime, model, ranges), torch.zeros(1, 3, 64, 64))
        times.append(1000.0 * (time.perf_counter() - start))
    return statistics.median(times)


def measured(
    architecture: str, encoder: str, threads: int, batches: list[int], compared: tuple[str, ...]
) -> None:
    """Print a network's rows."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = SegmentationModel(ModelSpec(architecture, encoder, 3)).eval()
    shown = (torch.randn(1, 3, SIDE, SIDE) for _ in range(2))
    ranges = ranges_of(float_graph(model), shown) if set(IN_INT8) & set(compared) else {}
    networks = {name: opened(name, model, ranges) for name in ("torch", *compared)}
    opening = {name: opening_ms(name, model, ranges) for name in compared}
    for count in batches:
        images = torch.randn(count, 3, SIDE, SIDE)
        times = medians_ms(
            {
                name: (lambda network=network, images=images: probabilities(network, images))
                for name, network in networks.items()
            },
            runs=7,
        )
        expected = probabilities(networks["torch"], images)
        ms = {name: of_batch / count for name, of_batch in times.items()}
        for name in compared:
            saved = ms["torch"] - ms[name]
            pays = f"{opening[name] / saved:.0f}" if saved > 0 else "never"
            difference = (probabilities(networks[name], images) - expected).abs().max()
            print(
                f"| {architecture}, {encoder} | {threads} | {count} | {name} | {ms['torch']:.0f} "
                f"| {ms[name]:.0f} | {ms['torch'] / ms[name]:.2f} | {opening[name]:.0f} | {pays} "
                f"| {float(difference):.0e} |",
                flush=True,
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--batches", type=int, nargs="+", default=[1])
    parser.add_argument("--networks", type=int, default=len(NETWORKS))
    parser.add_argument("--int8", action="store_true")
    asked = parser.parse_args()
    usable = [name for name in COMPARED if RUNTIMES[name].usable]
    compared = (*usable, *(IN_INT8 if asked.int8 else ()))
    packages = ("torch", "onnxruntime", "openvino", "onnx", "timm", "segmentation-models-pytorch")
    print(machine(*packages))
    print(f"load average of the last 15 minutes: {os.getloadavg()[2]:.1f}")
    print(
        "| network | threads | batch | runtime | torch, ms per tile | runtime, ms per tile | ratio "
        "| opening, ms | pays off, tiles | largest difference |\n|" + "---|" * 10
    )
    for threads in asked.threads:
        for network in NETWORKS[: asked.networks]:
            measured(*network, threads, asked.batches, compared)


if __name__ == "__main__":
    main()
