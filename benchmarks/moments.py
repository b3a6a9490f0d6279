"""Class moments of features, single-threaded, compared with a loop and with two passes.

    python benchmarks/moments.py

The benchmark uses 20 000 samples of 512 float32 features in 10 classes. ``loop`` adds one outer
product per sample, as the code of the papers does. ``two passes`` evaluates the definitions,
vectorised in torch, over features that are all in memory. ``rhm`` takes batches of 2000 and stores
no features. Memory is the growth of the process while it processes the given number of samples,
which are drawn when they are needed. The last line is the cost of recording the features of a
network at every validation, with the default settings.
"""

import subprocess
import sys
import time
from functools import partial

import numpy as np
import torch
from machine import machine, medians_ms, peak_growth_mb

from rhm.analysis import ClassMoments, collapse, separation
from rhm.data.chips import Chip
from rhm.models.build import BUNDLED_ENCODER, SegmentationModel
from rhm.models.spec import ModelSpec
from rhm.training.callbacks.feature_monitor import AnalysisConfig, FeatureMonitor
from rhm.training.configs.trainer_config import TrainerConfig

SAMPLES, FEATURES, CLASSES, BATCH = 20_000, 512, 10, 2_000


def drawn(samples: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features that scatter around the mean of their class, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (samples,), generator=generator)
    means = torch.randn(CLASSES, FEATURES, generator=generator)
    return means[labels] + torch.randn(samples, FEATURES, generator=generator), labels


def streamed(features: torch.Tensor, labels: torch.Tensor, *, covariance: bool) -> ClassMoments:
    """Return the moments of the features, taken batch by batch."""
    moments = ClassMoments(CLASSES, FEATURES, covariance=covariance)
    for start in range(0, len(features), BATCH):
        moments.update(features[start : start + BATCH], labels[start : start + BATCH])
    return moments


def two_passes(
    features: torch.Tensor, labels: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return class means and the scatter within classes, by their definitions."""
    rows = features.to(dtype)
    members = torch.nn.functional.one_hot(labels, CLASSES).to(dtype)
    means = (members.T @ rows) / members.sum(dim=0)[:, None]
    deviations = rows - means[labels]
    return means, deviations.T @ deviations


def loop(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the scatter within classes, one sample after another, as the code of the papers does.

    A first pass sums and stores the features of each class, a second adds their outer products.
    """
    sums: dict[int, np.ndarray] = {}
    kept: dict[int, list[np.ndarray]] = {}
    for row, label in zip(features, labels, strict=True):
        known, values = int(label.item()), row.detach().cpu().numpy()
        sums[known] = sums.get(known, 0.0) + values
        kept.setdefault(known, []).append(values)
    scatter = torch.zeros(FEATURES, FEATURES)
    for known, rows in kept.items():
        mean = torch.from_numpy(sums[known] / len(rows))
        for row in torch.from_numpy(np.array(rows)):
            deviation = row - mean
            scatter += torch.outer(deviation, deviation)
    return scatter


def grown_mb(samples: int) -> float:
    """Return by how many megabytes this process grows while it processes the samples."""
    drawn(BATCH)
    moments = ClassMoments(CLASSES, FEATURES)
    moments.update(*drawn(BATCH))
    batches = range(samples // BATCH)
    return peak_growth_mb(lambda: [moments.update(*drawn(BATCH, seed)) for seed in batches])


def _gram(rows: np.ndarray) -> np.ndarray:
    return rows.T @ rows


def recording() -> str:
    """Return the cost of recording features, as a share of the training between validations."""
    model = SegmentationModel(ModelSpec("unet", BUNDLED_ENCODER, 3))
    batch_size, config = TrainerConfig().batch_size, AnalysisConfig(every=1)
    generator = torch.Generator().manual_seed(0)
    batch = Chip(
        image=torch.randn(batch_size, 3, 256, 256, generator=generator),
        mask=torch.zeros(batch_size, 1, 256, 256, dtype=torch.int64),
    )
    batch["mask"][:, :, 64:160, 64:160] = 1
    batches = [batch] * (config.chips // batch_size)
    monitor = FeatureMonitor(config)

    def step() -> None:
        model.train()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            model(batch["image"]), batch["mask"].float()
        )
        loss.backward()

    def record() -> None:
        model.eval()
        monitor.values(model, batches, torch.device("cpu"))

    found = medians_ms({"step": step, "record": record}, runs=5)
    between = TrainerConfig().validate_every * found["step"]
    return (
        f"recording features of {config.chips} chips: {found['record']:.0f} ms, "
        f"{found['record'] / between:.2%} of {TrainerConfig().validate_every} training steps of "
        f"{found['step']:.0f} ms"
    )


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        print(grown_mb(int(sys.argv[1])))
        return
    features, labels = drawn(SAMPLES)
    whole = streamed(features, labels, covariance=True)
    means, scatter = two_passes(features, labels, torch.float64)
    torch.testing.assert_close(whole.scatter, scatter, rtol=1e-10, atol=1e-6)
    torch.testing.assert_close(whole.means, means, rtol=1e-10, atol=1e-12)
    begun = time.perf_counter()
    loop(features, labels)
    looped = 1e3 * (time.perf_counter() - begun)
    measured = medians_ms(
        {
            "rhm, full covariance": lambda: streamed(features, labels, covariance=True),
            "rhm, traces only": lambda: streamed(features, labels, covariance=False),
            "two passes, float64": lambda: two_passes(features, labels, torch.float64),
            "two passes, float32": lambda: two_passes(features, labels, torch.float32),
            "the float64 product alone": partial(_gram, features.double().numpy()),
            "NC1, C_l, D_l and ranks of moments": lambda: (collapse(whole), separation(whole)),
        }
    )
    print(machine("torch", "numpy"))
    for name, milliseconds in ({"loop over samples, float32": looped} | measured).items():
        ratio = looped / milliseconds
        print(f"{name:<36} {milliseconds:9.1f} ms   {ratio:7.1f} times as fast as the loop")
    for samples in (20_000, 200_000):
        command = [sys.executable, __file__, str(samples)]
        grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        print(f"{samples} samples: the process grows by {np.float64(grown):.1f} MB")
    print(recording())


if __name__ == "__main__":
    main()
