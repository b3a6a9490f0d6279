"""What the steps of ``gpu.py`` share: the setting, its clock, and a training step."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rhm.adapters import parameter_groups
from rhm.adapters.attach import attachment_of
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec
from rhm.training.losses import LossConfig, loss_of

ENCODERS = ("tf_efficientnet_lite0", "resnet34")
WARM = 5

Row = dict[str, Any]
Rows = Iterator[Row]


@dataclass(frozen=True)
class Setting:
    """The device, sizes and the time that is left.

    Attributes:
        device: ``cuda`` or ``cpu``.
        tiny: whether this is a rehearsal.
        data: folder of the imagery.
        work: folder to write to.
        end: time at which everything must have ended.
    """

    device: str
    tiny: bool
    data: Path
    work: Path
    end: float

    def size(self, whole: int, tiny: int) -> int:
        """Return a size, or that of a rehearsal."""
        return tiny if self.tiny else whole

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.end - time.monotonic()

    def wait(self) -> None:
        """Wait for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def device_name(self) -> str:
        """Return the name of the device."""
        return torch.cuda.get_device_name() if self.device == "cuda" else "CPU"

    def median_ms(
        self, call: Callable[[], object], *, runs: int | None = None, warm: int = WARM
    ) -> float:
        """Return the median time of a call; with CUDA between its events."""
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times = []
        for run in range((runs or self.size(20, 1)) + self.size(warm, 0)):
            took = self._timed(call)
            if run >= self.size(warm, 0):
                times.append(took)
        return statistics.median(times)

    def _timed(self, call: Callable[[], object]) -> float:
        if self.device != "cuda":
            begun = time.perf_counter()
            call()
            return 1000.0 * (time.perf_counter() - begun)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))

    def peak_gb(self) -> float | None:
        """Return the most memory of the device since the last measurement began."""
        if self.device != "cuda":
            return None
        return round(torch.cuda.max_memory_allocated() / 1e9, 2)


@dataclass(frozen=True)
class Step:
    """A part of the measurements.

    Attributes:
        seconds: what it takes at most, about.
        run: function that yields its rows.
    """

    seconds: float
    run: Callable[[Setting], Rows]


def built(encoder: str = ENCODERS[0]) -> SegmentationModel:
    """Return a U-Net with random weights."""
    torch.manual_seed(0)
    return SegmentationModel(ModelSpec("unet", encoder, 3))


def precisions(setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return contexts of computing in the precisions that the device has."""
    kinds = (torch.bfloat16,) if setting.device == "cpu" else (torch.float16, torch.bfloat16)
    contexts: dict[str, Callable[[], Any]] = {
        "float32": lambda: torch.autocast("cpu", enabled=False)
    }
    for kind in kinds:
        name = str(kind).removeprefix("torch.")
        contexts[name] = lambda kind=kind: torch.autocast(setting.device, dtype=kind)
    return contexts


def training(
    setting: Setting,
    model: nn.Module,
    batch: int,
    side: int | None = None,
    *,
    context: Callable[[], Any] | None = None,
    fused: bool = False,
) -> tuple[Callable[[], None], nn.Module]:
    """Return a function that makes a training step on random chips, and the model."""
    side = side or setting.size(256, 64)
    images = torch.rand(batch, 3, side, side, device=setting.device)
    masks = (torch.rand(batch, 1, side, side, device=setting.device) > 0.8).long()
    loss = loss_of(LossConfig(), ("building",))
    adapted = attachment_of(model) is not None
    groups: Any = parameter_groups(model, 1e-3) if adapted else model.parameters()
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=fused and setting.device != "cpu")
    context = context or precisions(setting)["float32"]
    model.train()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with context():
            logits: Tensor = model(images)
        loss(logits.float(), masks).backward()
        optimizer.step()

    return step, model
