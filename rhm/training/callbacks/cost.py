"""What training costs: time and memory, over all attempts at a run."""

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from rhm.files import write_text

_NAME = "cost.json"


@dataclass(frozen=True)
class Cost:
    """What was spent on training, validation on the way included.

    Attributes:
        seconds: of wall time, all attempts together.
        steps: of the optimiser, those included that an attempt lost.
        images: chips that were trained on.
        device: that it ran on.
        devices: number of them.
        memory_mb: most that the process, or one of its workers, held at a time, in MB (10^6).
        device_memory_mb: most that tensors took on a GPU; None without one.
    """

    seconds: float
    steps: int
    images: int
    device: str
    devices: int
    memory_mb: float
    device_memory_mb: float | None


class CostRecorder(Callback):
    """Writes ``cost.json`` into an attempt's folder, at every epoch's end.

    Args:
        folder: of the attempt.
        step_images: chips that one step of all devices takes.
    """

    def __init__(self, folder: Path, step_images: int) -> None:
        self._path = folder / _NAME
        self._step_images = step_images
        self._begun, self._first_step = 0.0, 0

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Start the clock."""
        self._begun, self._first_step = time.monotonic(), trainer.global_step

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Write what was spent so far: an attempt may end at any time."""
        if trainer.is_global_zero:
            steps = trainer.global_step - self._first_step
            on_gpu = pl_module.device.type == "cuda"
            spent = Cost(
                seconds=round(time.monotonic() - self._begun, 3),
                steps=steps,
                images=steps * self._step_images,
                device=torch.cuda.get_device_name(pl_module.device) if on_gpu else "CPU",
                devices=trainer.num_devices * trainer.num_nodes,
                memory_mb=round(_most_memory_mb(), 1),
                device_memory_mb=(
                    round(torch.cuda.max_memory_allocated(pl_module.device) / 1e6, 1)
                    if on_gpu
                    else None
                ),
            )
            write_text(self._path, json.dumps(asdict(spent), indent=2) + "\n")

    # After the last epoch its validation is still to come.
    on_train_end = on_train_epoch_end


def collect_cost(run: Path) -> Cost | None:
    """Add up the attempts at a run and write ``cost.json`` into its folder.

    Returns:
        The sum, or None where no attempt says what it cost.
    """
    paths = sorted(
        (run / "logs").glob(f"attempt_*/{_NAME}"),
        key=lambda path: int(path.parent.name.partition("_")[2]),
    )
    attempts = [Cost(**json.loads(path.read_text(encoding="utf-8"))) for path in paths]
    if not attempts:
        return None
    on_gpus = [each.device_memory_mb for each in attempts if each.device_memory_mb is not None]
    total = Cost(
        seconds=round(sum(each.seconds for each in attempts), 3),
        steps=sum(each.steps for each in attempts),
        images=sum(each.images for each in attempts),
        device=", ".join(dict.fromkeys(each.device for each in attempts)),
        devices=max(each.devices for each in attempts),
        memory_mb=max(each.memory_mb for each in attempts),
        device_memory_mb=max(on_gpus, default=None),
    )
    write_text(run / _NAME, json.dumps(asdict(total), indent=2) + "\n")
    return total


def _most_memory_mb() -> float:
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    users = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in users) * unit / 1e6
