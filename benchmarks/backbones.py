"""What encoders cost on one thread, compared with the default network.

    python benchmarks/backbones.py [ARCHITECTURE:ENCODER ...]

The weights are random, because their values make no difference. *Prediction* is one tile of
3 x 512 x 512 pixels, and *training* one step on two chips of 3 x 256 x 256 pixels with AdamW. Times
are seconds of the processor, medians of three runs after a first one. Memory is the growth of the
process, including the weights and, in training, the gradients and the state of the optimiser.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from machine import machine, peak_growth_mb

from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec

NETWORKS = (
    *("unet:tf_efficientnet_lite0", "unet:mobilenetv4_conv_small", "unet:resnet18"),
    *("unet:convnext_tiny", "upernet:convnext_tiny", "segformer:pvt_v2_b0"),
    *("upernet:swin_tiny_patch4_window7_224", "upernet:sam2_hiera_tiny", "unet:maxvit_tiny_tf_512"),
    *("dpt:vit_small_patch14_dinov2", "dpt:vit_small_patch16_dinov3", "dpt:vit_base_patch16_224"),
    *("dpt:vit_base_patch16_dinov3", "dpt:vit_large_patch16_dinov3"),
)
RUNS = 3


def seconds(call: Callable[[], object]) -> float:
    """Return the median time of a call after a first one, in seconds of the processor."""
    times = []
    for _ in range(RUNS + 1):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


def predict(model: SegmentationModel) -> None:
    """Predict a tile."""
    with torch.inference_mode():
        model(torch.zeros(1, 3, 512, 512))


def step_of(model: SegmentationModel) -> Callable[[], None]:
    """Return a function that trains a model for one step."""
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        model(torch.zeros(2, 3, 256, 256)).square().mean().backward()
        optimizer.step()

    return step


def measured(network: str, what: str) -> dict[str, float]:
    """Return time, memory and parameters of a network, for prediction or training."""
    torch.set_num_threads(1)
    architecture, encoder = network.split(":")
    found: dict[str, float] = {}

    def work() -> None:
        model = SegmentationModel(ModelSpec(architecture, encoder, 3))
        model.train(what == "training").to(memory_format=torch.channels_last)
        call = step_of(model) if what == "training" else lambda: predict(model)
        found["seconds"] = seconds(call)
        found["parameters"] = sum(each.numel() for each in model.parameters()) / 1e6

    found["megabytes"] = peak_growth_mb(work)
    return found


def main() -> None:
    """Measure each network in a process of its own, and print the table."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measured(*sys.argv[2:])))
        return
    print(f"    {machine('torch', 'timm', 'segmentation-models-pytorch')}\n")
    print("| network | parameters, M | prediction, s | ratio | MB | training, s | ratio | MB |")
    print("|---|---|---|---|---|---|---|---|")
    first: list[float] = []
    for network in sys.argv[1:] or NETWORKS:
        cells, times = [network.replace(":", ", ")], []
        for what in ("prediction", "training"):
            command = [sys.executable, __file__, "--one", network, what]
            found = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
            if what == "prediction":
                cells.append(f"{found['parameters']:.3g}")
            times.append(found["seconds"])
            ratio = found["seconds"] / (first or times)[len(times) - 1]
            cells += [f"{found['seconds']:.2f}", f"{ratio:.3g}", f"{found['megabytes']:.0f}"]
        first = first or times
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
