"""Linear probes: how well a linear classifier predicts the classes from a layer's features."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rhm.analysis.collapse import class_means
from rhm.analysis.moments import ClassMoments
from rhm.errors import AnalysisError

_RIDGE = 1e-3
_ROUNDING = (8.0 * float(np.finfo(np.float64).eps)) ** 2


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
        return self.score(features, labels)[0]

    def score(
        self, features: NDArray[Any] | Tensor, labels: NDArray[Any] | Tensor
    ) -> tuple[float, float]:
        """Return the balanced accuracy and its standard error for independent samples.

        Args:
            features: (N, D).
            labels: (N,); classes that do not occur are ignored.
        """
        truth = torch.as_tensor(labels).cpu().numpy()
        right = self.predict(features) == truth
        found = [right[truth == k] for k in np.unique(truth)]
        if not found:
            return float("nan"), float("nan")
        shares = np.array([each.mean() for each in found])
        variances = shares * (1.0 - shares) / [len(each) for each in found]
        return float(shares.mean()), float(np.sqrt(variances.sum()) / len(found))


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
