"""Networks with non-linear and linear layers, on a task that needs non-linear ones.

Wang et al. (JMLR 26, 2025) compare a multilayer perceptron with a hybrid network whose last layers
are linear. In both, the features separate progressively from layer to layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rhm.errors import ConfigError
from rhm.lab.layer_statistics import LayerStatistics, layer_statistics
from rhm.lab.seeds import part_seed

_CLASSES, _CLUSTERS, _INPUTS, _WIDTH = 4, 16, 10, 64
_SPREAD = 0.3
_LEARNING_RATE = 1e-3
_LINEAR_GAIN = 0.5


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network of ``layers`` hidden layers, of which the first ``nonlinear`` have a ReLU.

    Attributes:
        layers: number of hidden layers; a linear classifier follows.
        nonlinear: number of hidden layers, from the first, that have a ReLU.
        loss: half the mean squared error over samples at the end of training.
        statistics: statistics of the features of the training samples by layer, starting with the
            input. Lines are fitted to the linear layers and their input, or to all layers if none
            is linear.
    """

    layers: int
    nonlinear: int
    loss: float
    statistics: LayerStatistics


def clustered_classes(per_class: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw samples of 4 classes in 10 dimensions that are not linearly separable.

    Each class has 16 clusters, whose centres have mean zero. The seed determines the clusters, and
    then ``per_class`` samples of each class are drawn.

    Returns:
        Samples (N, 10) float32 and labels (N,) int64.
    """
    generator = torch.Generator().manual_seed(part_seed(seed, "data"))
    centers = torch.randn(_CLASSES, _CLUSTERS, _INPUTS, generator=generator)
    centers -= centers.mean(dim=1, keepdim=True)
    labels = torch.arange(_CLASSES).repeat_interleave(per_class)
    clusters = torch.randint(_CLUSTERS, labels.shape, generator=generator)
    noise = _SPREAD * torch.randn(len(labels), _INPUTS, generator=generator)
    return centers[labels, clusters] + noise, labels


def train_network(
    *,
    layers: int = 7,
    nonlinear: int = 3,
    gain: float = 0.7,
    per_class: int = 200,
    steps: int = 1500,
    seed: int = 0,
) -> TrainedNetwork:
    """Train a network on clustered classes with full-batch Adam, and analyse its layers.

    Args:
        layers: number of hidden layers, of width 64.
        nonlinear: number of hidden layers, from the first, that have a ReLU.
        gain: every singular value of the initial weights of layers with a ReLU. With sqrt(2),
            which preserves the size of the features, layers hardly have to change, and D_l stays
            flat; the authors start smaller.
        per_class: samples of each class for training, and also for testing linear probes.
        steps: training steps.
        seed: seed of data and initial weights.

    Raises:
        ConfigError: a setting is out of range.
    """
    if not 0 <= nonlinear <= layers or layers < 2 or per_class < 2 or steps < 1:
        raise ConfigError(
            f"layers {layers} and per_class {per_class} must be at least 2, steps {steps} at "
            f"least 1, and nonlinear {nonlinear} from 0 to the number of layers"
        )
    if not 0.0 < gain < math.inf:
        raise ConfigError(f"gain {gain} must be a number greater than 0")
    samples, labels = clustered_classes(2 * per_class, seed=seed)
    train = torch.arange(len(labels)) % 2 == 0
    weights = _initial_weights(layers, nonlinear, gain, seed)
    loss = _fit(weights, nonlinear, samples[train], labels[train], steps)
    with torch.no_grad():
        features = _features(weights[:-1], nonlinear, samples)
    return TrainedNetwork(
        layers=layers,
        nonlinear=nonlinear,
        loss=loss,
        statistics=layer_statistics(
            [layer[train] for layer in features],
            labels[train],
            first_fitted=nonlinear if nonlinear < layers - 1 else 1,
            held_out=([layer[~train] for layer in features], labels[~train]),
        ),
    )


def _initial_weights(layers: int, nonlinear: int, gain: float, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(part_seed(seed, "weights"))
    widths = [_INPUTS, *[_WIDTH] * layers, _CLASSES]
    weights = []
    for layer in range(layers + 1):
        weight = torch.empty(widths[layer + 1], widths[layer])
        # Small linear layers follow the theory.
        scale = gain if layer < nonlinear else _LINEAR_GAIN
        torch.nn.init.orthogonal_(weight, gain=scale, generator=generator)
        weights.append(weight.requires_grad_())
    return weights


def _features(weights: Sequence[Tensor], nonlinear: int, samples: Tensor) -> list[Tensor]:
    features = [samples]
    for number, weight in enumerate(weights):
        layer = features[-1] @ weight.T
        features.append(layer.relu() if number < nonlinear else layer)
    return features


def _fit(
    weights: list[Tensor], nonlinear: int, samples: Tensor, labels: Tensor, steps: int
) -> float:
    truth = torch.nn.functional.one_hot(labels, _CLASSES).to(samples)
    optimizer = torch.optim.Adam(weights, lr=_LEARNING_RATE)

    def loss() -> Tensor:
        errors = _features(weights, nonlinear, samples)[-1] - truth
        return 0.5 * errors.square().sum(dim=1).mean()

    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return float(loss().detach())
