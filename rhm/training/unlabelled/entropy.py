"""Entropy minimisation: predictions on the target are to be as certain as at home."""

import math

from torch import Tensor
from torch.nn import functional

from rhm.data.chips import TargetSample
from rhm.models.build import SegmentationModel
from rhm.training.unlabelled.target_method import (
    OWN,
    TargetMethod,
    TargetStep,
    mean_where,
    run_both,
)


class EntropyMinimisation(TargetMethod):
    """Minimises the mean entropy of the predictions on unlabelled chips.

    This is the direct form, MinEnt, of Vu, Jain, Bucher, Cord, Pérez, "ADVENT: Adversarial entropy
    minimization for domain adaptation in semantic segmentation", CVPR 2019.

    Args:
        statistics: one of ``target_method.STATISTICS``.
    """

    def __init__(self, statistics: str = OWN) -> None:
        super().__init__()
        self._statistics = statistics

    def step(self, model: SegmentationModel, batch: TargetSample) -> TargetStep:
        """Return the logits of the labelled chips and the entropy of the unlabelled ones."""
        target = batch["target"]
        images = batch.get("image"), target["image"]
        labelled, unlabelled = run_both(model, *images, self._statistics)
        return TargetStep(labelled, mean_where(entropy(unlabelled), target["valid"]))


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of each pixel's prediction, from 0 (certain) to 1 (p = 1/2), in bits."""
    # -p log p - (1 - p) log(1 - p) without the logarithm of a probability that rounds to zero.
    return (functional.softplus(logits) - logits * logits.sigmoid()) / math.log(2.0)
