"""Checkpoints: the state of training after the latest validation, and after the best one."""

import math
import os
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from rhm.files import atomic_path


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints so that a failure leaves the earlier file as it was.

    Lightning's own writer moves a file from one file system to another, which is not atomic.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any | None = None,
    ) -> None:
        """Write a checkpoint, either completely or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)


class CheckpointWriter(Checkpoint):
    """Writes the last checkpoint after every validation, and the best one after the best so far.

    The best score is part of the checkpoints themselves, so that a folder can be moved or copied
    between two attempts at a run.

    Args:
        last: path of the last checkpoint.
        best: path of the best checkpoint.
        monitor: name of the validation score, of which more is better; None for a run without
            validation, which has no best checkpoint and writes the last one after every epoch.
    """

    def __init__(self, last: Path, best: Path, *, monitor: str | None) -> None:
        super().__init__()
        self._last_path, self._best_path = last, best
        self._monitor = monitor
        self._best = -math.inf

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Write the checkpoints."""
        if self._monitor is None or trainer.sanity_checking:
            return
        # Not a number where the chips show no buildings, which is not better than anything.
        score = float(trainer.callback_metrics[self._monitor])
        if score > self._best:
            self._best = score
            trainer.save_checkpoint(self._best_path)
        # After the best: if the process is killed in between, the next attempt writes both again.
        trainer.save_checkpoint(self._last_path)

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Write the last checkpoint of a run without validation."""
        if self._monitor is None:
            trainer.save_checkpoint(self._last_path)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score."""
        return {"best": self._best}

    def on_load_checkpoint(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        """Take up the best score of checkpoints that Lightning's own callback wrote."""
        for key, state in checkpoint["callbacks"].items():
            if key.startswith("ModelCheckpoint") and state["best_model_score"] is not None:
                self._best = float(state["best_model_score"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best score of an earlier attempt."""
        self._best = float(state_dict["best"])
