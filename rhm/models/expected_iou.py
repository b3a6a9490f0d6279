"""The expected IoU: the IoU that a model's probabilities imply, without labels.

If the probabilities p of a model were correct, then the sum of p over the pixels that it predicts
as building would be the expected number of true positives, and the sum of p over all other pixels
the expected number of false negatives. The expected IoU is the first sum divided by the second plus
the number of pixels predicted as building. Networks are confident everywhere, so this number alone
says little. But its difference between the validation chips and a scene indicates the loss of IoU
on the scene (for IoU, the analogue of the difference of confidences of Guillory et al., Predicting
with Confidence on Unseen Distributions, ICCV 2021). docs/reporting.md says how well.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

NOTABLE = 0.05
"""Decrease of the expected IoU above which a scene counts as out of the model's domain."""

LEAST_IMPLIED = 0.25
"""Expected IoU below which probabilities do not tell a threshold. Where there is hardly a building,
the best threshold calls noise building."""

BYTE_LEVELS = 255
"""Number of levels of a probability that is stored as a byte; level k means k / 254."""


def expected_iou(
    pixels: ArrayLike, probability_sums: ArrayLike, called: NDArray[np.bool_]
) -> float | None:
    """Return the IoU that probabilities imply, or None if they imply no building at all.

    Args:
        pixels: (bins,) number of pixels, in bins of similar probability.
        probability_sums: (bins,) sum of the pixels' probabilities.
        called: (bins,) whether the pixels are predicted as building.
    """
    counts, sums = np.asarray(pixels, np.float64), np.asarray(probability_sums, np.float64)
    union = counts[called].sum() + sums[~called].sum()
    return float(sums[called].sum() / union) if union > 0 else None


def best_threshold(
    pixels: ArrayLike, probability_sums: ArrayLike, *, least: float = 0.0
) -> int | None:
    """Return the bin from which calling pixels building gives the highest expected IoU.

    The expected IoU of a threshold rises as long as the pixels below it have a probability above
    ``IoU / (1 + IoU)``, so the best threshold is never above 1/2.

    Args:
        pixels: (bins,) number of pixels, in bins of rising probability.
        probability_sums: (bins,) sum of the pixels' probabilities.
        least: lowest expected IoU with which a threshold is returned.

    Returns:
        The number of the lowest bin to call building; among equals, which have no pixels between
        them, the one nearest to ``IoU / (1 + IoU)``. None if the probabilities imply no building at
        all, or no threshold has the least expected IoU.
    """
    counts, sums = np.asarray(pixels, np.float64), np.asarray(probability_sums, np.float64)
    if not sums.sum() > 0:
        return None
    called, hits = np.cumsum(counts[::-1]), np.cumsum(sums[::-1])
    # Each bin that is left out adds its probable buildings to the union.
    union = called + np.maximum(sums.sum() - hits, 0.0)
    scores = np.divide(hits, union, out=np.zeros_like(hits), where=union > 0)[::-1]
    highest = scores.max()
    if highest < least:
        return None
    equal = np.flatnonzero(scores == highest)
    return int(equal[np.argmin(np.abs(equal - highest / (1.0 + highest) * len(counts)))])


class ExpectedIoU:
    """The expected IoU of a scene that is predicted part by part.

    Args:
        threshold: probability from which a pixel counts as building.

    Attributes:
        threshold: probability from which a pixel counts as building.
        pixels: (255,) int64 number of pixels so far at each level of probability.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._probability = np.arange(BYTE_LEVELS) / (BYTE_LEVELS - 1)
        self._called = self._probability >= threshold
        self.pixels = np.zeros(BYTE_LEVELS, dtype=np.int64)

    def add(self, probability: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        """Count the pixels of one part of the scene.

        Args:
            probability: floating-point probabilities, in [0, 1] where they are valid.
            valid: bool validity, of the same shape.
        """
        levels = np.rint(probability[valid] * np.float32(BYTE_LEVELS - 1)).astype(np.uint8)
        self.pixels += np.bincount(levels, minlength=BYTE_LEVELS)

    def merge(self, other: "ExpectedIoU") -> "ExpectedIoU":
        """Return the expected IoU of both scenes together, with the threshold of this one."""
        both = ExpectedIoU(self.threshold)
        both.pixels = self.pixels + other.pixels
        return both

    @property
    def value(self) -> float | None:
        """The expected IoU of all counted pixels, or None if they imply no building at all."""
        return expected_iou(self.pixels, self.pixels * self._probability, self._called)

    def best_threshold(self) -> float | None:
        """Return the threshold with the highest expected IoU, between two levels of probability.

        None if the counted pixels imply no building at all.
        """
        return self._best_threshold(0.0)

    def implied_threshold(self) -> float | None:
        """Return the threshold with the highest expected IoU, if that is at least LEAST_IMPLIED.

        None if the counted pixels imply too few buildings to choose a threshold by.
        """
        return self._best_threshold(LEAST_IMPLIED)

    def _best_threshold(self, least: float) -> float | None:
        level = best_threshold(self.pixels, self.pixels * self._probability, least=least)
        # A pixel counts at the nearest level, so a level begins halfway below it.
        return None if level is None else max(0.0, (level - 0.5) / (BYTE_LEVELS - 1))

    def threshold_of_share(self, share: float) -> float | None:
        """Return the threshold above which a share of the counted pixels lies, as near as may be.

        Args:
            share: share in (0, 1).

        Returns:
            A threshold between two levels of probability; None if no pixel was counted.
        """
        above = np.cumsum(self.pixels[::-1])[::-1]
        if not above[0]:
            return None
        # Levels that no pixel has give the same share as the next one; the highest is clearest.
        gaps = np.abs(above / above[0] - share)[::-1]
        level = len(gaps) - 1 - int(np.argmin(gaps))
        return max(0.0, (level - 0.5) / (BYTE_LEVELS - 1))

    @property
    def building_share(self) -> float:
        """The share of counted pixels that are predicted as building."""
        return float(self.building_pixels / max(1, self.pixels.sum()))

    @property
    def building_pixels(self) -> int:
        """The number of counted pixels that are predicted as building."""
        return int(self.pixels[self._called].sum())


def out_of_domain(home: float | None, here: float | None) -> bool:
    """Return whether the expected IoU is notably lower on a scene than in validation.

    Args:
        home: expected IoU on the validation chips, or None if the model does not store it.
        here: expected IoU on the scene, or None if its probabilities imply no building at all.
    """
    return home is not None and here is not None and home - here > NOTABLE
