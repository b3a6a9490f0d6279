"""Neural collapse of the last features: the metrics NC1 to NC4.

Papyan, Han, Donoho, PNAS 2020, with the conventions of Yaras, Wang, Zhu, Balzano, Qu, NeurIPS
2022. Sigma_W is the mean over samples of the scatter about the class means. Sigma_B is the mean
over classes of the scatter of the class means about the mean of all samples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rhm.analysis.moments import ClassMoments
from rhm.analysis.simplex import simplex_etf
from rhm.errors import AnalysisError

_NOISE = 100.0 * float(np.finfo(np.float64).eps)
"""Rounding error of the deviation between equal means, relative to the largest class mean."""


@dataclass(frozen=True)
class Collapse:
    """How close features and classifier are to neural collapse, at which all values are zero.

    Attributes:
        nc1: tr(Sigma_W Sigma_B^+) / K, the variability within the classes; None without
            covariance.
        nc2: distance between the Gram matrix W W^T of the classifier and that of a simplex ETF,
            both of Frobenius norm 1; None without a classifier.
        nc3: the same distance for W M, where M = [mu_1 ... mu_K] are the class means, as in the
            paper; None without a classifier.
        nc3_centered: nc3 with M = [mu_1 - mu_G ... mu_K - mu_G], the other common convention.
        self_duality: distance between W and M^T, both centred over the classes and of Frobenius
            norm 1: the original NC3 of Papyan et al. For two classes, it is the only metric that
            shows whether the classifier points from one mean to the other.
    """

    nc1: float | None
    nc2: float | None = None
    nc3: float | None = None
    nc3_centered: float | None = None
    self_duality: float | None = None


def collapse(
    moments: ClassMoments, classifier_weight: NDArray[Any] | Tensor | None = None
) -> Collapse:
    """Compute NC1 to NC3 from class moments and a classifier.

    Args:
        moments: moments of the features that are the classifier's input.
        classifier_weight: (K, D), one row per class; for K = 2 also (1, D), the row w of a single
            logit, which is equivalent to the rows -w/2 and w/2.

    Raises:
        AnalysisError: a class has no samples, or there are fewer than two classes.
        ValueError: the classifier has a different shape.
    """
    means, center = class_means(moments)
    nc1 = None
    if moments.scatter is not None:
        within = _array(moments.scatter) / moments.samples
        nc1 = _variability(within, means - center, _NOISE * float(np.abs(means).max()))
    if classifier_weight is None:
        return Collapse(nc1)
    rows = _rows(classifier_weight, means.shape)
    return Collapse(
        nc1,
        nc2=_distance_to_simplex(rows @ rows.T),
        nc3=_distance_to_simplex(rows @ means.T),
        nc3_centered=_distance_to_simplex(rows @ (means - center).T),
        self_duality=_distance(rows - rows.mean(axis=0), means - means.mean(axis=0)),
    )


def simplex(num_classes: int) -> NDArray[np.float64]:
    """Return the Gram matrix (K, K) of a simplex ETF, with Frobenius norm 1.

    This is ``sqrt(1 / (K - 1)) (I - 1 1^T / K)``.

    Raises:
        ConfigError: there are fewer than two classes.
    """
    gram = simplex_etf(num_classes)
    return np.asarray(gram / np.linalg.norm(gram))


def class_means(moments: ClassMoments) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the class means (K, D) and the mean of all samples (D,), float64.

    Raises:
        AnalysisError: a class has no samples, or there are fewer than two classes.
    """
    counts = _array(moments.counts)
    if moments.num_classes < 2:
        raise AnalysisError("collapse and separation need at least two classes")
    if not counts.all():
        missing = ", ".join(str(k) for k in np.flatnonzero(counts == 0))
        raise AnalysisError(f"there are no samples of class {missing}")
    means = _array(moments.means)
    return means, np.asarray(counts @ means / counts.sum())


@dataclass(frozen=True)
class Disagreement:
    """Number of samples on which the classifier and the nearest class mean disagree: NC4.

    Values of several batches can be added.

    Attributes:
        samples: number of samples that were compared.
        disagreed: number of samples on which the two disagree.
    """

    samples: int = 0
    disagreed: int = 0

    def __add__(self, other: "Disagreement") -> "Disagreement":
        return Disagreement(self.samples + other.samples, self.disagreed + other.disagreed)

    @property
    def nc4(self) -> float:
        """The share of samples on which they disagree, in [0, 1]; NaN if there are none."""
        return self.disagreed / self.samples if self.samples else float("nan")


def nearest_mean_disagreement(
    moments: ClassMoments,
    features: NDArray[Any] | Tensor,
    classifier: Callable[[Tensor], Tensor],
) -> Disagreement:
    """Compare a classifier with the nearest class mean on a batch.

    NC4 is the only metric that moments alone do not determine. Once the class means are known, it
    needs the features a second time, or a sample of them.

    Args:
        moments: moments that contain the class means.
        features: (N, D).
        classifier: function from features (N, D) to logits (N, K), or (N, 1) for K = 2.

    Raises:
        AnalysisError: a class has no samples.
        ValueError: the logits have a different shape.
    """
    class_means(moments)
    rows = torch.as_tensor(features)
    with torch.no_grad():
        logits = classifier(rows)
    if logits.shape == (len(rows), 1) and moments.num_classes == 2:
        logits = torch.cat([-logits, logits], dim=1)
    if logits.shape != (len(rows), moments.num_classes):
        raise ValueError(f"expected logits (N, {moments.num_classes}), got {tuple(logits.shape)}")
    nearest = torch.cdist(rows.double(), moments.means.to(rows.device)).argmin(dim=1)
    return Disagreement(len(rows), int((nearest != logits.argmax(dim=1)).sum()))


def _variability(
    within: NDArray[np.float64], deviations: NDArray[np.float64], noise: float
) -> float:
    """Return tr(Sigma_W Sigma_B^+) / K from the deviations (K, D) of the class means."""
    # With the deviations A = U S V^T, Sigma_B^+ = K V S^-2 V^T: no D x D matrix is inverted.
    _, lengths, directions = np.linalg.svd(deviations, full_matrices=False)
    # Weighted by their samples, the deviations add up to zero, so they span K - 1 directions.
    present = lengths > noise * np.sqrt(deviations.shape[1])
    present[len(deviations) - 1 :] = False
    if not present.any():
        raise AnalysisError("all class means are equal: there is no spread between the classes")
    along = np.einsum("kd,de,ke->k", directions[present], within, directions[present])
    return float(np.sum(along / lengths[present] ** 2))


def _rows(weight: NDArray[Any] | Tensor, shape: tuple[int, ...]) -> NDArray[np.float64]:
    rows = _array(torch.as_tensor(weight).double())
    if rows.shape == (1, shape[1]) and shape[0] == 2:
        rows = np.concatenate([-rows, rows]) / 2.0
    if rows.shape != shape:
        raise ValueError(f"expected a classifier {shape}, got {rows.shape}")
    return rows


def _distance_to_simplex(gram: NDArray[np.float64]) -> float:
    return _distance(gram, simplex(len(gram)))


def _distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the distance between two matrices, both scaled to Frobenius norm 1."""
    sizes = np.linalg.norm(one), np.linalg.norm(other)
    if not min(sizes) > 0.0:
        raise AnalysisError("the classifier is zero on the class means")
    return float(np.linalg.norm(one / sizes[0] - other / sizes[1]))


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.asarray(tensor.detach().cpu().numpy())
