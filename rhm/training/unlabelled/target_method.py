"""What the methods that learn from unlabelled imagery have in common."""

from collections.abc import Callable, Iterable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from rhm.data.chips import TargetSample
from rhm.models.build import SegmentationModel
from rhm.models.building_classes import building_logits


class TargetStep(NamedTuple):
    """What a method returns for a batch.

    Attributes:
        logits: (N, K, H, W) float32 outputs of the labelled chips, or None without any.
        loss: scalar loss of the unlabelled chips, before its weight.
    """

    logits: Tensor | None
    loss: Tensor


class TargetMethod(nn.Module):
    """A method that learns from unlabelled chips beside the labelled ones.

    Whatever a method remembers from step to step is part of its ``state_dict``, so that a resumed
    run continues as if it had never stopped. Random numbers come from torch's generator, which is
    seeded for every batch.

    Attributes:
        strong: whether the method needs a second view of the chips, in other colours.
    """

    strong: ClassVar[bool] = False

    def prepare(
        self, model: SegmentationModel, batches: Callable[[int], Iterable[TargetSample]]
    ) -> None:
        """Learn from the network before the first step.

        Args:
            model: network, in training; left as it is.
            batches: function that returns the given number of batches.
        """

    def step(self, model: SegmentationModel, batch: TargetSample) -> TargetStep:
        """Return the logits of the labelled chips and the loss of the unlabelled ones.

        Args:
            model: network in training, through which gradients flow.
            batch: unlabelled chips, beside as many labelled ones if there are any.
        """
        raise NotImplementedError

    def after_batch(self, model: SegmentationModel, *, stepped: bool) -> None:
        """Learn from a batch what is not learned by the gradient of its loss.

        Args:
            model: network after the batch.
            stepped: whether the batch completed an optimiser step; without accumulated gradients,
                every batch does.
        """


def run_both(
    model: SegmentationModel, labelled: Tensor | None, unlabelled: Tensor
) -> tuple[Tensor | None, Tensor]:
    """Return the logits of labelled and unlabelled images from one pass through a network.

    Both go through the network together, so that batch normalisation computes its statistics over
    both domains, as it will use them afterwards.

    Args:
        model: network.
        labelled: (N, bands, H, W) normalised images, or None without any.
        unlabelled: (M, bands, H, W) normalised images.

    Returns:
        Outputs (N, K, H, W), or None, and logits of building (M, 1, H, W), float32.
    """
    images = unlabelled if labelled is None else torch.cat([labelled, unlabelled])
    logits: Tensor = model(images.contiguous(memory_format=torch.channels_last)).float()
    if labelled is None:
        return None, building_logits(logits)
    return logits[: len(labelled)], building_logits(logits[len(labelled) :])


def mean_where(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of the counted values, or zero if none is counted.

    Args:
        values: any shape, float.
        counted: bool of the same shape.
    """
    weight = counted.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp(min=1.0)
