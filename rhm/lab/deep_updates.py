"""Deep low-rank updates in the regime of their theorem, and in a network.

Yaras, Wang, Balzano, Qu (ICML 2024) say that a deep update of full width, a product of square
factors that start near zero, moves within a few directions that its first gradient reveals, so that
narrow factors between these directions follow the same path. Here, full-width updates, their
compression, narrow factors between random directions, and LoRA learn the same change of frozen
weights, by gradient descent in float64:

- *linear*: one layer and the population loss of whitened inputs, as in the theorem
- *network*: both layers of a ReLU network, from a limited number of samples
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rhm.adapters.gradient import gradient_factors, random_factors, signed_permutation
from rhm.adapters.subspace import principal_angles
from rhm.errors import ConfigError
from rhm.lab.seeds import part_seed

DEPTH = 3
"""Number of factors of a deep update."""

INIT_SCALE = 0.1
"""Scale of the factors at the start, epsilon."""

RATES = (0.02, 0.05, 0.1, 0.2)
"""Step sizes that are tried; the one with the lower training loss counts."""

GAMMAS = {"compressed": 0.0, "compressed, outer trained": 0.01}
"""Learning rate of the outer factors as a share of that of the inner ones, by the kind of update;
the second is the setting of the authors."""

KINDS = ("wide", *GAMMAS, "random factors", "lora")
"""Kinds of update that are compared."""

_TESTED = 1000
_SINGULAR_VALUES = (2.0, 1.0)  # of the change that is to be learned, from the first to the last
_GAIN = 1.4  # of the frozen layers; about what keeps the scale through a ReLU

Loss = Callable[[Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class LearningTask:
    """A change of frozen weights that is to be learned.

    Attributes:
        rank: rank r of the change of each layer.
        shapes: shape of each layer.
        loss: function from updates to the training loss.
        error: function from updates to the test loss, divided by that without updates.
    """

    rank: int
    shapes: tuple[tuple[int, int], ...]
    loss: Loss
    error: Loss


@dataclass(frozen=True, eq=False)
class UpdatePath:
    """How an update of a kind learned: R records, of which the last is the end.

    Attributes:
        kind: one of ``KINDS``.
        rank: rank that the update was given; the width d for wide ones.
        rate: step size.
        steps: (R,) int64 number of steps taken at each record.
        loss: (R,) training loss, divided by that at the start.
        singular_values: (R, d) singular values of the update of the last layer, descending.
        angles: (R,) largest principal angle in degrees between the r leading right singular vectors
            of that update and those at the end.
        error: test loss at the end, divided by that without updates.
    """

    kind: str
    rank: int
    rate: float
    steps: NDArray[np.int64]
    loss: NDArray[np.float64]
    singular_values: NDArray[np.float64]
    angles: NDArray[np.float64]
    error: float


@dataclass(frozen=True)
class DeepUpdates:
    """The comparison.

    Attributes:
        linear: for each seed, paths in the regime of the theorem, each kind with rank 2r.
        network: for each seed, paths in the network, from the middle number of samples, each kind
            with rank 2r.
        sweep: for each seed, number of samples and rank, the paths of all kinds.
    """

    linear: dict[int, tuple[UpdatePath, ...]]
    network: dict[int, tuple[UpdatePath, ...]]
    sweep: dict[tuple[int, int, int], tuple[UpdatePath, ...]]

    def gaps(self) -> list[float]:
        """Return how far the compressed update leaves the wide one in the linear task, per seed.

        It is the largest difference between their training losses at a record, as a share of that
        at the start.
        """
        both = ({path.kind: path.loss for path in paths} for paths in self.linear.values())
        return [float(np.abs(each["wide"] - each["compressed"]).max()) for each in both]


def linear_task(width: int, rank: int, *, seed: int) -> LearningTask:
    """Return the task of one layer W x with whitened inputs: 1/2 ||Delta - change||_F^2."""
    generator = torch.Generator().manual_seed(part_seed(seed, "layer"))
    change = _change(width, rank, generator)

    def loss(updates: Sequence[Tensor]) -> Tensor:
        return (updates[0] - change).square().sum() / 2

    start = loss([torch.zeros_like(change)])
    return LearningTask(
        rank, ((width, width),), loss, lambda updates: loss(updates).detach() / start
    )


def network_task(width: int, rank: int, samples: int, *, seed: int) -> LearningTask:
    """Return the task of a ReLU network W_2 relu(W_1 x), both of whose layers change."""
    generator = torch.Generator().manual_seed(part_seed(seed, "network"))
    frozen = [_draw(width, width, generator) * _GAIN / width**0.5 for _ in range(2)]
    wanted = [weight + _change(width, rank, generator) for weight in frozen]
    inputs = _draw(samples, width, generator), _draw(_TESTED, width, generator)
    zero = [torch.zeros_like(weight) for weight in frozen]

    def loss(x: Tensor, updates: Sequence[Tensor]) -> Tensor:
        weights = [weight + update for weight, update in zip(frozen, updates, strict=True)]
        return (_network(weights, x) - _network(wanted, x)).square().sum(1).mean() / 2

    start = loss(inputs[1], zero)
    shapes = ((width, width),) * 2
    return LearningTask(
        rank, shapes, partial(loss, inputs[0]), lambda each: loss(inputs[1], each).detach() / start
    )


def learn(task: LearningTask, kind: str, rank: int, *, steps: int, seed: int = 0) -> UpdatePath:
    """Learn a task with an update of a kind, at the best of ``RATES``.

    Args:
        task: what is to be learned.
        kind: one of ``KINDS``.
        rank: rank of the update, even for compressed ones; wide ones have none.
        steps: number of steps of gradient descent, at least 1.
        seed: seed of random factors.

    Raises:
        ConfigError: the rank is odd or too high, or every rate diverged.
    """
    paths = [_descend(task, kind, rank, rate, steps, seed) for rate in RATES]
    ended = [path for path in paths if path is not None]
    if not ended:
        raise ConfigError(f"the updates diverged: {kind} at rank {rank}")
    return min(ended, key=lambda path: float(path.loss[-1]))


def run_deep_updates(
    *,
    width: int = 32,
    rank: int = 3,
    samples: Sequence[int] = (32, 64, 128),
    ranks: Sequence[int] = (6, 12, 24),
    steps: int = 2000,
    seeds: int = 1,
    seed: int = 0,
    on_run: Callable[[str], None] | None = None,
) -> DeepUpdates:
    """Compare the kinds of update in both tasks, and over samples and ranks in the network.

    Args:
        width: width d of all layers.
        rank: rank r of the changes, at most a quarter of the width.
        samples: numbers of samples.
        ranks: ranks that the updates are given, even, at most the width; ``2 * rank`` is one of
            them.
        steps: number of steps of gradient descent.
        seeds: number of seeds, which determine weights, samples and factors.
        seed: the first of them.
        on_run: called with a line on each number of samples.

    Raises:
        ConfigError: a setting is out of range, or gradient descent diverged.
    """
    if not 1 <= rank <= width // 4:
        raise ConfigError(f"rank must be from 1 to a quarter of the width, {width // 4}")
    if seeds < 1:
        raise ConfigError(f"seeds {seeds} must be at least 1")
    if 2 * rank not in ranks:
        raise ConfigError(f"ranks must include twice the rank, {2 * rank}")
    linear, sweep = {}, {}
    for each in range(seed, seed + seeds):
        layer = linear_task(width, rank, seed=each)
        linear[each] = tuple(learn(layer, kind, 2 * rank, steps=steps, seed=each) for kind in KINDS)
        for count in samples:
            if on_run is not None:
                on_run(f"seed {each}: {count} samples")
            task = network_task(width, rank, count, seed=each)
            wide = learn(task, "wide", width, steps=steps, seed=each)
            for given in ranks:
                others = [learn(task, kind, given, steps=steps, seed=each) for kind in KINDS[1:]]
                sweep[each, count, given] = (wide, *others)
    middle = samples[len(samples) // 2]
    return DeepUpdates(linear, {each: sweep[each, middle, 2 * rank] for each in linear}, sweep)


def _descend(
    task: LearningTask, kind: str, rank: int, rate: float, steps: int, seed: int
) -> UpdatePath | None:
    """Return the path of gradient descent at a rate, or None if it diverged."""
    every = max(1, steps // 100)
    parts = _parts(task, kind, rank, seed)
    trained = [(each, gamma) for part in parts for each, gamma in part.trained()]
    taken, losses, updates = [], [], []
    for step in range(steps + 1):
        now = [part.update() for part in parts]
        loss = task.loss(now)
        if not torch.isfinite(loss):
            return None
        if step % every == 0 or step == steps:
            taken.append(step)
            losses.append(float(loss.detach()))
            updates.append(now[-1].detach())
        if step == steps:
            break
        gradients = torch.autograd.grad(loss, [each for each, _ in trained])
        with torch.no_grad():
            for (each, gamma), gradient in zip(trained, gradients, strict=True):
                each -= rate * gamma * gradient
    found = [torch.linalg.svd(update) for update in updates]
    last = found[-1][2][: task.rank].T
    angles = [float(principal_angles(each[2][: task.rank].T, last).max()) for each in found]
    return UpdatePath(
        kind,
        rank,
        rate,
        np.array(taken),
        np.array(losses) / losses[0],
        np.stack([each[1].numpy() for each in found]),
        np.degrees(angles),
        float(task.error([part.update() for part in parts])),
    )


@dataclass(frozen=True)
class _Update:
    """An update ``outer[0] inner[-1] ... inner[0] outer[1]^T``; LoRA has no outer factors."""

    inner: tuple[Tensor, ...]
    outer: tuple[Tensor, ...] = ()
    gamma: float = 0.0

    def update(self) -> Tensor:
        product = self.inner[0]
        for factor in self.inner[1:]:
            product = factor @ product
        return self.outer[0] @ product @ self.outer[1].T if self.outer else product

    def trained(self) -> list[tuple[Tensor, float]]:
        outer = [(each, self.gamma) for each in self.outer] if self.gamma else []
        return [*((each, 1.0) for each in self.inner), *outer]


def _parts(task: LearningTask, kind: str, rank: int, seed: int) -> list[_Update]:
    """Return the update of each layer at its start."""
    zero = [torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in task.shapes]
    gradients = torch.autograd.grad(task.loss(zero), zero)
    parts = []
    for layer, gradient in enumerate(gradients):
        rows, columns = gradient.shape
        drawn = part_seed(seed, f"update {layer}")
        generator = torch.Generator().manual_seed(drawn)
        if kind == "lora":
            first = _draw(rank, columns, generator) / columns**0.5
            parts.append(_Update(_trainable(first, torch.zeros(rows, rank, dtype=first.dtype))))
        elif kind == "wide":
            order, signs = signed_permutation(rows, columns, like=gradient, seed=drawn)
            first = torch.zeros_like(gradient)
            first[torch.arange(rows), order] = signs[:, 0]
            identity = torch.eye(rows, dtype=gradient.dtype)
            scaled = [INIT_SCALE * each for each in (first, *[identity] * (DEPTH - 1))]
            parts.append(_Update(_trainable(*scaled)))
        else:
            outer = (
                random_factors(rows, columns, rank, like=gradient, seed=drawn)
                if kind == "random factors"
                else gradient_factors(gradient, rank, seed=drawn)
            )
            inner = [INIT_SCALE * torch.eye(rank, dtype=gradient.dtype) for _ in range(DEPTH)]
            gamma = GAMMAS.get(kind, 0.0)
            parts.append(_Update(_trainable(*inner), _trainable(*outer), gamma))
    return parts


def _trainable(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(each.clone().requires_grad_() for each in tensors)


def _network(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
    return torch.relu(inputs @ weights[0].T) @ weights[1].T


def _draw(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def _change(width: int, rank: int, generator: torch.Generator) -> Tensor:
    """Draw a (width, width) matrix of a rank."""
    left, right = (torch.linalg.qr(_draw(width, rank, generator)).Q for _ in range(2))
    values = torch.linspace(*_SINGULAR_VALUES, rank, dtype=torch.float64)
    changed: Tensor = left * values @ right.T
    return changed
