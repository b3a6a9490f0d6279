"""A record of the low-rank updates during training."""

from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Callback

from rhm.adapters.spectra import UpdateSnapshot, load_snapshot, save_snapshot, take_snapshot

FINAL = "final.safetensors"
"""File with the updates of the finished model, which may come from an earlier step."""


class UpdateRecorder(Callback):
    """Saves the factors of a network's low-rank updates at the start and after every epoch.

    Args:
        folder: folder for the files; each is as large as the adapter.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Save the initial updates, unless the run is resumed."""
        if trainer.global_step == 0:
            self._save(trainer, pl_module)

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Save the current updates."""
        self._save(trainer, pl_module)

    def _save(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        snapshot = take_snapshot(module.get_submodule("model"), trainer.global_step)
        save_snapshot(snapshot, self._folder / f"step_{trainer.global_step:07d}.safetensors")


def recorded_files(folder: Path) -> list[Path]:
    """Return the files of the updates that were recorded during training, by step."""
    return sorted(folder.glob("step_*.safetensors"))


def recorded_updates(folder: Path) -> tuple[list[UpdateSnapshot], UpdateSnapshot] | None:
    """Return the updates recorded during training, by step, and those of the finished model.

    Returns:
        None if the folder has none: the model is not adapted, or its method uses no updates.

    Raises:
        ModelFileError: a file is damaged.
    """
    final = folder / FINAL
    if not final.is_file():
        return None
    return [load_snapshot(path) for path in recorded_files(folder)], load_snapshot(final)
