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
    SHARED,
    TargetMethod,
    TargetStep,
    run,
    run_apart,
    run_both,
)


class CorrelationAlignment(TargetMethod):
    """Aligns the covariances of the features of labelled and unlabelled chips.

    Sun, Saenko, "Deep CORAL: Correlation alignment for deep domain adaptation", ECCV Workshops
    2016. Every cell of a feature map is a sample; cells that see nodata are left out.

    Args:
        features: names of the modules whose features are aligned, as in ``rhm.analysis.taps``; the
            losses of several modules are added.
        statistics: one of ``target_method.STATISTICS``.
    """

    def __init__(self, features: Sequence[str], statistics: str = OWN) -> None:
        super().__init__()
        self._statistics = statistics
        self._features = tuple(features)

    def step(self, model: SegmentationModel, batch: TargetSample) -> TargetStep:
        """Return the logits of the labelled chips and the distance of the covariances."""
        target = batch["target"]
        images = batch["image"], target["image"]
        labelled, features = self._features_of(model, *images)
        counted = batch["mask"] != IGNORE, target["valid"]
        losses = [coral(*map(_cells, both, counted)) for both in features]
        return TargetStep(labelled, torch.stack(losses).sum())

    def _features_of(
        self, model: SegmentationModel, labelled: Tensor, unlabelled: Tensor
    ) -> tuple[Tensor | None, list[tuple[Tensor, Tensor]]]:
        """Return the logits of labelled images, and the features of both kinds by module."""
        with Taps(model.network, self._features, graph=True) as first:
            if self._statistics == SHARED:
                logits, _ = run_both(model, labelled, unlabelled, SHARED)
                count = len(labelled)
                return logits, [(each[:count], each[count:]) for each in first.features.values()]
            logits = run(model, labelled)
        with Taps(model.network, self._features, graph=True) as second:
            run_apart(model, unlabelled, self._statistics)
        return logits, [(each, second.features[name]) for name, each in first.features.items()]


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
    """Return the unbiased covariance (d, d) of features (N, d), in their precision."""
    # Autocast would multiply in half precision, where a sum over all cells overflows, and small
    # differences are rounded away.
    with torch.autocast(features.device.type, enabled=False):
        centred = features - features.mean(dim=0)
        return centred.T @ centred / (len(features) - 1)


def _cells(features: Tensor, counted: Tensor) -> Tensor:
    """Return the cells (N, d) float32 of a feature map that see counted pixels only."""
    size = (features.shape[2], features.shape[3])
    kept = functional.adaptive_avg_pool2d(counted.float(), size)[:, 0] > 1.0 - 1e-6
    return features.float().movedim(1, 3)[kept]
