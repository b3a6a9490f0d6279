"""Matching a whole batch at once, compared with matching its images one after another.

    python benchmarks/batched.py

The batch has 32 images of 3 x 512 x 512 with CUDA, and 8 without. Other libraries can be compared
only on the CPU: they convert the tensors to arrays and back, as a training loop that calls them
would have to. With CUDA, the share of the module in a training step is measured as well.
"""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import statistics
from collections.abc import Callable

import albumentations as A
import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from machine import machine, medians_ms
from skimage.exposure import match_histograms

from rhm import Histogram, HistogramBank, PixelMap
from rhm.colour.batched import BatchedHistogramMatching

SIDE = 512
NORMALIZE = PixelMap.normalize((0,) * 3, (255,) * 3, np.uint8, mean=(0.5,), std=(0.5,))


def images(count: int, dtype: type, levels: int, *, seed: int) -> np.ndarray:
    """Return smooth, noisy images (count, 3, SIDE, SIDE) with different distributions."""
    rng = np.random.default_rng(seed)
    waves = np.sin(np.linspace(0, 9, SIDE))[:, None] * np.cos(np.linspace(0, 7, SIDE))
    shares = 0.4 + 0.2 * waves + rng.uniform(-0.2, 0.2, (count, 3, 1, 1))
    noise = rng.normal(0.0, 0.05, (count, 3, SIDE, SIDE))
    return (np.clip(shares + noise, 0.0, 0.999) * levels).astype(dtype)


def one_by_one(match: Callable[[np.ndarray, int], np.ndarray], batch: torch.Tensor) -> torch.Tensor:
    """Return the batch whose images were matched by ``match(image (H, W, C), number)``."""
    arrays = batch.permute(0, 2, 3, 1).contiguous().numpy()
    matched = np.stack([match(image, number) for number, image in enumerate(arrays)])
    return torch.from_numpy(matched).permute(0, 3, 1, 2).contiguous()


def on_the_cpu(count: int = 8) -> None:
    """Print the table for the CPU, single-threaded: milliseconds per image."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    references = images(4, np.uint8, 256, seed=1).transpose(0, 2, 3, 1)
    deep_references = images(4, np.uint16, 2048, seed=1).transpose(0, 2, 3, 1)
    bank, deep_bank = map(HistogramBank.from_images, (references, deep_references))
    batch = torch.from_numpy(images(count, np.uint8, 256, seed=0))
    deep = torch.from_numpy(images(count, np.uint16, 2048, seed=0))
    targets = torch.arange(count) % 4
    histograms, deep_histograms = bank.histograms, deep_bank.histograms
    module = BatchedHistogramMatching(bank)
    normalizing = BatchedHistogramMatching(bank, normalize=NORMALIZE)
    deep_module = BatchedHistogramMatching(deep_bank, levels=2048)
    theirs = A.HistogramMatching(blend_ratio=(1.0, 1.0), p=1.0, metadata_key="targets")

    def table(image: np.ndarray, target: Histogram) -> PixelMap:
        return PixelMap.matching(Histogram.of(image), target)

    loops: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
        "rhm": lambda image, n: table(image, histograms[n % 4]).apply(image),
        "scikit-image": lambda image, n: match_histograms(
            image, references[n % 4], channel_axis=-1
        ),
        "albumentations": lambda image, n: theirs(image=image, targets=[references[n % 4]])[
            "image"
        ],
    }
    candidates: dict[str, Callable[[], object]] = {
        "uint8: batched": lambda: module.match(batch, targets),
        **{
            f"uint8: loop of {name}": lambda match=match: one_by_one(match, batch)
            for name, match in loops.items()
        },
        "uint8 + normalise: batched, one table": lambda: normalizing.match(batch, targets),
        "uint8 + normalise: loop of rhm, one table": lambda: one_by_one(
            lambda image, n: table(image, histograms[n % 4]).then(NORMALIZE).apply(image), batch
        ),
        "uint16 (11 bit): batched": lambda: deep_module.match(deep, targets),
        "uint16 (11 bit): loop of rhm": lambda: one_by_one(
            lambda image, n: table(image, deep_histograms[n % 4]).apply(image), deep
        ),
        "uint16 (11 bit): loop of scikit-image": lambda: one_by_one(
            lambda image, n: match_histograms(image, deep_references[n % 4], channel_axis=-1), deep
        ),
    }
    for name in ("rhm", "scikit-image"):
        assert torch.equal(module.match(batch, targets), one_by_one(loops[name], batch))
    print(f"CPU, one thread, {count} images of 3 x {SIDE} x {SIDE}")
    for name, milliseconds in medians_ms(candidates, runs=9).items():
        print(f"{name:<52} {milliseconds / count:7.2f} ms per image")


def cuda_ms(call: Callable[[], object], runs: int = 20) -> float:
    """Return the median time between CUDA events around ``call``, in milliseconds."""
    times = []
    for run in range(runs + 5):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        if run >= 5:
            times.append(start.elapsed_time(end))
    return statistics.median(times)


def training_step(count: int) -> Callable[[], object]:
    """Return one step of a U-Net with ResNet-34 at mixed precision, on images on the GPU."""
    model = smp.Unet("resnet34", encoder_weights=None, in_channels=3, classes=1).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = torch.amp.GradScaler("cuda")
    pixels = torch.rand((count, 3, SIDE, SIDE), device="cuda")
    labels = (torch.rand((count, 1, SIDE, SIDE), device="cuda") > 0.5).float()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.float16):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(pixels), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def on_the_gpu(count: int = 32) -> None:
    """Print the table for the GPU: milliseconds per batch, share of a training step, memory."""
    step = cuda_ms(training_step(count))
    print(f"{torch.cuda.get_device_name()}, {count} images of 3 x {SIDE} x {SIDE}")
    print(f"{'training step, U-Net / ResNet-34, mixed precision':<52} {step:7.2f} ms per batch")
    for name, dtype, levels, normalize in (
        ("uint8", np.uint8, 256, None),
        ("uint8 + normalise", np.uint8, 256, NORMALIZE),
        ("uint16 (11 bit)", np.uint16, 2048, None),
        ("uint16 (16 bit)", np.uint16, 65536, None),
    ):
        references = images(4, dtype, levels, seed=1).transpose(0, 2, 3, 1)
        bank = HistogramBank.from_images(references)
        module = BatchedHistogramMatching(bank, p=1.0, normalize=normalize, levels=levels).cuda()
        batch = torch.from_numpy(images(count, dtype, levels, seed=0)).cuda()
        for form, call in (("", module), (", compiled", torch.compile(module, fullgraph=True))):
            time = cuda_ms(lambda call=call, batch=batch: call(batch))
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            call(batch)
            gigabytes = (torch.cuda.max_memory_allocated() - before) / 1e9
            print(
                f"{name + ': batched' + form:<52} {time:7.2f} ms per batch, "
                f"{time / step:6.2%} of a step, {gigabytes:.2f} GB"
            )


def main() -> None:
    """Print the tables."""
    print(machine("torch", "numpy", "opencv-python-headless", "scikit-image", "albumentations"))
    on_the_cpu()
    if torch.cuda.is_available():
        on_the_gpu()
    else:
        print("share of a training step: not measured, because it needs a GPU with CUDA")


if __name__ == "__main__":
    main()
