"""Progressive separation: each layer of a trained deep linear network separates the classes more.

Wang, Li, Yaras, Zhu, Balzano, Hu, Qu, "Understanding Deep Representation Learning via Layerwise
Feature Compression and Discrimination", JMLR 26, 2025 (arXiv 2311.02960): if training on nearly
orthogonal data ends at weights of minimum norm that are balanced and approximately of low rank, C_l
decays geometrically and D_l grows at least linearly with l.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rhm.adapters.descent import DenseResidual, descend
from rhm.adapters.weights import chain, orthogonal_weights
from rhm.errors import ConfigError
from rhm.lab.hybrid_networks import TrainedNetwork, train_network
from rhm.lab.layer_statistics import LayerStatistics, layer_statistics
from rhm.lab.seeds import part_seed

_CHECK_EVERY = 20

_STARTS = ((0.1, 100.0, 0.1), (0.2, 1.0, 1.0), (0.3, 1.0, 1.0), (0.5, 1.0, 1.0))
"""Default networks: init_scale, output_scale, step_size."""

SHARED = 0.15
"""Length of what all samples of the experiment's further data share; D_0 is about 0.8."""

_SHARED_START = _STARTS[2]


@dataclass(frozen=True, eq=False)
class DeepLinearSeparation:
    """A deep linear network of L layers, trained to classify K classes.

    Attributes:
        init_scale: every singular value of the initial weights.
        output_scale: factor that the network's output was multiplied by.
        steps: number of steps of gradient descent.
        loss: ``1/2 mean over samples |W_L ... W_1 x - y|^2`` at the end.
        statistics: statistics of the inputs and of the features of layers 1 to L - 1.
        minimum_norm_residual: ``||W_L ... W_1 - Y X^+||_F / ||Y X^+||_F``.
        imbalance: (L - 1,) ``||W_l W_l^T - W_{l+1}^T W_{l+1}||_F``; about
            ``init_scale^2 sqrt(d - K)`` for the last pair, because the last weight has K rows.
        middle_spread: (L - 1,) range of the d - 2K most similar singular values of each layer
            except the last.
    """

    init_scale: float
    output_scale: float
    steps: int
    loss: float
    statistics: LayerStatistics
    minimum_norm_residual: float
    imbalance: NDArray[np.float64]
    middle_spread: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LinearSeparation:
    """Result of the experiment; each network is trained once for each seed.

    Attributes:
        linear: deep linear networks by initial scale, in ascending order, and then by seed.
        shared: deep linear networks on classes that share a mean.
        hybrid: networks of non-linear layers followed by linear ones.
        perceptron: networks with only non-linear layers.
    """

    linear: tuple[tuple[DeepLinearSeparation, ...], ...]
    shared: tuple[DeepLinearSeparation, ...]
    hybrid: tuple[TrainedNetwork, ...]
    perceptron: tuple[TrainedNetwork, ...]


def nearly_orthogonal_data(
    num_classes: int,
    per_class: int,
    width: int,
    *,
    noise: float = 0.2,
    shared: float = 0.0,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Draw orthonormal samples, and add noise of expected length ``noise`` to each.

    Args:
        num_classes: number of classes K.
        per_class: number of samples of each class.
        width: number of dimensions.
        noise: expected length of the noise.
        shared: length of a vector that is orthogonal to all samples and added to each of them, for
            which there must be a dimension more than samples. Class means of orthonormal samples
            are orthogonal, D_0 = 1; with a shared part they begin closer together.
        seed: seed of samples and noise.

    Returns:
        Samples (N, width) float64, and labels (N,) int64.

    Raises:
        ConfigError: there are fewer than two classes or more samples than dimensions, or the noise
            or the shared part is negative or not finite.
    """
    samples = num_classes * per_class
    if num_classes < 2 or per_class < 1 or samples > width:
        raise ConfigError(
            f"{num_classes} classes of {per_class} samples do not fit {width} orthogonal "
            "directions: choose at least 2 classes, and no more samples than directions"
        )
    for name, length in (("noise", noise), ("shared", shared)):
        if not 0.0 <= length < math.inf:
            raise ConfigError(f"{name} {length} must be a number of at least 0")
    if shared and samples == width:
        raise ConfigError(f"a shared part needs more directions than the {samples} samples")
    generator = torch.Generator().manual_seed(part_seed(seed, "data"))
    drawn = torch.randn(width, samples, generator=generator, dtype=torch.float64)
    moved = torch.randn(samples, width, generator=generator, dtype=torch.float64)
    labels = torch.arange(num_classes).repeat_interleave(per_class)
    if shared:
        common = torch.randn(width, 1, generator=generator, dtype=torch.float64)
        directions = torch.linalg.qr(torch.cat([drawn, common], dim=1)).Q.T
        orthogonal = directions[:-1] + shared * directions[-1]
    else:
        orthogonal = torch.linalg.qr(drawn).Q.T
    return orthogonal + noise / math.sqrt(width) * moved, labels


def separate(
    samples: Tensor,
    labels: Tensor,
    *,
    depth: int = 6,
    init_scale: float = 0.3,
    output_scale: float = 1.0,
    step_size: float = 1.0,
    stop_loss: float = 1e-8,
    max_steps: int = 30_000,
    seed: int = 0,
) -> DeepLinearSeparation:
    """Train a deep linear network by full-batch gradient descent, and analyse its layers.

    Args:
        samples: (N, d) float64; hidden layers have width d.
        labels: (N,) int64 from 0; every class occurs.
        depth: number of layers L, at least 3, so that a line can be fitted to hidden layers.
        init_scale: every singular value of the initial weights.
        output_scale: factor that the network's output is multiplied by; without it, training
            stalls from a small start.
        step_size: step size of gradient descent on half the mean squared error of a sample.
        stop_loss: loss below which to stop.
        max_steps: maximum number of steps.
        seed: seed of the initial weights.

    Raises:
        ConfigError: a setting is out of range, or gradient descent diverged.
        AnalysisError: a class has no samples.
    """
    if depth < 3 or max_steps < 1 or not (output_scale > 0.0 and step_size > 0.0):
        raise ConfigError(
            f"depth {depth} must be at least 3, max_steps {max_steps} at least 1, output_scale "
            f"{output_scale} and step_size {step_size} greater than 0"
        )
    inputs, classes = samples.T.contiguous(), int(labels.max()) + 1
    truth = torch.nn.functional.one_hot(labels, classes).T.to(inputs)
    weights = orthogonal_weights(
        [len(inputs)] * depth + [classes],
        init_scale,
        generator=torch.Generator().manual_seed(part_seed(seed, "weights")),
        dtype=inputs.dtype,
    )
    # s f(x) - y equals s times (f(x) - y / s).
    scaled = truth / output_scale
    rate = step_size * output_scale**2
    taken, loss = _train(weights, inputs, scaled, rate, stop_loss / output_scale**2, max_steps)
    features = [inputs]
    for weight in weights[:-1]:
        features.append(weight @ features[-1])
    return DeepLinearSeparation(
        init_scale=init_scale,
        output_scale=output_scale,
        steps=taken,
        loss=loss * output_scale**2,
        statistics=layer_statistics([layer.T for layer in features], labels),
        minimum_norm_residual=_minimum_norm_residual(weights, inputs, scaled),
        imbalance=_imbalance(weights),
        middle_spread=_middle_spread(weights[:-1], classes),
    )


def run_linear_separation(
    *,
    num_classes: int = 3,
    per_class: int = 10,
    width: int = 50,
    depth: int = 6,
    network_steps: int = 1500,
    seeds: int = 5,
    seed: int = 0,
) -> LinearSeparation:
    """Train deep linear networks from several starts, hybrid networks and perceptrons.

    Args:
        num_classes: number of classes K in the nearly orthogonal data of the linear networks.
        per_class: samples of each class.
        width: width d of the data and hidden layers.
        depth: number of layers L of the deep linear networks.
        network_steps: training steps of each hybrid network and perceptron.
        seeds: number of seeds of the data and networks.
        seed: the first of them.

    Raises:
        ConfigError: a setting is out of range.
    """
    if seeds < 1:
        raise ConfigError(f"seeds {seeds} must be at least 1")
    drawn = range(seed, seed + seeds)

    def linear(
        start: tuple[float, float, float], shared: float
    ) -> tuple[DeepLinearSeparation, ...]:
        init_scale, output_scale, step_size = start
        return tuple(
            separate(
                *nearly_orthogonal_data(num_classes, per_class, width, shared=shared, seed=one),
                depth=depth,
                init_scale=init_scale,
                output_scale=output_scale,
                step_size=step_size,
                seed=one,
            )
            for one in drawn
        )

    def networks(nonlinear: int) -> tuple[TrainedNetwork, ...]:
        return tuple(
            train_network(nonlinear=nonlinear, steps=network_steps, seed=one) for one in drawn
        )

    return LinearSeparation(
        linear=tuple(linear(start, 0.0) for start in _STARTS),
        shared=linear(_SHARED_START, SHARED),
        hybrid=networks(3),
        perceptron=networks(7),
    )


def _train(
    weights: list[Tensor],
    inputs: Tensor,
    truth: Tensor,
    step_size: float,
    stop_loss: float,
    max_steps: int,
) -> tuple[int, float]:
    """Train in place; return the steps taken and the loss."""
    samples = inputs.shape[1]
    residual = DenseResidual(truth, torch.ones_like(truth, dtype=torch.bool))
    # The samples are also a factor of the product, one that does not change.
    steps = [0.0, *[step_size / samples] * len(weights)]
    taken = 0
    while True:
        errors = chain([inputs, *weights]) - truth
        loss = float(0.5 * errors.square().sum() / samples)
        if not math.isfinite(loss):
            raise ConfigError(
                f"gradient descent diverged by step {taken}: choose a smaller step_size"
            )
        if loss < stop_loss or taken >= max_steps:
            return taken, loss
        for _ in range(min(_CHECK_EVERY, max_steps - taken)):
            descend([inputs, *weights], residual, steps)
        taken = min(taken + _CHECK_EVERY, max_steps)


def _minimum_norm_residual(weights: Sequence[Tensor], inputs: Tensor, truth: Tensor) -> float:
    least: Tensor = truth @ torch.linalg.pinv(inputs)
    return float(torch.linalg.norm(chain(weights) - least) / torch.linalg.norm(least))


def _imbalance(weights: Sequence[Tensor]) -> NDArray[np.float64]:
    return np.array(
        [
            float(torch.linalg.norm(lower @ lower.T - upper.T @ upper))
            for lower, upper in pairwise(weights)
        ]
    )


def _middle_spread(weights: Sequence[Tensor], classes: int) -> NDArray[np.float64]:
    values = torch.linalg.svdvals(torch.stack(list(weights))).numpy()
    count = values.shape[1] - 2 * classes
    if count < 1:
        return np.full(len(values), np.nan)
    spreads: NDArray[np.float64] = values[:, : 2 * classes + 1] - values[:, count - 1 :]
    return np.asarray(spreads.min(axis=1))
