"""The mean of the weights over the last part of a training run."""

import lightning
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class WeightAverage(WeightAveraging):
    """Validates and keeps the mean of the weights after each step of the last part of a run.

    This is stochastic weight averaging (Izmailov et al., UAI 2018) at every step, as in SWAD (Cha
    et al., NeurIPS 2021), which averages to work better in places that were not trained on. The
    running statistics of batch normalisation are averaged like weights. Until the last part
    begins, the weights are those of the latest step. Of all validations, the best one is kept,
    which may be one before the last part.

    Checkpoints contain the mean as the model, and beside it the weights with which an interrupted
    run continues.

    Args:
        steps: number of optimiser steps of the run.
        share: last part of the run over which the weights are averaged, in (0, 1].
        validate_every: number of steps after which the weights are validated.
    """

    def __init__(self, steps: int, share: float, validate_every: int) -> None:
        super().__init__(multi_avg_fn=self._take_up)
        # The first step whose weights count, of steps that are numbered from zero.
        self._first = min(steps - 1, round(steps * (1.0 - share)))
        self._validate_every = validate_every
        self._step = 0

    def setup(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Create the mean where the network will be, which is not there yet."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return whether the weights after a step count, or are about to be validated."""
        if step_idx is None:
            return False
        self._step = step_idx
        return step_idx >= self._first or (step_idx + 1) % self._validate_every == 0

    def _take_up(self, means: list[Tensor], latest: list[Tensor], _: Tensor | int) -> None:
        counted = self._step - self._first
        if counted > 0 and means[0].is_floating_point():
            torch._foreach_lerp_(means, latest, 1.0 / (counted + 1))
        else:
            torch._foreach_copy_(means, latest)
