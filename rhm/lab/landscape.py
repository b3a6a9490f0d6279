"""Critical points of the unconstrained feature model on spheres: minimisers and strict saddles.

The Riemannian Hessian distinguishes critical points: a minimiser has no direction of descent,
whereas a strict saddle has one, along which descent escapes. According to Yaras et al. (NeurIPS
2022, arXiv 2209.09211), there is no third kind if the width exceeds the number of classes. Saddles
are constructed here from symmetry: the gradient at a vector is invariant under every symmetry of
the loss that fixes the point, so it has no tangential part if these symmetries fix only the line of
the vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rhm.analysis.simplex import FloatArray, simplex_etf
from rhm.errors import ConfigError
from rhm.lab.sphere import (
    SpherePoint,
    UnconstrainedFeatureModel,
    UnconstrainedFeatures,
    cross_entropy,
    descend,
    normalised,
    random_points,
    riemannian_gradient,
    tangent,
)

MODELS = (
    UnconstrainedFeatureModel(3, 2),
    UnconstrainedFeatureModel(4, 8),
    UnconstrainedFeatureModel(10, 9),
    UnconstrainedFeatureModel(10, 16),
    UnconstrainedFeatureModel(10, 16, temperature=5.0),
)
"""Default models of the experiment."""

MAX_DIMENSION = 2000
"""Largest dimension (K + N)(d - 1) of the product of spheres whose Hessian is decomposed."""


@dataclass(frozen=True)
class Curvature:
    """The spectrum of the Riemannian Hessian at one point.

    Attributes:
        eigenvalues: (M,) float64, ascending; M = (K + N)(d - 1), the dimension of the spheres.
        steepest: unit tangent direction of the smallest eigenvalue, (K, d) and (N, d).
    """

    eigenvalues: FloatArray
    steepest: SpherePoint

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue: below 0 at a strict saddle."""
        return float(self.eigenvalues[0])


@dataclass(frozen=True)
class Saddle:
    """A critical point that is not a minimiser, and descents that start beside it.

    Attributes:
        name: description of the point.
        point: (K, d) and (N, d).
        loss: loss at the point.
        gradient_norm: norm of the Riemannian gradient there; 0 up to rounding.
        curvature: curvature of the loss there.
        escape: descents from random points nearby.
    """

    name: str
    point: SpherePoint
    loss: float
    gradient_norm: float
    curvature: Curvature
    escape: UnconstrainedFeatures


@dataclass(frozen=True)
class Landscape:
    """Results for one model.

    Attributes:
        runs: descents from S random starts.
        smallest_eigenvalue: (S,) smallest eigenvalue of the Hessian at their ends; 0 up to
            rounding, because rotating all vectors together changes nothing.
        gap: (S,) smallest eigenvalue without those of such rotations; above 0 if the minimiser is
            unique up to rotation.
        saddles: the critical points that were constructed.
    """

    runs: UnconstrainedFeatures
    smallest_eigenvalue: FloatArray
    gap: FloatArray
    saddles: tuple[Saddle, ...]

    def row(self) -> dict[str, float | int]:
        """Return the numbers for a table, the worst over starts and saddles."""
        model, runs = self.runs.model, self.runs
        return {
            "classes": model.num_classes,
            "width": model.num_features,
            "temperature": model.temperature,
            "starts": len(runs.iterations),
            "converged": int(runs.converged.sum()),
            "iterations": int(runs.iterations.max()),
            "etf_distance": float(runs.etf_distance[-1].max()),
            "collapse": float(runs.collapse.max()),
            "alignment": float(runs.alignment.max()),
            "minimiser_eigenvalue": float(self.smallest_eigenvalue.min()),
            "minimiser_gap": float(self.gap.min()),
            "saddles": len(self.saddles),
            "saddle_gradient": max(each.gradient_norm for each in self.saddles),
            "saddle_eigenvalue": max(each.curvature.smallest for each in self.saddles),
            "escaped_etf_distance": max(
                float(each.escape.etf_distance[-1].max()) for each in self.saddles
            ),
        }


@dataclass(frozen=True)
class SphereExperiment:
    """Result of the experiment.

    Attributes:
        landscapes: one for each model.
        seed: seed of the random starts.
    """

    landscapes: tuple[Landscape, ...]
    seed: int

    def rows(self) -> list[dict[str, Any]]:
        """Return the table, one row for each model."""
        return [each.row() for each in self.landscapes]


def hessian_product(
    model: UnconstrainedFeatureModel, point: SpherePoint, direction: SpherePoint
) -> SpherePoint:
    """Return the Riemannian Hessian applied to a tangent direction.

    This is the tangential part of the product of the Euclidean Hessian and the direction, minus the
    direction times the component of the Euclidean gradient along the vector (Absil, Mahony, Trumpf,
    "An extrinsic look at the Riemannian Hessian", 2013). Leading axes of point and direction
    broadcast.
    """
    (weights, features), (along_weights, along_features) = point, direction
    rate = model.temperature / model.num_samples
    _, residual = cross_entropy(model, point)
    probability = residual + model.one_hot
    moved = features @ np.swapaxes(along_weights, -1, -2)
    moved = moved + along_features @ np.swapaxes(weights, -1, -2)
    centred = moved - (probability * moved).sum(axis=-1, keepdims=True)
    turned = np.swapaxes(model.temperature * probability * centred, -1, -2)
    residual_t = np.swapaxes(residual, -1, -2)
    of_weights = turned @ features + residual_t @ along_features
    of_features = np.swapaxes(turned, -1, -2) @ weights + residual @ along_weights
    weights_bend = ((residual_t @ features) * weights).sum(axis=-1, keepdims=True)
    features_bend = ((residual @ weights) * features).sum(axis=-1, keepdims=True)
    return SpherePoint(
        rate * (tangent(of_weights, weights) - weights_bend * along_weights),
        rate * (tangent(of_features, features) - features_bend * along_features),
    )


def riemannian_hessian(
    model: UnconstrainedFeatureModel, point: SpherePoint, direction: SpherePoint
) -> FloatArray:
    """Return the Hessian's quadratic form along a tangent direction, (...).

    It is the second derivative of the loss along the geodesic in that direction.
    """
    pairs = zip(hessian_product(model, point, direction), direction, strict=True)
    classifiers, features = ((image * along).sum(axis=(-1, -2)) for image, along in pairs)
    return np.asarray(classifiers + features)


def curvature(model: UnconstrainedFeatureModel, point: SpherePoint) -> Curvature:
    """Return the spectrum of the Riemannian Hessian at one point, (K, d) and (N, d).

    Raises:
        ConfigError: the spheres have more than ``MAX_DIMENSION`` dimensions.
    """
    _check_dimension(model)
    vectors = np.concatenate(point)
    bases = _tangent_bases(vectors)
    count, width = vectors.shape
    every = np.zeros((count, width - 1, count, width))
    every[np.arange(count), :, np.arange(count)] = np.swapaxes(bases, -1, -2)
    every = every.reshape(-1, count, width)
    images = hessian_product(
        model, point, SpherePoint(every[:, : model.num_classes], every[:, model.num_classes :])
    )
    # (count, M, d) @ (count, d, d - 1): every image in the coordinates of the tangent bases.
    columns = np.moveaxis(np.concatenate(images, axis=1), 1, 0) @ bases
    hessian = np.moveaxis(columns, 0, 1).reshape(len(every), len(every))
    values, directions = np.linalg.eigh((hessian + hessian.T) / 2.0)
    lowest = (bases @ directions[:, 0].reshape(count, width - 1, 1))[..., 0]
    return Curvature(values, SpherePoint(lowest[: model.num_classes], lowest[model.num_classes :]))


def rotations(model: UnconstrainedFeatureModel) -> int:
    """Return the number of dimensions of the rotations of a simplex in R^d."""
    rank = model.num_classes - 1
    return rank * model.num_features - rank * (rank + 1) // 2


def grouped(model: UnconstrainedFeatureModel, groups: int) -> SpherePoint:
    """Return the point at which groups of classes share the directions of a simplex.

    The point is critical if all groups have the same size, and always if ``groups`` is 2. If
    ``groups`` is 1, it is total collapse; if it is K, it is the minimiser.

    Raises:
        ConfigError: ``groups`` is not from 1 to the number of classes.
    """
    if not 1 <= groups <= model.num_classes:
        raise ConfigError(f"groups must be from 1 to {model.num_classes}, got {groups}")
    directions = np.zeros((groups, model.num_features))
    if groups == 1:
        directions[0, 0] = 1.0
    else:
        values, vectors = np.linalg.eigh(simplex_etf(groups))
        directions[:, : groups - 1] = vectors[:, 1:] * np.sqrt(values[1:])
    return _shared(model, normalised(directions)[np.arange(model.num_classes) % groups])


def polygon(model: UnconstrainedFeatureModel) -> SpherePoint:
    """Return the point at which classes are the corners of a regular polygon in a plane."""
    angles = 2.0 * np.pi / model.num_classes * np.arange(model.num_classes)
    classifiers = np.zeros((model.num_classes, model.num_features))
    classifiers[:, :2] = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return _shared(model, classifiers)


def opposed(model: UnconstrainedFeatureModel) -> SpherePoint:
    """Return the minimiser with every feature opposite to its classifier."""
    best = grouped(model, model.num_classes)
    return SpherePoint(best.classifiers, -best.features)


def saddle_points(model: UnconstrainedFeatureModel) -> dict[str, SpherePoint]:
    """Return known critical points that are not minimisers, by name."""
    classes = model.num_classes
    counts = [n for n in range(1, classes) if classes % n == 0 or n == 2]
    names = {1: "one direction", 2: "two directions"}
    points = {names.get(n, f"{n} directions"): grouped(model, n) for n in counts}
    if classes > 3:
        points["polygon"] = polygon(model)
    return points | {"opposed": opposed(model)}


def beside(
    model: UnconstrainedFeatureModel,
    point: SpherePoint,
    count: int,
    *,
    rng: np.random.Generator,
    distance: float = 1e-3,
) -> SpherePoint:
    """Return ``count`` random points, each vector about ``distance`` from that of ``point``."""
    away = random_points(model, count, rng=rng)
    return SpherePoint(
        normalised(point.classifiers + distance * away.classifiers),
        normalised(point.features + distance * away.features),
    )


def run_sphere(
    models: Sequence[UnconstrainedFeatureModel] = MODELS,
    *,
    starts: int = 20,
    steps: int = 4000,
    seed: int = 0,
) -> SphereExperiment:
    """Descend from random starts and from points beside saddles; compute the final curvature.

    Args:
        models: models to minimise.
        starts: number of random starts for each model, and of points beside each saddle.
        steps: maximum number of iterations.
        seed: seed of the starts.

    Raises:
        ConfigError: there is no model, a model is too large to decompose its Hessian, or ``starts``
            or ``steps`` is below 1.
    """
    if not models:
        raise ConfigError("at least 1 model is needed")
    for model in models:
        _check_dimension(model)
    rng = np.random.default_rng(seed)
    return SphereExperiment(tuple(_explore(model, starts, steps, rng) for model in models), seed)


def _explore(
    model: UnconstrainedFeatureModel, starts: int, steps: int, rng: np.random.Generator
) -> Landscape:
    runs = descend(model, random_points(model, starts, rng=rng), steps=steps)
    ends = [SpherePoint(*each) for each in zip(*runs.end, strict=True)]
    spectra = np.stack([curvature(model, end).eigenvalues for end in ends])
    saddles: list[Saddle] = []
    for name, point in saddle_points(model).items():
        escape = descend(model, beside(model, point, starts, rng=rng), steps=steps)
        gradient = np.concatenate(riemannian_gradient(model, point))
        saddles.append(
            Saddle(
                name,
                point,
                float(cross_entropy(model, point)[0]),
                float(np.linalg.norm(gradient)),
                curvature(model, point),
                escape,
            )
        )
    return Landscape(runs, spectra[:, 0], spectra[:, rotations(model)], tuple(saddles))


def _check_dimension(model: UnconstrainedFeatureModel) -> None:
    dimension = (model.num_classes + model.num_samples) * (model.num_features - 1)
    if dimension > MAX_DIMENSION:
        raise ConfigError(
            f"{model.num_classes} classes of {model.num_features} features and "
            f"{model.samples_per_class} samples have {dimension} dimensions: the Hessian can "
            f"be decomposed up to {MAX_DIMENSION}"
        )


def _shared(model: UnconstrainedFeatureModel, classifiers: FloatArray) -> SpherePoint:
    """Return the point at which every feature equals the classifier of its class."""
    return SpherePoint(classifiers, classifiers[model.labels])


def _tangent_bases(vectors: FloatArray) -> FloatArray:
    """Return orthonormal bases (M, d, d - 1) of the spaces orthogonal to unit vectors."""
    mirror = vectors.copy()
    mirror[:, 0] += np.where(vectors[:, 0] < 0.0, -1.0, 1.0)
    outer = mirror[:, :, None] * mirror[:, None, 1:]
    scale = 2.0 / np.square(mirror).sum(axis=-1)
    # Householder's reflection maps the first axis to the vector, so the others span the rest.
    return np.asarray(np.eye(vectors.shape[1])[:, 1:] - scale[:, None, None] * outer)
