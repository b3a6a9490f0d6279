"""Checkpoints: the state of training after the latest validation, and after the best one."""

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from rhm.errors import ConfigError, one_line
from rhm.files import atomic_path

_LOG = logging.getLogger(__name__)

# What Lightning writes, and needs to go on.
_PARTS: Mapping[str, type] = {
    "epoch": int,
    "global_step": int,
    "state_dict": dict,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}

_STATES = ("state_dict", "current_model_state")  # the second beside a mean of the weights


@dataclass(frozen=True)
class StoredState:
    """What a checkpoint contains of a network.

    Attributes:
        path: path of the checkpoint.
        step: number of optimiser steps before it.
        state: state of the network, by the names of its tensors.
    """

    path: Path
    step: int
    state: Mapping[str, Any]


def read_first(
    paths: Sequence[Path], expected: Mapping[str, Any], *, prefix: str = ""
) -> StoredState | None:
    """Read the first checkpoint that is not damaged.

    Args:
        paths: paths of checkpoints, the preferred one first; files that do not exist are skipped.
        expected: state of the network that the checkpoints are to fit.
        prefix: how the names of its tensors begin in the checkpoints, where others stay unread.

    Returns:
        The state, or None if none of the files exists.

    Raises:
        ConfigError: there are checkpoints, but all of them are damaged.
    """
    damaged: list[str] = []
    for path in paths:
        if not path.is_file():
            continue
        try:
            found = _read(path, expected, prefix)
        except _DamagedError as error:
            damaged.append(str(error))
            continue
        for told in damaged:
            _LOG.warning("%s: %s takes its place", told, path.name)
        return found
    if damaged:
        raise ConfigError(f"{damaged[0]}: remove {paths[0].parent} to train from the beginning")
    return None


class _DamagedError(Exception):
    """A checkpoint is damaged."""


def _read(path: Path, expected: Mapping[str, Any], prefix: str) -> StoredState:
    try:
        _check_members(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
        for part, kind in _PARTS.items():
            if not isinstance(stored, dict) or not isinstance(stored.get(part), kind):
                raise ValueError(f"it has no {part}")
        for part in _STATES:
            if part in stored:
                _check_state(_under(stored[part], prefix), expected)
    except Exception as error:  # of any kind: a damaged pickle is another program
        if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
            raise
        # What PyTorch says of pickles is advice to programmers on how to trust them.
        foreign = type(error).__name__ == "UnpicklingError"
        reason = "it holds other objects than a checkpoint" if foreign else one_line(error, 160)
        raise _DamagedError(f"{path} is damaged ({reason})") from error
    return StoredState(path, stored["global_step"], _under(stored["state_dict"], prefix))


def _check_members(path: Path) -> None:
    """Check what PyTorch does not: the checksums of the members of a ZIP file.

    Raises:
        ValueError, BadZipFile: they are wrong.
    """
    with ZipFile(path) as archive:
        if any(member.compress_type != ZIP_STORED for member in archive.infolist()):
            raise ValueError("it is compressed")
        if (name := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {name} is wrong")


def _under(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def _check_state(state: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    if different := state.keys() ^ expected.keys():
        name = min(different)
        raise ValueError(f"{name} is {'missing' if name in expected else 'not of this network'}")
    for name, wanted in _tensors(expected):
        found = state[name]
        if not isinstance(found, Tensor) or found.shape != wanted.shape:
            raise ValueError(f"{name} has another shape than in the network")
        if not found.isfinite().all():
            raise ValueError(f"{name} has values that are not finite")


def _tensors(state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a state, beside which a module may have kept something else."""
    yield from ((name, value) for name, value in state.items() if isinstance(value, Tensor))


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
