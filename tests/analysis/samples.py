"""Features and labels to take statistics of."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.analysis import ClassMoments

Array = NDArray[Any]


def moments_of(
    features: Array, labels: Array, classes: int | None = None, **options: Any
) -> ClassMoments:
    moments = ClassMoments(classes or int(labels.max()) + 1, features.shape[1], **options)
    moments.update(features, labels)
    return moments


def blobs(
    classes: int = 4, features: int = 6, per_class: int = 30, *, seed: int = 0, spread: float = 1.0
) -> tuple[Array, Array]:
    """Samples around random class means, classes of different sizes."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class + np.arange(classes))
    means = 3.0 * rng.normal(size=(classes, features)) + 1.0
    return means[labels] + spread * rng.normal(size=(len(labels), features)), labels


def layers(inputs: Array, weights: Array) -> list[Array]:
    """The input and the features of each layer, float64."""
    features = [inputs.astype(np.float64)]
    for weight in weights.astype(np.float64):
        features.append(np.maximum(features[-1] @ weight.T, 0.0))
    return features
