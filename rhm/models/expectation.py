"""What a model expects of itself: an IoU that needs no labels.

Were a model's probabilities p true, then of the pixels that it calls building the sum of p would
be, and of all others the sum of p would be missed. The ratio is an expected IoU. A network is sure
of itself wherever it looks, so the number alone says little; how far it falls from home to a scene
tells the loss there (the analogue for IoU of the difference of confidences of Guillory et al.,
Predicting with Confidence on Unseen Distributions, ICCV 2021). docs/reporting.md says how well.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

NOTABLE = 0.05
"""Fall of the expected IoU from which a scene is called out of the model's domain."""

BYTE_LEVELS = 255
"""Levels of probability stored as a byte: k stands for k / 254."""


def expected_iou(
    pixels: ArrayLike, probability_sums: ArrayLike, called: NDArray[np.bool_]
) -> float | None:
    """Return the IoU that probabilities promise; None where they promise no building at all.

    Args:
        pixels: (bins,) number of pixels, in bins of like probability.
        probability_sums: (bins,) sum of their probabilities.
        called: (bins,) whether they are called building.
    """
    counts, sums = np.asarray(pixels, np.float64), np.asarray(probability_sums, np.float64)
    either = counts[called].sum() + sums[~called].sum()
    return float(sums[called].sum() / either) if either > 0 else None


class ExpectedIoU:
    """The expected IoU of a scene that is seen part by part.

    Args:
        threshold: probability from which a pixel is called building.

    Attributes:
        threshold: the same.
        pixels: (255,) int64, how many have each level of probability so far.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._probability = np.arange(BYTE_LEVELS) / (BYTE_LEVELS - 1)
        self._called = self._probability >= threshold
        self.pixels = np.zeros(BYTE_LEVELS, dtype=np.int64)

    def add(self, probability: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        """Count a part.

        Args:
            probability: floating-point in [0, 1] wherever valid.
            valid: of the same shape, bool.
        """
        levels = np.rint(probability[valid] * np.float32(BYTE_LEVELS - 1)).astype(np.uint8)
        self.pixels += np.bincount(levels, minlength=BYTE_LEVELS)

    def merge(self, other: "ExpectedIoU") -> "ExpectedIoU":
        """Return that of two scenes together, by this one's threshold."""
        both = ExpectedIoU(self.threshold)
        both.pixels = self.pixels + other.pixels
        return both

    @property
    def value(self) -> float | None:
        """The expected IoU of all that was counted; None where no building is promised."""
        return expected_iou(self.pixels, self.pixels * self._probability, self._called)

    @property
    def building_share(self) -> float:
        """The share of counted pixels that are called building."""
        return float(self.pixels[self._called].sum() / max(1, self.pixels.sum()))


def out_of_domain(home: float | None, here: float | None) -> bool:
    """Return whether a model expects notably less of itself here than at home.

    Args:
        home: its expected IoU on its validation chips; None where it does not know.
        here: that on a scene; None where no building is promised.
    """
    return home is not None and here is not None and home - here > NOTABLE
