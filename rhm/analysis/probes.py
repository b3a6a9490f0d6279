"""Linear probes: how well a linear classifier predicts the classes from a layer's features."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from rhm.analysis.collapse import class_means
from rhm.analysis.moments import ClassMoments
from rhm.errors import AnalysisError

_RIDGE = 1e-3
_FEWEST_GROUPS = 1.5
_ROUNDING = (8.0 * float(np.finfo(np.float64).eps)) ** 2


@dataclass(frozen=True, eq=False)
class ProbeScore:
    """The balanced accuracy of a probe, and what each group of samples adds to it.

    Attributes:
        accuracy: mean over the classes of the share of correctly predicted samples, in [0, 1]; NaN
            without samples.
        deviations: (G,) deviation of the accuracy that is due to each group, to first order; they
            add up to zero. Those of two probes of the same groups can be subtracted.
        groups: effective number of groups: that of as many equally large ones, for the class with
            the fewest (Kish's). With one, nothing tells how groups differ.
    """

    accuracy: float
    deviations: NDArray[np.float64]
    groups: float

    @property
    def error(self) -> float:
        """Standard error of the accuracy over groups; NaN with hardly more than one."""
        return _standard_error(self.deviations, self.groups)


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A ridge classifier.

    Attributes:
        weight: (K, D).
        bias: (K,).
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def predict(self, features: NDArray[Any] | Tensor) -> NDArray[np.int64]:
        """Return the predicted class (N,) of each sample of features (N, D)."""
        rows = torch.as_tensor(features).detach().double().cpu().numpy()
        return np.asarray((rows @ self.weight.T + self.bias).argmax(axis=1))

    def balanced_accuracy(
        self, features: NDArray[Any] | Tensor, labels: NDArray[Any] | Tensor
    ) -> float:
        """Return the mean over classes of the share of correctly predicted samples.

        Args:
            features: (N, D).
            labels: (N,); classes that do not occur are ignored.

        Returns:
            A share in [0, 1]; NaN if there are no samples.
        """
        count = len(torch.as_tensor(labels))
        return self.score(features, labels, np.arange(count)).accuracy

    def score(
        self,
        features: NDArray[Any] | Tensor,
        labels: NDArray[Any] | Tensor,
        groups: NDArray[Any] | Tensor,
    ) -> ProbeScore:
        """Return the balanced accuracy, and what each group of samples adds to it.

        Samples of one group, such as the cells of an image, are alike, so that only groups count
        as independent.

        Args:
            features: (N, D).
            labels: (N,); classes that do not occur are ignored.
            groups: (N,) number of the group of each sample, from 0; numbers that do not occur
                between others are groups without samples.
        """
        truth, owner = (torch.as_tensor(each).cpu().numpy() for each in (labels, groups))
        right = self.predict(features) == truth
        classes = np.unique(truth)
        if not len(classes):
            return ProbeScore(float("nan"), np.empty(0), 0.0)
        shares, deviations, effective = [], np.zeros(owner.max() + 1), np.inf
        for each in classes:
            of_class = truth == each
            share = right[of_class].mean()
            beyond = np.where(of_class, right - share, 0.0)
            deviations += np.bincount(owner, beyond, len(deviations)) / of_class.sum()
            shares.append(share)
            sizes = np.bincount(owner[of_class])
            effective = min(effective, float(sizes.sum() ** 2 / np.square(sizes).sum()))
        return ProbeScore(float(np.mean(shares)), deviations / len(classes), effective)


def linear_probe(moments: ClassMoments, *, ridge: float = _RIDGE) -> LinearProbe:
    """Return the ridge classifier of features in closed form, from their moments alone.

    One-hot labels are regressed on the features. All class means have the same weight, however many
    samples a class has; the spread about them is that of all samples. The penalty is ``ridge``
    times the mean variance of a feature.

    Args:
        moments: moments with covariance.
        ridge: strength of the penalty, above 0.

    Raises:
        AnalysisError: a class has no samples, there are fewer than two classes, or the features do
            not vary.
        ValueError: the moments have no covariance, or the ridge is not above 0.
    """
    if moments.scatter is None:
        raise ValueError("a linear probe needs moments with covariance")
    if not ridge > 0.0:
        raise ValueError(f"ridge must be above 0, got {ridge}")
    means, _ = class_means(moments)
    classes = len(means)
    center = means.mean(axis=0)
    deviations = means - center
    covariance = moments.scatter.cpu().numpy() / moments.samples
    covariance += deviations.T @ deviations / classes
    mean_variance = float(np.trace(covariance)) / moments.num_features
    if not mean_variance > _ROUNDING * float(np.mean(means**2)):
        raise AnalysisError("features do not vary, so a probe cannot classify them")
    penalty = ridge * mean_variance
    regular = covariance + penalty * np.eye(moments.num_features)
    weight = np.linalg.solve(regular, deviations.T).T / classes
    return LinearProbe(weight, 1.0 / classes - weight @ center)


def clear_lead(pairs: Sequence[tuple[ProbeScore, ProbeScore]], choices: int) -> float:
    """Return the lead of the best of several probes that chance gives in 2.5 % of all cases.

    Both probes of a pair are tested on samples of the same groups, and what each group adds to
    their difference tells how much of it is chance (Student's t). The lead is averaged over pairs.
    Because the best of several is the one that was lucky, the level is divided by their number
    (Bonferroni).

    Args:
        pairs: scores of two probes in each domain.
        choices: number of probes of which the first ones were the best.

    Returns:
        A difference of balanced accuracies; NaN if a class of a domain has hardly more than one
        group.
    """
    errors, freedom = [], 0.0
    for one, other in pairs:
        count = max(len(one.deviations), len(other.deviations))
        ours, theirs = (
            np.pad(each.deviations, (0, count - len(each.deviations))) for each in (one, other)
        )
        groups = min(one.groups, other.groups)
        errors.append(_standard_error(ours - theirs, groups))
        freedom += groups - 1.0
    error = math.hypot(*errors) / len(pairs)
    if math.isnan(error):
        return error
    return float(stats.t.isf(0.025 / max(choices, 1), freedom) * error)


def _standard_error(deviations: NDArray[np.float64], groups: float) -> float:
    if groups < _FEWEST_GROUPS:
        return float("nan")
    return float(np.sqrt(np.square(deviations).sum() * groups / (groups - 1.0)))
