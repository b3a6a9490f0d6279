"""ONNX Runtime compared with PyTorch on the CPU: time per tile, and time to build the graph.

    python benchmarks/backends.py

The benchmark runs four networks with random weights on batches of 1 and 4 tiles of 512 x 512, with
1 and 2 threads. The two runtimes take turns on the same images, which they receive in the same way
as in ``rhm predict``. *Building* is everything that ONNX Runtime needs before the first tile:
tracing the network, creating the session, and testing it. *Pays off* is the number of tiles after
which that time is recovered.
"""

import os
import statistics
import time

import torch
from machine import machine, medians_ms

from rhm.inference.runtime.backends import Backend, OnnxBackend, TorchBackend
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec

SIDE = 512
NETWORKS = (
    ("unet", "tf_efficientnet_lite0"),
    ("fpn", "resnet18"),
    ("unet", "mobilenetv3_large_100"),
    ("unet", "convnext_atto"),
)


def probabilities(network: Backend, images: torch.Tensor) -> torch.Tensor:
    """Return the probabilities that a runtime predicts."""
    with torch.inference_mode():
        return network(images.to(memory_format=torch.channels_last)).sigmoid()


def building_ms(model: SegmentationModel) -> float:
    """Return the median time in milliseconds until ONNX Runtime is ready."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        OnnxBackend(model)
        times.append(1000.0 * (time.perf_counter() - start))
    return statistics.median(times)


def measured(architecture: str, encoder: str, threads: int) -> None:
    """Print a network's rows."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = SegmentationModel(ModelSpec(architecture, encoder, 3)).eval()
    built = building_ms(model)
    runtimes = {"torch": TorchBackend(model, "cpu"), "onnx": OnnxBackend(model)}
    for count in (1, 4):
        images = torch.randn(count, 3, SIDE, SIDE)
        times = medians_ms(
            {
                name: (lambda network=network, images=images: probabilities(network, images))
                for name, network in runtimes.items()
            },
            runs=7,
        )
        ours, theirs = (probabilities(network, images) for network in runtimes.values())
        torch_ms, onnx_ms = (times[name] / count for name in ("torch", "onnx"))
        pays = f"{built / (torch_ms - onnx_ms):.0f}" if onnx_ms < torch_ms else "never"
        print(
            f"| {architecture}, {encoder} | {threads} | {count} | {torch_ms:.0f} | {onnx_ms:.0f} "
            f"| {torch_ms / onnx_ms:.2f} | {built:.0f} | {pays} "
            f"| {float((ours - theirs).abs().max()):.0e} |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    print(machine("torch", "onnxruntime", "onnx", "timm", "segmentation-models-pytorch"))
    print(f"load average of the last 15 minutes: {os.getloadavg()[2]:.1f}")
    print(
        "| network | threads | batch | torch, ms per tile | onnx, ms per tile | ratio "
        "| building, ms | pays off, tiles | largest difference |\n|" + "---|" * 9
    )
    for threads in (1, 2):
        for network in NETWORKS:
            measured(*network, threads)


if __name__ == "__main__":
    main()
