"""Features of one layer in several domains: do two cities share their class means?

A model fails in another city if the features of its buildings differ from those at home. The
functions take the moments of several domains, for the same layer and the same classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rhm.analysis.collapse import class_means
from rhm.analysis.moments import ClassMoments
from rhm.errors import AnalysisError


@dataclass(frozen=True, eq=False)
class DomainShift:
    """How far the class means move from one domain to another.

    Attributes:
        shift: (K,) |mu_k' - mu_k| / s, the distance that each class mean has moved, in units of
            the within-class spread s = sqrt(tr(Sigma_W)) of both domains together.
        gap: (K, K) |mu_k - mu_j| / s, the distances between the classes of the first domain, to
            compare a shift with.
        advance: (K, K); entry (k, j) says how far the mean of class k in the second domain has
            moved from the mean of class k (0) towards that of class j (1) in the first domain.
            From about 0.5, its samples look like class j. Zeros on the diagonal.
    """

    shift: NDArray[np.float64]
    gap: NDArray[np.float64]
    advance: NDArray[np.float64]


def domain_shift(source: ClassMoments, target: ClassMoments) -> DomainShift:
    """Return how far the class means of ``target`` have moved from those of ``source``.

    Raises:
        AnalysisError: a class has no samples in one of the two, or features do not vary within
            any class.
        ValueError: the two domains have different classes or features.
    """
    _check_alike({"source": source, "target": target})
    here, there = class_means(source)[0], class_means(target)[0]
    spread = np.sqrt(np.mean([_within(source), _within(target)]))
    if not spread > 0.0:
        raise AnalysisError("features do not vary within any class, so a shift has no unit")
    moved = there - here
    between = here[None] - here[:, None]
    squares = np.sum(between**2, axis=-1)
    along = np.einsum("kd,kjd->kj", moved, between)
    return DomainShift(
        shift=np.linalg.norm(moved, axis=1) / spread,
        gap=np.sqrt(squares) / spread,
        advance=np.divide(along, squares, out=np.zeros_like(along), where=squares > 0.0),
    )


@dataclass(frozen=True)
class VarianceShares:
    """Sources of a layer's variance, as shares in [0, 1] that add up to 1.

    Attributes:
        classes: explained by the class alone, in the same way in every domain.
        domains: explained by the domain alone, in the same way for every class.
        interaction: explained only by class and domain together: the classes differ in different
            directions in different domains.
        within: remaining variance within each class of each domain.
    """

    classes: float
    domains: float
    interaction: float
    within: float


def variance_shares(moments: Mapping[str, ClassMoments]) -> VarianceShares:
    """Split the variance of a layer into parts due to class, domain, both together, and the rest.

    This is a two-way analysis of variance, summed over the features. Every class of every domain
    has the same weight, so the parts are orthogonal.

    Args:
        moments: moments by domain, of at least two domains.

    Raises:
        AnalysisError: there are fewer than two domains, a class has no samples in one of them,
            or features do not vary at all.
        ValueError: the domains have different classes or features.
    """
    if len(moments) < 2:
        raise AnalysisError("at least two domains are needed for a comparison")
    _check_alike(moments)
    cells = np.stack([class_means(each)[0] for each in moments.values()])
    whole = cells.mean(axis=(0, 1))
    by_class = cells.mean(axis=0) - whole
    by_domain = cells.mean(axis=1) - whole
    both = cells - whole - by_class[None] - by_domain[:, None]
    parts = np.array(
        [
            np.mean(np.sum(by_class**2, axis=-1)),
            np.mean(np.sum(by_domain**2, axis=-1)),
            np.mean(np.sum(both**2, axis=-1)),
            np.mean([_within(each) for each in moments.values()]),
        ]
    )
    if not parts.sum() > 0.0:
        raise AnalysisError("features do not vary at all")
    return VarianceShares(*(float(part) for part in parts / parts.sum()))


def _within(moments: ClassMoments) -> float:
    """Return tr(Sigma_W) with the same weight for every class."""
    return float((moments.spreads / moments.counts).mean())


def _check_alike(moments: Mapping[str, ClassMoments]) -> None:
    if len({tuple(each.means.shape) for each in moments.values()}) > 1:
        raise ValueError("domains with different classes or features cannot be compared")
