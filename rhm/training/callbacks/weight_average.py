"""The mean of the weights over the last part of a training run."""

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class WeightAverage(WeightAveraging):
    """Validates and keeps the mean of the weights after each step of the last part of a run.

    This is stochastic weight averaging (Izmailov et al., UAI 2018) at every step, as in SWAD (Cha
    et al., NeurIPS 2021), which averages to work better in places that were not trained on. The
    running statistics of batch normalisation are averaged like weights. Until the last part
    begins, the weights are those of the latest step.

    Checkpoints contain the mean as the model, and beside it the weights with which an interrupted
    run continues.

    Args:
        steps: number of optimiser steps of the run.
        share: last part of the run over which the weights are averaged, in (0, 1].
    """

    def __init__(self, steps: int, share: float) -> None:
        # The first step whose weights count, of steps that are numbered from zero.
        first = min(steps - 1, round(steps * (1.0 - share)))

        def take_up(means: list[Tensor], latest: list[Tensor], updates: Tensor | int) -> None:
            counted = int(updates) - first
            if counted > 0 and means[0].is_floating_point():
                torch._foreach_lerp_(means, latest, 1.0 / (counted + 1))
            else:
                torch._foreach_copy_(means, latest)

        super().__init__(multi_avg_fn=take_up)
