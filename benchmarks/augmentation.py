"""Cost of each augmentation in the data loader, as a share of a training step on this machine.

    python benchmarks/augmentation.py

Chips of 256 x 256 x 3 (uint8, and 11 bits in uint16) are flipped, augmented in colour and
normalised on one thread. A training step trains the default network on eight such chips. The last
lines time the draw of a target from a bank of sixteen images, unpacked for every draw or kept
unpacked, and the match that follows it.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from machine import machine, medians_ms

from rhm.augmentation.augment_config import AugmentConfig
from rhm.augmentation.chip_augmentation import ChipAugmentation
from rhm.augmentation.colours import COLOUR
from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.lookup import PixelMap
from rhm.models.build import SegmentationModel, load_encoder_weights
from rhm.models.spec import ModelSpec

SIDE = 256
BATCH = 8
STEPS = 9


def chips(dtype: type, top: int) -> np.ndarray:
    """Return sixteen chips of different brightness."""
    rng = np.random.default_rng(0)
    brightness = rng.uniform(0.3, 1.0, (16, 1, 1, 1)) * top
    return (rng.beta(2, 5, (16, SIDE, SIDE, 3)) * brightness).astype(dtype)


def step_seconds() -> float:
    """Return the median time of a training step of the default network."""
    torch.manual_seed(0)
    model = SegmentationModel(ModelSpec("unet", "tf_efficientnet_lite0", 3))
    load_encoder_weights(model, "bundled")
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    images = torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(STEPS):
        begun = time.perf_counter()
        loss = model(images).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def chip_costs_ms(dtype: type, top: int) -> dict[str, float]:
    """Return the median time per chip of each augmentation that supports this type."""
    images, rng = chips(dtype, top), np.random.default_rng(0)
    bank = HistogramBank.from_images(chips(dtype, top // 2), spectrum_px=SIDE // 2)
    low, high = (0.0,) * 3, (float(top),) * 3
    normalize = PixelMap.normalize(low, high, dtype, mean=(0.5,), std=(0.5,))
    mask, valid = np.zeros((SIDE, SIDE), np.uint8), np.ones((SIDE, SIDE), np.uint8)
    scene = Histogram.of(images[0])

    def through(**settings: Any) -> Callable[[], object]:
        names = settings.get("colour", "none").split(" + ")
        needs_bank = any(COLOUR[name].from_bank for name in names)
        config = AugmentConfig(bank="a bank" if needs_bank else None, p=1.0, **settings)
        augment = ChipAugmentation(config, dtype=np.dtype(dtype), low=low, high=high, bank=bank)
        return lambda: augment(
            images[int(rng.integers(16))], mask, valid, normalize=normalize, rng=rng, scene=scene
        )

    jitter = {"gamma": (0.7, 1.4), "gain": (0.8, 1.2), "offset": (-0.1, 0.1)}
    candidates = {
        "none": through(),
        "rhm": through(colour="rhm"),
        "rhm, statistics of the scene": through(colour="rhm", statistics="scene"),
        "rhm + gamma, gain, offset": through(colour="rhm", **jitter),
        "mean-std": through(colour="mean-std"),
        "spectrum": through(colour="spectrum"),
        "rhm + spectrum": through(colour="rhm + spectrum"),
        "random-convolution": through(colour="random-convolution"),
    }
    if dtype is np.uint8:
        candidates |= {name: through(colour=name) for name in ("color-jitter", "hsv")}
    return medians_ms(candidates, runs=100)


def draw_costs_ms(dtype: type, top: int) -> dict[str, float]:
    """Return the median time of a target's draw, its steps worked out, and of a match to it."""
    bank, rng = HistogramBank(map(Histogram.of, chips(dtype, top))), np.random.default_rng(0)
    source = Histogram.of(chips(dtype, top)[0])
    target = bank.histograms[0]
    return medians_ms(
        {
            "unpacked": lambda: bank.entries[int(rng.integers(16))].unpack().steps,
            "kept": lambda: bank.sample(rng=rng).steps,
            "match": lambda: PixelMap.matching(source, target),
        },
        runs=200,
        clock=time.process_time,
    )


def main() -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    print(machine("torch", "numpy", "opencv-python-headless", "albumentations"))
    step = step_seconds()
    per_chip_ms = 1000.0 * step / BATCH
    print(f"training step, {BATCH} chips of {SIDE} px: {step:.2f} s, {per_chip_ms:.0f} ms per chip")
    for dtype, top in ((np.uint8, 255), (np.uint16, 2047)):
        measured = chip_costs_ms(dtype, top)
        for name, milliseconds in measured.items():
            over = milliseconds - measured["none"]
            print(
                f"{np.dtype(dtype).name:<7} {name:<30} {milliseconds:6.2f} ms per chip, "
                f"{over:+6.2f} ms over none: {over / per_chip_ms:+.2%} of a step"
            )
    for dtype, top in ((np.uint8, 255), (np.uint16, 2047), (np.uint16, 65535)):
        costs = draw_costs_ms(dtype, top)
        bits = int(top).bit_length()
        shown = ", ".join(f"{name} {ms:.3f} ms" for name, ms in costs.items())
        print(f"{bits:>2} bit, the draw of a target: {shown}")


if __name__ == "__main__":
    main()
