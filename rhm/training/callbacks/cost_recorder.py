"""Records the cost of training, attempt by attempt."""

import time
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from rhm.system import peak_memory_bytes
from rhm.training.callbacks.run_cost import Cost, write_cost


class CostRecorder(Callback):
    """Writes ``cost.json`` into the folder of an attempt at the end of every epoch.

    Args:
        folder: folder of the attempt.
        batch_size: number of chips per optimiser step, over all devices and accumulated batches.
    """

    def __init__(self, folder: Path, batch_size: int) -> None:
        self._folder = folder
        self._batch_size = batch_size
        self._begun, self._first_step = 0.0, 0

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Start the clock."""
        self._begun, self._first_step = time.monotonic(), trainer.global_step

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Write the cost so far, because an attempt may end at any time."""
        if not trainer.is_global_zero:
            return
        steps = trainer.global_step - self._first_step
        on_gpu = pl_module.device.type == "cuda"
        memory = peak_memory_bytes(workers=True)
        spent = Cost(
            seconds=round(time.monotonic() - self._begun, 3),
            steps=steps,
            images=steps * self._batch_size,
            device=torch.cuda.get_device_name(pl_module.device) if on_gpu else "CPU",
            devices=trainer.num_devices * trainer.num_nodes,
            memory_mb=None if memory is None else round(memory / 1e6, 1),
            device_memory_mb=(
                round(torch.cuda.max_memory_allocated(pl_module.device) / 1e6, 1)
                if on_gpu
                else None
            ),
        )
        write_cost(spent, self._folder)

    # The validation of the last epoch comes after its end.
    on_train_end = on_train_epoch_end
