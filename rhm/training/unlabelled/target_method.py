"""What the methods that learn from unlabelled imagery have in common."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from rhm.data.chips import TargetSample
from rhm.models.build import SegmentationModel
from rhm.models.building_classes import building_logits
from rhm.training.unlabelled.batch_statistics import BatchNorm

OWN, RUNNING, SHARED = "own", "running", "shared"
STATISTICS = (OWN, RUNNING, SHARED)
"""What batch normalisation does with unlabelled chips beside labelled ones.

``own`` normalises unlabelled chips by the statistics of their batch, of which none is remembered.
``running`` normalises them as a finished model will, by the running statistics, which are those of
the labelled chips. ``shared`` puts both kinds of chips in one batch with common statistics, which
the finished model uses, too.
"""


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
    model: SegmentationModel, labelled: Tensor | None, unlabelled: Tensor, statistics: str
) -> tuple[Tensor | None, Tensor]:
    """Return the logits of labelled and unlabelled images.

    Args:
        model: network, in training.
        labelled: (N, bands, H, W) normalised images, or None without any.
        unlabelled: (M, bands, H, W) normalised images.
        statistics: one of ``STATISTICS``. Without labelled images it is not used: batch
            normalisation learns from the unlabelled ones.

    Returns:
        Outputs (N, K, H, W), or None, and logits of building (M, 1, H, W), float32.
    """
    if labelled is None:
        return None, building_logits(run(model, unlabelled))
    if statistics == SHARED:
        logits = run(model, torch.cat([labelled, unlabelled]))
        return logits[: len(labelled)], building_logits(logits[len(labelled) :])
    return run(model, labelled), run_apart(model, unlabelled, statistics)


def run(model: SegmentationModel, images: Tensor) -> Tensor:
    """Return the logits (N, K, H, W) float32 of images (N, bands, H, W)."""
    logits: Tensor = model(images.contiguous(memory_format=torch.channels_last))
    return logits.float()


def run_apart(model: SegmentationModel, images: Tensor, statistics: str) -> Tensor:
    """Return the logits of building (N, 1, H, W) float32 of unlabelled images (N, bands, H, W).

    Batch normalisation learns no statistics from them.

    Args:
        model: network, in training.
        images: normalised images.
        statistics: ``OWN`` or ``RUNNING``.
    """
    with _using(model, statistics):
        return building_logits(run(model, images))


@contextmanager
def _using(model: SegmentationModel, statistics: str) -> Iterator[None]:
    """Let batch normalisation that is in training use certain statistics inside the block."""
    layers = [layer for layer in batch_norms(model) if layer.training]
    if statistics == OWN:
        with own_statistics(layers):
            yield
        return
    for layer in layers:
        layer.eval()
    try:
        yield
    finally:
        for layer in layers:
            layer.train()


def batch_norms(model: nn.Module) -> list[BatchNorm]:
    """Return the batch normalisations of a network."""
    return [layer for layer in model.modules() if isinstance(layer, BatchNorm)]


@contextmanager
def own_statistics(layers: Sequence[BatchNorm]) -> Iterator[None]:
    """Let batch normalisations use the statistics of a batch and remember none inside the block."""
    before = [(layer, layer.training, layer.track_running_stats) for layer in layers]
    for layer in layers:
        layer.train()
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer, training, tracking in before:
            layer.train(training)
            layer.track_running_stats = tracking


def mean_where(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of the counted values, or zero if none is counted.

    Args:
        values: any shape, float.
        counted: bool of the same shape.
    """
    weight = counted.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp(min=1.0)
