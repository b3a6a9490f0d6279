"""Deep CORAL: features of both domains are to have the same second moments."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from rhm.analysis.taps import Taps
from rhm.data.chips import TargetSample
from rhm.data.labels import IGNORE
from rhm.models.build import SegmentationModel
from rhm.training.unlabelled.target_method import (
    OWN,
    TargetMethod,
    TargetStep,
    run_labelled,
    run_unlabelled,
)


class CorrelationAlignment(TargetMethod):
    """Aligns the covariances of the features of labelled and unlabelled chips.

    Sun, Saenko, "Deep CORAL: Correlation alignment for deep domain adaptation", ECCV Workshops
    2016. Every cell of a feature map is a sample; cells that see nodata are left out.

    Args:
        features: names of the modules whose features are aligned, as in ``rhm.analysis.taps``; the
            losses of several modules are added.
    """

    def __init__(self, features: Sequence[str]) -> None:
        super().__init__()
        self._features = tuple(features)

    def step(self, model: SegmentationModel, batch: TargetSample) -> TargetStep:
        """Return the logits of the labelled chips and the distance of the covariances."""
        target = batch["target"]
        with Taps(model.network, self._features, graph=True) as ours:
            labelled = run_labelled(model, batch["image"])
        with Taps(model.network, self._features, graph=True) as theirs:
            run_unlabelled(model, target["image"], OWN)
        losses = [
            coral(
                _cells(ours.features[name], batch["mask"] != IGNORE),
                _cells(theirs.features[name], target["valid"]),
            )
            for name in ours.features
        ]
        return TargetStep(labelled, torch.stack(losses).sum())


def coral(source: Tensor, target: Tensor) -> Tensor:
    """Return ``||C_S - C_T||_F^2 / (4 d^2)`` for the covariances C of two samples.

    Args:
        source: (N, d) features.
        target: (M, d) features.

    Returns:
        The loss, zero if either sample has fewer than two features.
    """
    if min(len(source), len(target)) < 2:
        return 0.0 * (source.sum() + target.sum())
    difference = covariance(source) - covariance(target)
    return difference.square().sum() / (4.0 * source.shape[1] ** 2)


def covariance(features: Tensor) -> Tensor:
    """Return the unbiased covariance (d, d) of features (N, d)."""
    centred = features - features.mean(dim=0)
    return centred.T @ centred / (len(features) - 1)


def _cells(features: Tensor, counted: Tensor) -> Tensor:
    """Return the cells (N, d) float32 of a feature map that see counted pixels only."""
    size = (features.shape[2], features.shape[3])
    kept = functional.adaptive_avg_pool2d(counted.float(), size)[:, 0] > 1.0 - 1e-6
    return features.float().movedim(1, 3)[kept]
