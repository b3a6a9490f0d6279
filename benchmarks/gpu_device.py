"""The steps of ``gpu.py`` that need no imagery."""

import itertools
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from gpu_steps import ENCODERS, Rows, Setting, Step, built, precisions, training
from torch import nn

from rhm import Histogram, HistogramBank, PixelMap
from rhm.adapters import DeepLoRA, LoRA, attach
from rhm.analysis import ClassMoments
from rhm.colour.batched import BatchedHistogramMatching


def warm_up(setting: Setting) -> Rows:
    """The first use of the device: context, convolution, matrix product; and what there is."""
    for name, call in {
        "context": lambda: torch.zeros(1, device=setting.device),
        "convolution": lambda: nn.Conv2d(3, 8, 3, device=setting.device)(
            torch.rand(1, 3, 64, 64, device=setting.device)
        ),
        "product": lambda: torch.rand(256, 256, device=setting.device).mm(
            torch.rand(256, 256, device=setting.device)
        ),
    }.items():
        begun = time.perf_counter()
        call()
        setting.wait()
        yield {"first": name, "s": round(time.perf_counter() - begun, 2)}
    backends = torch.backends
    yield {
        "device": setting.device_name(),
        "torch": torch.__version__,
        "cudnn": backends.cudnn.version(),
        "tf32": [backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32],
        "compiler": shutil.which("gcc") is not None,
    }


def parity(setting: Setting) -> Rows:
    """The device against the CPU: matching, networks, class moments."""
    rng = np.random.default_rng(0)
    side = setting.size(512, 64)
    for dtype, levels in ((np.uint8, 256), (np.uint16, 2048)):
        images = rng.integers(0, levels, (4, 3, side, side)).astype(dtype)
        bank = HistogramBank.from_images(images.transpose(0, 2, 3, 1))
        module = BatchedHistogramMatching(bank, p=1.0).to(setting.device)
        batch = torch.from_numpy(images)
        targets = torch.tensor([1, 2, 3, 0])
        found = module.match(batch.to(setting.device), targets.to(setting.device)).cpu().numpy()
        wrong = 0
        for image, out, target in zip(images, found, targets, strict=True):
            own = Histogram.of(image.transpose(1, 2, 0))
            table = PixelMap.matching(own, bank.histograms[int(target)])
            wrong += int((table.apply(image.transpose(1, 2, 0)).transpose(2, 0, 1) != out).sum())
        yield {"matching": np.dtype(dtype).name, "wrong values": wrong}
    model = built().eval()
    batch = torch.rand(2, 3, setting.size(512, 64), setting.size(512, 64))
    with torch.inference_mode():
        expected = model(batch).sigmoid()
        model.to(setting.device)
        for name, context in precisions(setting).items():
            with context():
                found = model(batch.to(setting.device)).float().sigmoid().cpu()
            apart = (found - expected).abs()
            yield {"network": name, "largest": float(apart.max()), "mean": float(apart.mean())}
    features, labels = torch.randn(20_000, 64), torch.arange(20_000) % 4
    both = []
    for device in ("cpu", setting.device):
        moments = ClassMoments(4, 64, device=device)
        moments.update(features.to(device), labels.to(device))
        both.append(moments.means.cpu())
    yield {"class moments": float((both[0] - both[1]).abs().max())}


def repeatability(setting: Setting) -> Rows:
    """Are the weights after the same steps the same, bit for bit, and what does that cost?"""
    for name in ("default", "deterministic"):
        ends, ms = [], 0.0
        for _ in range(2):
            torch.manual_seed(0)
            torch.use_deterministic_algorithms(name != "default", warn_only=True)
            step, model = training(setting, built().to(setting.device), 8)
            ms = setting.median_ms(step, runs=setting.size(20, 2), warm=0)
            ends.append(torch.cat([each.detach().flatten() for each in model.parameters()]))
        torch.use_deterministic_algorithms(False)
        yield {"algorithms": name, "same bits": bool(torch.equal(*ends)), "ms": round(ms, 2)}


def matching_share(setting: Setting) -> Rows:
    """Matching a batch on the device, as a share of a training step on it."""
    count, side = setting.size(32, 2), setting.size(512, 64)
    step, _ = training(setting, built().to(setting.device), count, side)
    whole = setting.median_ms(step)
    yield {"training step": f"{count} x {side} px", "ms": round(whole, 2)}
    rng = np.random.default_rng(0)
    cases = ((np.uint8, 256), (np.uint8, 256), (np.uint16, 2048), (np.uint16, 65536))
    for dtype, levels in cases:  # the first twice, which shows the noise
        images = rng.integers(0, levels, (count, 3, side, side)).astype(dtype)
        bank = HistogramBank.from_images(images[:4].transpose(0, 2, 3, 1))
        module = BatchedHistogramMatching(bank, p=1.0, levels=levels).to(setting.device)
        batch = torch.from_numpy(images).to(setting.device)
        ms = setting.median_ms(lambda module=module, batch=batch: module(batch))
        shown = {"ms": round(ms, 3), "share": round(ms / whole, 4)}
        yield {"matching": np.dtype(dtype).name, "levels": levels, **shown}


def steps(setting: Setting) -> Rows:
    """A training step by encoder, batch, precision, layout and optimiser."""
    side = setting.size(256, 64)
    batches = (8, 64) if not setting.tiny else (2,)
    for encoder, batch, (name, context) in itertools.product(
        ENCODERS, batches, precisions(setting).items()
    ):
        for layout, fused in (
            (torch.contiguous_format, False),
            (torch.channels_last, False),
            (torch.channels_last, True),
        ):
            row = {"encoder": encoder, "batch": batch, "precision": name}
            row |= {"layout": str(layout).removeprefix("torch."), "fused AdamW": fused}
            try:
                model = built(encoder).to(setting.device, memory_format=layout)
                step, _ = training(setting, model, batch, side, context=context, fused=fused)
                ms = setting.median_ms(step)
                yield row | {"ms": round(ms, 2), "GB": setting.peak_gb()}
            except torch.OutOfMemoryError:
                yield row | {"ms": "out of memory"}


def compiled(setting: Setting) -> Rows:
    """The same step under ``torch.compile``, in a process that can be stopped."""
    code = (
        "import sys, time, torch\n"
        f"sys.path[:0] = {[str(Path(__file__).parent)]!r}\n"
        "from gpu_steps import Setting, built, precisions, training\n"
        f"setting = Setting({setting.device!r}, {setting.tiny}, None, None, 0.0)\n"
        "model = built().to(setting.device, memory_format=torch.channels_last)\n"
        "begun = time.perf_counter()\n"
        f"step, _ = training(setting, torch.compile(model), {setting.size(64, 2)}, "
        f"{setting.size(256, 64)}, context=list(precisions(setting).values())[-1])\n"
        "step(); setting.wait()\n"
        "first = time.perf_counter() - begun\n"
        "print(first, setting.median_ms(step))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        yield {"error": done.stderr.strip().splitlines()[-1][:200]}
        return
    first, ms = map(float, done.stdout.split()[-2:])
    yield {"compiled step, ms": round(ms, 2), "first step, s": round(first, 1)}


def adapters(setting: Setting) -> Rows:
    """A step of adaptation by kind of update."""
    kinds = {"full": None, "LoRA": LoRA(8), "Deep LoRA": DeepLoRA(8)}
    for (name, adapter), batch in itertools.product(kinds.items(), (8, 64)):
        model = built().to(setting.device)
        if adapter is not None:
            attach(model, adapter, trained=("*segmentation_head",))
        step, _ = training(setting, model, setting.size(batch, 2), setting.size(256, 64))
        row = {"update": name, "batch": setting.size(batch, 2)}
        yield row | {"ms": round(setting.median_ms(step), 2), "GB": setting.peak_gb()}


DEVICE_STEPS = {
    "warm up": Step(20, warm_up),
    "parity": Step(15, parity),
    "repeatability": Step(15, repeatability),
    "matching": Step(30, matching_share),
    "steps": Step(45, steps),
    "compiled": Step(60, compiled),
    "adapters": Step(15, adapters),
}
