"""Losses for dense prediction that ignore pixels without known truth.

Every loss of building takes logits (N, 1, H, W) float32 and targets (N, 1, H, W) int64 of 0, 1 and
``IGNORE``, and returns a scalar. ``SeparationLoss`` makes of it one for networks with classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional

from rhm.data.labels import IGNORE
from rhm.models.building_classes import building_logits, building_truth


@dataclass(frozen=True)
class LossConfig:
    """The loss function of a run.

    Attributes:
        name: one of ``LOSSES``.
        boundary_weight: additional weight in the cross-entropy of pixels within ``boundary_px`` of
            a building's outline; 0 gives all pixels the same weight.
        boundary_px: reach of that weight on both sides of the outline, in pixels.
        focal_gamma: exponent of the focal loss.
        separation_weight: weight of the cross-entropy of the classes that separate buildings, for
            models that have them.
        tversky_alpha: weight of false positives in the Tversky loss; false negatives have the
            weight ``1 - tversky_alpha``.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str = "bce-dice"
    boundary_weight: float = 0.0
    boundary_px: int = 2
    focal_gamma: float = 2.0
    tversky_alpha: float = 0.3
    separation_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in LOSSES:
            raise ValueError(f"unknown loss '{self.name}': choose {', '.join(LOSSES)}")
        if not 0 <= self.tversky_alpha <= 1:
            raise ValueError("tversky_alpha must be in [0, 1]")
        if not 0 <= self.focal_gamma <= 100:
            raise ValueError("focal_gamma must be in [0, 100]")
        if not 0 <= self.boundary_weight < 1e6 or not 1 <= self.boundary_px <= 64:
            raise ValueError(
                "boundary_weight must be at least 0 and below 1e6, boundary_px from 1 to 64"
            )
        if not 0 < self.separation_weight < 1e6:
            raise ValueError("separation_weight must be above 0 and below 1e6")
        if self.boundary_weight and not self.name.startswith("bce"):
            raise ValueError("boundary_weight works only with the losses bce and bce-dice")


class MaskedCrossEntropy(nn.Module):
    """Binary cross-entropy, averaged with weights over the pixels whose truth is known.

    Args:
        boundary_weight: what is added to the weight 1 of pixels near a building's outline.
        boundary_px: largest distance of these pixels from the outline, in pixels.
    """

    def __init__(self, boundary_weight: float = 0.0, boundary_px: int = 2) -> None:
        super().__init__()
        self.boundary_weight = boundary_weight
        self.boundary_px = boundary_px

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, zero if no pixel's truth is known."""
        known = (target != IGNORE).to(logits.dtype)
        truth = (target == 1).to(logits.dtype)
        weight = known
        if self.boundary_weight:
            near = near_outline(truth, self.boundary_px, known)
            weight = known * (1.0 + self.boundary_weight * near)
        summed = functional.binary_cross_entropy_with_logits(
            logits, truth, weight=weight, reduction="sum"
        )
        return summed / weight.sum().clamp(min=1.0)


class MaskedFocalLoss(nn.Module):
    """The focal loss, averaged over the pixels whose truth is known.

    Pixels of which the probability is already right count less (Lin, Goyal, Girshick, He, Dollar,
    "Focal loss for dense object detection", ICCV 2017, equation 4). That of
    segmentation-models-pytorch is no number where no truth is known, nor are its gradients at
    pixels that are certain if the exponent is between 0 and 1.

    Args:
        gamma: exponent of the probability of the wrong class.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, zero if no pixel's truth is known."""
        known = (target != IGNORE).to(logits.dtype)
        truth = (target == 1).to(logits.dtype)
        entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        wrong = -torch.expm1(-entropy)
        weight = wrong.clamp(min=torch.finfo(wrong.dtype).tiny).pow(self.gamma)
        return (known * weight * entropy).sum() / known.sum().clamp(min=1.0)


class SumOfLosses(nn.Module):
    """The sum of several losses."""

    def __init__(self, *losses: nn.Module) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the sum."""
        parts = [loss(logits, target) for loss in self.losses]
        total: Tensor = sum(parts[1:], start=parts[0])
        return total


class SeparationLoss(nn.Module):
    """The loss of a network with classes: that of building, and the cross-entropy of the classes.

    The first is that of the same network without further classes, so that separation is learned
    beside the building probability and not in place of it.

    Args:
        building: loss of building.
        weight: weight of the cross-entropy.
    """

    def __init__(self, building: nn.Module, weight: float) -> None:
        super().__init__()
        self.building = building
        self.weight = weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        Args:
            logits: (N, K, H, W) of the classes, or (N, 1, H, W) of building, whose loss is then
                the only one.
            target: (N, 1, H, W) int64 classes, and ``IGNORE``.
        """
        loss: Tensor = self.building(building_logits(logits), building_truth(target))
        if logits.shape[1] == 1:
            return loss
        known = (target != IGNORE).sum().clamp(min=1)
        summed = functional.cross_entropy(
            logits, target[:, 0], ignore_index=IGNORE, reduction="sum"
        )
        return loss + self.weight * summed / known


def loss_of(config: LossConfig, classes: Sequence[str]) -> nn.Module:
    """Return the loss of a network with the given classes."""
    loss = LOSSES[config.name](config)
    return loss if len(classes) == 1 else SeparationLoss(loss, config.separation_weight)


def near_outline(truth: Tensor, reach_px: int, known: Tensor) -> Tensor:
    """Return 1 for pixels within ``reach_px`` of an outline, on either side of it, and 0 elsewhere.

    Where a building meets pixels whose truth is unknown, there is no outline.

    Args:
        truth: (N, 1, H, W) float, 0 or 1.
        reach_px: largest chessboard distance from the outline, in pixels.
        known: (N, 1, H, W) float, 1 where the truth is known and 0 elsewhere.
    """
    side = 2 * reach_px + 1
    grown = functional.max_pool2d(truth * known, side, stride=1, padding=reach_px)
    background = functional.max_pool2d((1.0 - truth) * known, side, stride=1, padding=reach_px)
    return grown * background


def _cross_entropy(config: LossConfig) -> nn.Module:
    return MaskedCrossEntropy(config.boundary_weight, config.boundary_px)


def _dice() -> nn.Module:
    return smp.losses.DiceLoss("binary", ignore_index=IGNORE)  # type: ignore[no-any-return]


def _focal(config: LossConfig) -> nn.Module:
    return MaskedFocalLoss(config.focal_gamma)


class TverskyLoss(nn.Module):
    """One minus the Tversky index of all pixels of a batch whose truth is known.

    The index (Salehi, Erdogmus, Gholipour, MLMI 2017) says nothing where no pixel is building, and
    the loss of segmentation-models-pytorch is zero there, so that a network could call anything
    building. There, the loss is the mean probability.

    Args:
        alpha: weight of false positives; that of false negatives is ``1 - alpha``.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.index = smp.losses.TverskyLoss(
            "binary", alpha=alpha, beta=1.0 - alpha, ignore_index=IGNORE
        )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, zero if no pixel's truth is known."""
        loss: Tensor = self.index(logits, target)
        known = (target != IGNORE).to(logits.dtype)
        mean = (logits.sigmoid() * known).sum() / known.sum().clamp(min=1.0)
        return loss + mean * ~(target == 1).any()


def _tversky(config: LossConfig) -> nn.Module:
    return TverskyLoss(config.tversky_alpha)


LOSSES: dict[str, Callable[[LossConfig], nn.Module]] = {
    "bce": _cross_entropy,
    "bce-dice": lambda config: SumOfLosses(_cross_entropy(config), _dice()),
    "focal": _focal,
    "focal-dice": lambda config: SumOfLosses(_focal(config), _dice()),
    "tversky": _tversky,
}
"""Loss functions, by the names that configurations use."""
