"""Compression within classes and discrimination between classes, for the features of one layer.

Wang, Li, Yaras, Zhu, Balzano, Hu, Qu, JMLR 26, 2025: from layer to layer, C_l decays
geometrically and D_l grows roughly linearly.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rhm.analysis.collapse import class_means
from rhm.analysis.moments import ClassMoments
from rhm.errors import AnalysisError

WEIGHTING = ("samples", "classes")
"""Whether every sample or every class has the same weight in the spreads."""

_NOISE = float(np.finfo(np.float32).eps)
_ROUNDING = (8.0 * float(np.finfo(np.float64).eps)) ** 2


@dataclass(frozen=True, eq=False)
class Separation:
    """How the features of a layer separate the classes.

    Attributes:
        compression: C_l = tr(Sigma_W) / tr(Sigma_B).
        discrimination: D_l = 1 - the maximum of cos(mu_k, mu_k') over pairs of uncentred class
            means; in [0, 2].
        trace_within: tr(Sigma_W), the mean squared distance of samples from their class mean.
        trace_between: tr(Sigma_B), the mean squared distance of class means from the overall mean.
        cosines: (K, K) cosines between the uncentred class means.
        stable_rank: ||H||_F^2 / ||H||_2^2 of the features H; None without covariance.
        numerical_rank: number of singular values of H above the rounding error of float32, which is
            the largest value times the number of features times epsilon; None without covariance.
    """

    compression: float
    discrimination: float
    trace_within: float
    trace_between: float
    cosines: NDArray[np.float64]
    stable_rank: float | None
    numerical_rank: int | None


def separation(moments: ClassMoments, *, weighting: str = "samples") -> Separation:
    """Return the compression and discrimination of features.

    Args:
        moments: moments of the features.
        weighting: one of ``WEIGHTING``. They agree for classes of equal size, as in the papers.
            Use ``classes`` to compare data sets with different shares of the classes.

    Raises:
        AnalysisError: a class has no samples, there are fewer than two classes, or all class means
            are equal.
        ValueError: the weighting is unknown.
    """
    if weighting not in WEIGHTING:
        raise ValueError(f"unknown weighting '{weighting}': choose {', '.join(WEIGHTING)}")
    means, center = class_means(moments)
    spreads = moments.spreads.cpu().numpy()
    if weighting == "samples":
        within = float(spreads.sum() / moments.samples)
    else:
        center = means.mean(axis=0)
        within = float(np.mean(spreads / moments.counts.cpu().numpy()))
    between = float(np.mean(np.sum((means - center) ** 2, axis=1)))
    rounding = _ROUNDING * float(np.mean(np.sum(means**2, axis=1)))
    if not between > rounding:
        raise AnalysisError("all class means are equal: there is no spread between the classes")
    cosines = _cosines(means)
    others = ~np.eye(len(means), dtype=bool)
    stable, numerical = _ranks(moments)
    return Separation(
        compression=within / between,
        discrimination=float(1.0 - cosines[others].max()),
        trace_within=within,
        trace_between=between,
        cosines=cosines,
        stable_rank=stable,
        numerical_rank=numerical,
    )


def _cosines(means: NDArray[np.float64]) -> NDArray[np.float64]:
    # A mean of zero has no direction; it is treated as orthogonal to the others.
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    units = means / np.where(lengths > 0.0, lengths, 1.0)
    return np.asarray(np.clip(units @ units.T, -1.0, 1.0))


def _ranks(moments: ClassMoments) -> tuple[float | None, int | None]:
    if moments.scatter is None:
        return None, None
    means = moments.means.cpu().numpy()
    weighted = moments.counts.cpu().numpy()[:, None] * means
    squares = np.linalg.eigvalsh(moments.scatter.cpu().numpy() + means.T @ weighted)
    largest = float(squares[-1])
    if not largest > 0.0:
        return 0.0, 0
    # Proportional to the number of features, not of samples as usual: the rank must not decrease
    # because there are more samples.
    tolerance = _NOISE * moments.num_features
    return float(squares.sum() / largest), int(np.sum(squares > tolerance**2 * largest))
