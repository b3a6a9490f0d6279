"""Pseudo-labels of a model's own probabilities, cut where the model expects the best IoU."""

import torch
from torch import Tensor, nn

from rhm.data.labels import IGNORE
from rhm.models.expected_iou import BYTE_LEVELS, ExpectedIoU

_MEMORY = 0.9
"""Share of the counted pixels that is kept from one batch to the next."""


class CalibratedCut(nn.Module):
    """Turns probabilities into labels of building, background and ``IGNORE``.

    What a model calls building away from home drifts, and a cut at 1/2 would make the drift the
    truth. The cut t is the threshold with the highest expected IoU over the probabilities of the
    latest batches, and only pixels that are away from it get a label: building from
    ``t + certainty (1 - t)`` on, and background below ``t - certainty t``.

    Args:
        certainty: share of the way from the cut to 0 and 1 that a probability must go, in [0, 1);
            0 labels every pixel.

    Attributes:
        pixels: (255,) float64 pixels at each level of probability in the latest batches, where
            each batch counts 0.9 times as much as the one after it.
    """

    pixels: Tensor

    def __init__(self, certainty: float) -> None:
        super().__init__()
        self._certainty = certainty
        self.register_buffer("pixels", torch.zeros(BYTE_LEVELS, dtype=torch.float64))

    def forward(self, probability: Tensor, valid: Tensor) -> Tensor:
        """Count the probabilities of a batch, and return their labels.

        Args:
            probability: (N, 1, H, W) probabilities of building.
            valid: (N, 1, H, W) bool; pixels without data are ``IGNORE``.

        Returns:
            (N, 1, H, W) int64 labels.
        """
        levels = (probability[valid] * (BYTE_LEVELS - 1)).round().long()
        counts = torch.bincount(levels, minlength=BYTE_LEVELS)
        self.pixels.mul_(_MEMORY).add_(counts)
        cut = self.threshold
        labels = torch.full_like(probability, IGNORE, dtype=torch.int64)
        labels[valid & (probability < cut - self._certainty * cut)] = 0
        labels[valid & (probability >= cut + self._certainty * (1.0 - cut))] = 1
        return labels

    @property
    def threshold(self) -> float:
        """The cut for the counted pixels, at the lower end of its level; 1/2 before any."""
        counted = ExpectedIoU(0.5)
        counted.pixels = self.pixels.cpu().numpy()
        found = counted.best_threshold()
        return 0.5 if found is None else found
