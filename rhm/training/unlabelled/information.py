"""Information maximisation: sure predictions whose mean is the expected share of buildings."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from rhm.data.chips import TargetSample
from rhm.models.build import SegmentationModel
from rhm.models.building_classes import building_logits
from rhm.training.unlabelled.entropy import entropy
from rhm.training.unlabelled.target_method import TargetMethod, TargetStep, mean_where, run

_BATCHES = 8
_EPSILON = 1e-6


class InformationMaximisation(TargetMethod):
    """Minimises the entropy of each prediction, but keeps the share of buildings.

    Liang, Hu, Feng, "Do we really need to access the source data? Source hypothesis transfer for
    unsupervised domain adaptation" (SHOT), ICML 2020, without its pseudo-labels. There, the mean
    prediction is drawn towards equal classes, and entropy alone would let one class win. Buildings
    are a minority, so the mean is drawn towards the expected share instead: the loss adds the
    Kullback-Leibler divergence of the mean from it, in bits. A share of 1/2 is the loss of the
    paper, up to a constant.

    Args:
        building_share: expected share of building pixels; None for the mean probability of the
            network before the first step.
    """

    share: Tensor

    def __init__(self, building_share: float | None) -> None:
        super().__init__()
        self._measured = building_share is None
        self.register_buffer(
            "share", torch.tensor(0.5 if building_share is None else building_share)
        )

    def prepare(
        self, model: SegmentationModel, batches: Callable[[int], Iterable[TargetSample]]
    ) -> None:
        """Measure the mean probability of a network on the first batches."""
        if not self._measured:
            return
        training = model.training
        model.eval()
        sums, pixels = 0.0, 0
        with torch.no_grad():
            for batch in batches(_BATCHES):
                valid = batch["target"]["valid"]
                logits = building_logits(run(model, batch["target"]["image"]))
                sums += float(logits.sigmoid()[valid].double().sum())
                pixels += int(valid.sum())
        model.train(training)
        if pixels:
            self.share.fill_(sums / pixels)

    def step(self, model: SegmentationModel, batch: TargetSample) -> TargetStep:
        """Return the loss of the unlabelled chips; there are no others."""
        target = batch["target"]
        unlabelled = building_logits(run(model, target["image"]))
        sure = mean_where(entropy(unlabelled), target["valid"])
        mean = mean_where(unlabelled.sigmoid(), target["valid"])
        return TargetStep(None, sure + divergence(mean, self.share))


def divergence(mean: Tensor, share: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of a Bernoulli mean from a share, in bits."""
    p, q = (each.clamp(_EPSILON, 1.0 - _EPSILON) for each in (mean, share))
    return p * torch.log2(p / q) + (1.0 - p) * torch.log2((1.0 - p) / (1.0 - q))
