"""How long training will take, told once, where no progress bar shows it."""

import logging
import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

_LOG = logging.getLogger(__name__)

SKIPPED, TIMED = 5, 20
"""Steps that are not timed, because things are set up in them, and those after them that are."""

LEAST_S = 600.0
"""Shortest time in seconds that is worth a message."""


class TimeLeft(Callback):
    """Tells soon after the start how long the steps that are left will take, without validation."""

    def __init__(self) -> None:
        self._first = 0
        self._begun: float | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Count from the first step of this attempt."""
        self._first = trainer.global_step

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Time some steps, and tell what follows from them."""
        done = trainer.global_step - self._first
        if done == SKIPPED and self._begun is None:
            self._begun = time.perf_counter()
        elif done == SKIPPED + TIMED and self._begun is not None and trainer.is_global_zero:
            each = (time.perf_counter() - self._begun) / TIMED
            self._begun = None
            left = int(trainer.estimated_stepping_batches) - trainer.global_step
            if left * each >= LEAST_S:
                _LOG.warning(
                    "about %s for the %d steps that are left, at %.2g s each without validation",
                    in_words(left * each),
                    left,
                    each,
                )


def in_words(seconds: float) -> str:
    """Return a time in its largest unit: minutes, hours or days."""
    for unit, length in (("days", 86_400.0), ("hours", 3600.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 60:.0f} minutes"
