"""The section ``trainer`` of a configuration: the length of training, and its hardware."""

import os
from dataclasses import dataclass
from typing import ClassVar

from rhm.system import MOST_WORKERS
from rhm.training.callbacks.trackers import TRACKERS

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
"""Numeric precisions, by the names that configurations and Lightning use."""

SELECT = {"val-iou": "val_iou", "expected-iou": "target_expected_iou"}
"""Scores by which the best checkpoint is chosen, by the names that configurations use."""

ACCELERATORS = ("auto", "cpu", "gpu")
"""Hardware to train on, by the names that configurations and Lightning use."""

_MOST = {
    "steps": 10**9,
    "batch_size": 1 << 16,
    "accumulate": 1 << 16,
    "validate_every": 10**9,
    "devices": MOST_WORKERS,
    "num_nodes": 1 << 16,
}
"""Largest values of the settings of a trainer. No memory holds larger batches, and no machine has
more devices; a number beyond them is a slip of the hand."""


@dataclass(frozen=True)
class TrainerConfig:
    """The length of training, its hardware, and how often it is validated.

    Attributes:
        steps: number of optimiser steps.
        batch_size: chips per optimiser step, over all devices and accumulated batches.
        accumulate: number of batches whose gradients are accumulated for one step.
        validate_every: steps between validations and checkpoints; must divide ``steps``.
        average: last part of the run over whose steps the weights are averaged, in [0, 1); 0 keeps
            the weights of single steps. A run that averages cannot end early by ``patience``.
        patience: validations without improvement after which training stops; 0 never stops.
        select: score by which the best checkpoint is chosen, one of ``SELECT``: ``val-iou`` on the
            validation chips, or ``expected-iou``, the highest IoU that the model itself expects on
            the unlabelled chips of the target.
        precision: one of ``PRECISIONS``.
        accelerator: one of ``ACCELERATORS``.
        trackers: experiment trackers that are told the settings and scores, of ``TRACKERS``.
        devices: number of devices on each machine, with one process per device.
        num_nodes: number of machines.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    steps: int = 2000
    batch_size: int = 8
    accumulate: int = 1
    validate_every: int = 250
    average: float = 0.0
    patience: int = 0
    select: str = "val-iou"
    precision: str = "32-true"
    accelerator: str = "auto"
    trackers: tuple[str, ...] = ()
    devices: int = 1
    num_nodes: int = 1

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision: choose {', '.join(PRECISIONS)}")
        if self.accelerator not in ACCELERATORS:
            raise ValueError(f"unknown accelerator: choose {', '.join(ACCELERATORS)}")
        if self.select not in SELECT:
            raise ValueError(f"unknown select: choose {', '.join(SELECT)}")
        unknown = [name for name in self.trackers if name not in TRACKERS]
        if unknown:
            raise ValueError(f"unknown tracker '{unknown[0]}': choose {', '.join(TRACKERS)}")
        self._check_end()
        for name, most in _MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(
                    f"{name} must be at least 1 and at most {most}, got {getattr(self, name)}"
                )
        if self.steps % self.epoch_steps:
            raise ValueError("steps must be a multiple of validate_every")
        if self.batch_size % (self.devices * self.num_nodes * self.accumulate):
            raise ValueError("batch_size must be a multiple of devices x num_nodes x accumulate")

    def _check_end(self) -> None:
        if self.patience < 0 or not 0 <= self.average < 1:
            raise ValueError("patience must be at least 0, and average in [0, 1)")
        if self.patience and self.average:
            raise ValueError("average needs the last part of the run: leave out patience")

    @property
    def is_main_process(self) -> bool:
        """Whether this process is the one that writes the run's files and prints its results.

        Launchers (Lightning, torchrun, SLURM) tell processes apart by environment variables, which
        mean nothing to a run of a single process.
        """
        ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
        alone = self.devices * self.num_nodes == 1
        return alone or all(os.environ.get(name, "0") in ("", "0") for name in ranks)

    @property
    def chips_at_once(self) -> int:
        """Number of chips in each batch that the network of a device sees."""
        return self.batch_size // (self.devices * self.num_nodes * self.accumulate)

    @property
    def epoch_steps(self) -> int:
        """Number of optimiser steps between validations."""
        return min(self.steps, self.validate_every)
