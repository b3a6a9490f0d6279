"""Calibration of the scores of footprints: from mean probabilities to precisions.

The mean probability of a footprint's pixels says how sure the network is of these pixels, not how
often such a footprint is right. On validation images it is counted how many footprints of each mean
probability match a true building at IoU 0.5. The share of matches, made to rise with the
probability (isotonic regression: Zadrozny, Elkan, Transforming Classifier Scores into Accurate
Multiclass Probability Estimates, KDD 2002), is the calibrated score: the precision of footprints
like this one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rhm.models.expected_iou import ExpectedIoU, out_of_domain

FEWEST = 60
"""Fewest footprints from which a calibration is made."""

_FEWEST_PX = 10_000  # the expected IoU of fewer pixels of buildings says little

_MOST_BINS = 20
_LEAST_IN_BIN = 20

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreCalibration:
    """Counts of footprints in bins of mean probability, and the precisions that follow from them.

    Attributes:
        scores: (bins,) mean of the mean probabilities in each bin, ascending.
        footprints: (bins,) number of footprints.
        correct: (bins,) number of them that match a true building at IoU 0.5.

    Raises:
        ValueError: the fields do not describe bins.
    """

    scores: tuple[float, ...]
    footprints: tuple[int, ...]
    correct: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.scores) == len(self.footprints) == len(self.correct) <= _MOST_BINS:
            raise ValueError(f"score_calibration must have 1 to {_MOST_BINS} bins")
        for name in ("footprints", "correct"):
            if not all(
                type(value) is int and 0 <= value < 1 << 53 for value in getattr(self, name)
            ):
                raise ValueError(f"score_calibration: {name} must be counts")
        scores = np.asarray(self.scores, dtype=np.float64)
        inside = (scores >= 0.0) & (scores <= 1.0)
        if not inside.all() or (np.diff(scores) < 0.0).any():
            raise ValueError("score_calibration: scores must rise from 0 to 1")
        if any(
            not 0 <= c <= n or not n for n, c in zip(self.footprints, self.correct, strict=True)
        ):
            raise ValueError("score_calibration: 1 or more footprints, at most all of them correct")

    @classmethod
    def of(cls, scores: ArrayLike, correct: ArrayLike) -> "ScoreCalibration | None":
        """Count footprints in bins that hold equally many, or return None if they are too few.

        A bin holds more where it ends among equal scores.

        Args:
            scores: (N,) mean probability of each footprint.
            correct: (N,) bool, whether it matches a true building.
        """
        values, right = np.asarray(scores, dtype=np.float64), np.asarray(correct, dtype=bool)
        if len(values) < FEWEST:
            return None
        order = np.argsort(values, kind="stable")
        ranked = values[order]
        parts = np.array_split(ranked, min(_MOST_BINS, len(ranked) // _LEAST_IN_BIN))
        # Equal scores stay together, or the order of the images would decide on their precision.
        ends = np.searchsorted(ranked, [part[-1] for part in parts], side="right")
        bins = np.split(order, np.unique(ends)[:-1])
        return cls(
            tuple(float(np.clip(values[members].mean(), 0.0, 1.0)) for members in bins),
            tuple(len(members) for members in bins),
            tuple(int(right[members].sum()) for members in bins),
        )

    @cached_property
    def precision(self) -> FloatArray:
        """(bins,) precision, which rises with the score."""
        shares = np.asarray(self.correct) / np.asarray(self.footprints)
        # Whoever reads a model file needs no optimiser, and loading it takes half a second.
        optimize = import_module("scipy.optimize")
        weights = np.asarray(self.footprints, np.float64)
        fitted = optimize.isotonic_regression(shares, weights=weights)
        return np.asarray(fitted.x, dtype=np.float64)

    @property
    def total(self) -> int:
        """Number of footprints from which the calibration was made."""
        return sum(self.footprints)

    def __call__(self, scores: Sequence[float] | FloatArray) -> FloatArray:
        """Return the precisions, (N,), that mean probabilities (N,) imply."""
        return np.interp(scores, self.scores, self.precision)


SCORES = {
    "mean probability": "mean probabilities of footprints",
    "precision": "precisions of footprints at IoU 0.5, as in validation",
    "uncertain": "precisions that may be too high: this imagery is unlike that of validation, or "
    "shows too few buildings to tell",
}
"""What the scores of footprints are, by the names that results record."""


def kind_of_scores(home: float | None, here: ExpectedIoU) -> str:
    """Return what calibrated scores are in a scene: a key of ``SCORES``.

    They are not lowered where the model expects to do worse. Mean probabilities fall there by
    themselves, and lowering precisions in proportion to the expected IoU made them worse; see
    docs/predicting.md.

    Args:
        home: expected IoU on the validation chips, or None if the model does not record it.
        here: expected IoU of the scene, with all of its probabilities.
    """
    known = None not in (home, here.value) and here.building_pixels >= _FEWEST_PX
    return "precision" if known and not out_of_domain(home, here.value) else "uncertain"
