"""The unconstrained feature model on spheres, and gradient descent from any start to collapse.

Features h_i and classifiers w_k are free unit vectors in R^d, and the cross-entropy of the logits
tau <w_k, h_i> is minimised over all of them. This models the last layer of a network with
normalised features whose other layers can produce any feature. Yaras, Wang, Zhu, Balzano, Qu,
"Neural Collapse with Normalized Features", NeurIPS 2022 (arXiv 2209.09211): the minimisers are
collapsed onto a simplex equiangular tight frame (ETF), and every other critical point is a strict
saddle.

Everything is batched: leading axes of a point are independent starts.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rhm.analysis.simplex import FloatArray, simplex_etf
from rhm.errors import ConfigError

_FIRST_STEP = 0.5
_GROWTH, _SHRINKAGE = 1.2, 0.5
_SUFFICIENT_DECREASE = 1e-4


class SpherePoint(NamedTuple):
    """One array for each product of spheres: a point, a gradient or a direction.

    Attributes:
        classifiers: (..., K, d) float64.
        features: (..., N, d) float64.
    """

    classifiers: FloatArray
    features: FloatArray


@dataclass(frozen=True)
class UnconstrainedFeatureModel:
    """The minimised function: mean cross-entropy of tau <w_k, h_i>, with balanced classes.

    Attributes:
        num_classes: number of classes K.
        num_features: width d.
        temperature: temperature tau.
        samples_per_class: samples per class n; there are N = n K features.

    Raises:
        ConfigError: there are fewer than two classes, the width is too small for a simplex or for
            moving on a sphere, the temperature is not above 0, or there is no sample.
    """

    num_classes: int
    num_features: int
    temperature: float = 1.0
    samples_per_class: int = 5

    def __post_init__(self) -> None:
        least = max(2, self.num_classes - 1)
        if self.num_classes < 2:
            raise ConfigError(f"collapse needs at least 2 classes, got {self.num_classes}")
        if self.num_features < least:
            raise ConfigError(
                f"a simplex of {self.num_classes} classes does not fit on a sphere of "
                f"{self.num_features} features: choose at least {least} features"
            )
        if not (math.isfinite(self.temperature) and self.temperature > 0.0):
            raise ConfigError(
                f"temperature must be a finite number greater than 0, got {self.temperature}"
            )
        if self.samples_per_class < 1:
            raise ConfigError(f"samples_per_class must be at least 1, got {self.samples_per_class}")

    @property
    def num_samples(self) -> int:
        """Number of features N."""
        return self.num_classes * self.samples_per_class

    @cached_property
    def labels(self) -> NDArray[np.intp]:
        """Class of each feature (N,), ascending."""
        return np.repeat(np.arange(self.num_classes), self.samples_per_class)

    @cached_property
    def one_hot(self) -> FloatArray:
        """The labels as rows of the identity matrix, (N, K) float64."""
        return np.eye(self.num_classes)[self.labels]

    @property
    def optimum(self) -> float:
        """The minimum of the loss: log(1 + (K - 1) exp(-tau K / (K - 1))), that of the ETF."""
        others = self.num_classes - 1
        return math.log1p(others * math.exp(-self.temperature * self.num_classes / others))


@dataclass(frozen=True)
class UnconstrainedFeatures:
    """Gradient descent from S starts with at most T iterations.

    An iteration is one evaluation of loss and gradient. Converged starts no longer change.

    Attributes:
        model: the minimised model.
        start: starting points (S, K, d) and (S, N, d) with unit rows.
        end: final points, in the same shapes.
        loss: (T + 1, S) float64, not increasing up to rounding.
        gradient_norm: (T + 1, S), in the metric of the descent.
        etf_distance: (T + 1, S), see ``etf_distance``.
        iterations: (S,) iterations until each start had converged; T if it had not.
        converged: (S,) bool.
    """

    model: UnconstrainedFeatureModel
    start: SpherePoint
    end: SpherePoint
    loss: FloatArray
    gradient_norm: FloatArray
    etf_distance: FloatArray
    iterations: NDArray[np.intp]
    converged: NDArray[np.bool_]

    @property
    def collapse(self) -> FloatArray:
        """Largest distance (S,) of a feature from the mean of its class; 0 if collapsed."""
        model, features = self.model, self.end.features
        shape = (-1, model.num_classes, model.samples_per_class, model.num_features)
        grouped = features.reshape(shape)
        spread = np.linalg.norm(grouped - grouped.mean(axis=2, keepdims=True), axis=-1)
        return np.asarray(spread.max(axis=(1, 2)))

    @property
    def alignment(self) -> FloatArray:
        """Largest distance (S,) of a feature from the classifier of its class; 0 if they agree."""
        own = self.end.classifiers[:, self.model.labels]
        return np.asarray(np.linalg.norm(self.end.features - own, axis=-1).max(axis=1))


def etf_distance(classifiers: FloatArray) -> FloatArray:
    """Return the distance (...) of unit vectors (..., K, d) from a simplex ETF.

    The distance is the largest absolute difference between an entry of their Gram matrix and that
    of the ETF: a difference of cosines, from 0 to 1 + 1/(K - 1).
    """
    gram = classifiers @ np.swapaxes(classifiers, -1, -2)
    return np.asarray(np.abs(gram - simplex_etf(classifiers.shape[-2])).max(axis=(-1, -2)))


def normalised(vectors: FloatArray) -> FloatArray:
    """Return (..., d) vectors divided by their lengths: the retraction onto the sphere."""
    return np.asarray(vectors / np.sqrt(np.square(vectors).sum(axis=-1, keepdims=True)))


def tangent(vectors: FloatArray, at: FloatArray) -> FloatArray:
    """Return the part of (..., d) vectors that is orthogonal to the unit vectors ``at``."""
    return np.asarray(vectors - (vectors * at).sum(axis=-1, keepdims=True) * at)


def cross_entropy(
    model: UnconstrainedFeatureModel, point: SpherePoint
) -> tuple[FloatArray, FloatArray]:
    """Return the loss (...) and the residual, predicted minus true probabilities (..., N, K).

    Both have a small relative error, so that losses near 0 can be compared.
    """
    logits = model.temperature * (point.features @ np.swapaxes(point.classifiers, -1, -2))
    own = (logits * model.one_hot).sum(axis=-1, keepdims=True)
    over_own = np.where(model.one_hot > 0.0, -np.inf, logits - own)
    shift = np.maximum(over_own.max(axis=-1, keepdims=True), 0.0)
    others = np.exp(over_own - shift)
    wrong = others.sum(axis=-1, keepdims=True)
    total = np.exp(-shift) + wrong
    loss = (shift + np.log1p(np.expm1(-shift) + wrong)).mean(axis=(-1, -2))
    return np.asarray(loss), (others - model.one_hot * wrong) / total


def riemannian_gradient(model: UnconstrainedFeatureModel, point: SpherePoint) -> SpherePoint:
    """Return the gradient on the product of spheres: the tangential Euclidean gradient."""
    _, residual = cross_entropy(model, point)
    return _riemannian_gradient(model, point, residual)


def random_points(
    model: UnconstrainedFeatureModel, count: int, *, rng: np.random.Generator
) -> SpherePoint:
    """Return ``count`` points drawn uniformly from the product of spheres.

    Raises:
        ConfigError: ``count`` is below 1.
    """
    if count < 1:
        raise ConfigError(f"at least 1 start is needed, got {count}")
    width = model.num_features
    return SpherePoint(
        normalised(rng.standard_normal((count, model.num_classes, width))),
        normalised(rng.standard_normal((count, model.num_samples, width))),
    )


def descend(
    model: UnconstrainedFeatureModel,
    start: SpherePoint,
    *,
    steps: int = 4000,
    tolerance: float = 1e-8,
) -> UnconstrainedFeatures:
    """Minimise by Riemannian gradient descent, from several starts at once.

    Steps follow the negative gradient in the product metric in which a classifier has weight 1/K
    and a feature 1/N, so that both blocks move at the same rate whatever their sizes. Dividing by
    the length returns to the spheres. The step size is determined in every iteration and for every
    start by Armijo's rule (Absil, Mahony, Sepulchre, "Optimization Algorithms on Matrix Manifolds",
    2008, section 4.2), so no step size has to be chosen for a temperature. At very high
    temperatures, loss and gradient vanish far from a simplex, which cannot be distinguished from
    convergence.

    Args:
        model: the model to minimise.
        start: (S, K, d) and (S, N, d), finite and not zero; rows are normalised first.
        steps: maximum number of iterations.
        tolerance: a start has converged if its gradient norm divided by its loss is below this.

    Raises:
        ConfigError: ``steps`` is below 1 or ``tolerance`` is not above 0.
        ValueError: the start has a different shape, or a row without a direction.
    """
    if steps < 1:
        raise ConfigError(f"steps must be at least 1, got {steps}")
    if not tolerance > 0.0:
        raise ConfigError(f"tolerance must be greater than 0, got {tolerance}")
    point = start = _checked_start(model, start)
    loss, gradient, norm = _evaluate(model, point)
    length = np.full(len(loss), _FIRST_STEP)
    curves = [(loss, norm, etf_distance(point.classifiers))]
    iterations = np.full(len(loss), steps)
    converged = norm <= tolerance * loss
    iterations[converged] = 0
    for iteration in range(1, steps + 1):
        if converged.all():
            break
        trial = _step(model, point, gradient, length)
        there = _evaluate(model, trial)
        accepted = ~converged & _descends(model, (loss, norm), (there[0], there[2]), length)
        point, gradient = _chosen(accepted, trial, point), _chosen(accepted, there[1], gradient)
        loss, norm = np.where(accepted, there[0], loss), np.where(accepted, there[2], norm)
        length = length * np.where(accepted, _GROWTH, _SHRINKAGE)
        arrived = ~converged & (norm <= tolerance * loss)
        iterations[arrived] = iteration
        converged |= arrived
        curves.append((loss, norm, etf_distance(point.classifiers)))
    losses, norms, distances = (np.stack(curve) for curve in zip(*curves, strict=True))
    return UnconstrainedFeatures(
        model, start, point, losses, norms, distances, iterations, converged
    )


def _riemannian_gradient(
    model: UnconstrainedFeatureModel, point: SpherePoint, residual: FloatArray
) -> SpherePoint:
    scaled = residual * (model.temperature / model.num_samples)
    return SpherePoint(
        tangent(np.swapaxes(scaled, -1, -2) @ point.features, point.classifiers),
        tangent(scaled @ point.classifiers, point.features),
    )


def _evaluate(
    model: UnconstrainedFeatureModel, point: SpherePoint
) -> tuple[FloatArray, SpherePoint, FloatArray]:
    """Return loss (S,), gradient and its norm (S,), both in the metric of the descent."""
    loss, residual = cross_entropy(model, point)
    plain = _riemannian_gradient(model, point, residual)
    gradient = SpherePoint(
        model.num_classes * plain.classifiers, model.num_samples * plain.features
    )
    squared = (gradient.classifiers * plain.classifiers).sum(axis=(-1, -2))
    squared += (gradient.features * plain.features).sum(axis=(-1, -2))
    return loss, gradient, np.sqrt(squared)


def _step(
    model: UnconstrainedFeatureModel, point: SpherePoint, gradient: SpherePoint, length: FloatArray
) -> SpherePoint:
    each = length[:, None, None]
    return SpherePoint(
        normalised(point.classifiers - each * gradient.classifiers),
        normalised(point.features - each * gradient.features),
    )


def _descends(
    model: UnconstrainedFeatureModel,
    here: tuple[FloatArray, FloatArray],
    there: tuple[FloatArray, FloatArray],
    length: FloatArray,
) -> NDArray[np.bool_]:
    """Return for which starts a step is accepted, from (loss, gradient norm) before and after."""
    (loss, norm), (trial_loss, trial_norm) = here, there
    enough = trial_loss <= loss - _SUFFICIENT_DECREASE * length * norm**2
    # Near the minimum, the decrease is below the rounding error of the loss; the gradient decides.
    rounding = 4.0 * np.finfo(np.float64).eps * (1.0 + model.temperature) * loss
    level = (trial_loss <= loss + rounding) & (trial_norm <= norm)
    return np.asarray(enough | level)


def _chosen(accepted: NDArray[np.bool_], new: SpherePoint, old: SpherePoint) -> SpherePoint:
    each = accepted[:, None, None]
    return SpherePoint(
        np.where(each, new.classifiers, old.classifiers),
        np.where(each, new.features, old.features),
    )


def _checked_start(model: UnconstrainedFeatureModel, start: SpherePoint) -> SpherePoint:
    counts = (model.num_classes, model.num_samples)
    blocks = [np.asarray(block, dtype=np.float64) for block in start]
    for block, count in zip(blocks, counts, strict=True):
        if block.shape != (len(blocks[0]), count, model.num_features) or not len(block):
            raise ValueError(
                f"starts must have shape (S, {count}, {model.num_features}), got {block.shape}"
            )
        if not np.isfinite(block).all() or not block.any(axis=-1).all():
            raise ValueError("a start has vectors that are zero or not finite")
    # Divided by the largest entry first, because squares of extreme lengths overflow float64.
    return SpherePoint(*(normalised(each / np.abs(each).max(-1, keepdims=True)) for each in blocks))
