"""Deep matrix completion: a low-rank matrix from some of its entries."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rhm.adapters.descent import descend, losses, residual_of
from rhm.adapters.subspace import top_singular_pairs
from rhm.adapters.weights import chain, compress_weights, first_gradient, orthogonal_weights
from rhm.errors import ConfigError

METHODS = ("full", "compressed", "narrow")
"""The networks that can complete a matrix, by name."""


@dataclass(frozen=True)
class Completion:
    """What came of completing a matrix.

    The records are taken before the first step, and then after every ``record_every`` steps.

    Attributes:
        method: one of ``METHODS``.
        factors: in the order of their application; their product completes the matrix.
        steps: (R,) steps taken at each record.
        train_loss: (R,) half the mean over all entries of the squared residual at known entries.
        test_loss: (R,) the same at the other entries; not a number where these are not known.
        seconds: (R,) time spent on initialisation, compression and descent, not on recording.
        step_size: of the descent.
        converged: whether the train loss fell below what was asked.
    """

    method: str
    factors: tuple[Tensor, ...]
    steps: tuple[int, ...]
    train_loss: tuple[float, ...]
    test_loss: tuple[float, ...]
    seconds: tuple[float, ...]
    step_size: float
    converged: bool

    def product(self) -> Tensor:
        """Return the completed matrix, of the target's shape and dtype."""
        return chain(self.factors)

    @property
    def seconds_per_step(self) -> float:
        """Time of a step, without what came before the first."""
        return (self.seconds[-1] - self.seconds[0]) / max(1, self.steps[-1])


def complete_matrix(
    target: ArrayLike | Tensor,
    mask: ArrayLike | Tensor,
    *,
    rank: int,
    depth: int = 3,
    init_scale: float = 1e-3,
    step_size: float | None = None,
    method: str = "compressed",
    outer_lr_ratio: float = 0.01,
    max_steps: int = 20_000,
    stop_train_loss: float = 1e-9,
    record_every: int = 100,
    seed: int = 0,
    weights: Sequence[Tensor] | None = None,
) -> Completion:
    """Complete a matrix by gradient descent on a deep linear network that is to produce it.

    Deep matrix completion of Yaras et al., arXiv 2306.01154, section 5. From a small start, the
    network finds a matrix of low rank that agrees with what is known.

    Args:
        target: (m, n); floats keep their dtype and device, other types become float64. Where it
            is not known it may be anything, not a number too.
        mask: (m, n), true where the target is known.
        rank: of the target, or a bound on it. ``compressed`` and ``narrow`` networks have width
            ``2 * rank``, which is at most the matrix's shorter side; ``full`` does not use it.
        depth: number of weights, at least 2.
        init_scale: ``eps``, every singular value of the initial weights; smaller than a balanced
            network's in the end, which is the depth's root of the target's.
        step_size: of gradient descent on ``1/2 mean (mask * (product - target))^2`` over all
            entries; by default from the target's spectral norm, see ``default_step_size``.
        method: ``full``: weights as wide as the matrix's shorter side. ``compressed``: the small
            network that follows the path of the full one. ``narrow``: a network of width
            ``2 * rank`` started like the full one, for comparison.
        outer_lr_ratio: of the outer factors' step size to the others' in a compressed network; 0
            freezes them. Their pull grows with the square of the target's singular values: scale
            targets to values of the order of 10.
        max_steps: after which to stop.
        stop_train_loss: below which to stop, at a record.
        record_every: steps between records.
        seed: of the initial weights.
        weights: ``W_1`` to ``W_L`` to start from instead, of ``full`` and ``compressed`` width;
            or those of the narrow network.

    Raises:
        ConfigError: a setting is impossible, or nothing is known, or the known is not finite or
            is zero, or the descent diverged.
        ValueError: target and mask are no matrices of one shape, or ``weights`` do not chain to
            the target's shape.
    """
    matrix, known = _checked(target, mask)
    _check_settings(depth, method, max_steps, record_every, outer_lr_ratio, step_size)
    # Layers that shrink can be compressed, layers that grow cannot: the wider side is the input.
    turned = weights is None and matrix.shape[0] > matrix.shape[1]
    if turned:
        matrix, known = matrix.T.contiguous(), known.T.contiguous()
    if step_size is None:
        step_size = default_step_size(
            matrix,
            known,
            depth=depth if weights is None else len(weights),
            outer_lr_ratio=outer_lr_ratio if method == "compressed" else 0.0,
        )
    begun = _clock(matrix)
    if weights is None:
        start = _initial_weights(matrix, method, rank, depth, init_scale, seed)
    else:
        start = _given_weights(matrix, weights)
    rates = [1.0] * len(start)
    if method == "compressed":
        start = _compressed(start, matrix, known, rank)
        rates = [outer_lr_ratio, *[1.0] * (len(start) - 2), outer_lr_ratio]
    steps = [rate * step_size / matrix.numel() for rate in rates]
    records, factors = _descend(
        start, steps, matrix, known, max_steps, record_every, stop_train_loss, begun
    )
    if turned:
        factors = [factor.T for factor in reversed(factors)]
    taken, train, test, seconds = zip(*records, strict=True)
    return Completion(
        method=method,
        factors=tuple(factors),
        steps=taken,
        train_loss=train,
        test_loss=test,
        seconds=seconds,
        step_size=step_size,
        converged=train[-1] < stop_train_loss,
    )


def default_step_size(
    target: Tensor, mask: Tensor, *, depth: int, outer_lr_ratio: float = 0.0
) -> float:
    """Return the inverse of the loss's largest curvature where a balanced network has the target.

    Of weights with the singular value ``s^(1/L)`` each, ``L s^(2 - 2/L)``; of outer factors with
    orthonormal columns, ``s^2`` each times their rate; of known entries, their share of all.

    Args:
        target: (m, n), finite where it is known.
        mask: (m, n) bool.
        depth: ``L``.
        outer_lr_ratio: of the outer factors' rate to the others', 0 if there are none.

    Raises:
        ConfigError: the known entries are all zero.
    """
    share = float(mask.double().mean())
    shown = torch.where(mask, target, torch.zeros_like(target))
    # A start that is all but zero learns all there is from the largest singular value on.
    largest = float(top_singular_pairs(shown, 1)[1]) / share
    curvature = depth * largest ** (2.0 - 2.0 / depth) + 2.0 * outer_lr_ratio * largest**2
    return float(target.numel() / (share * curvature))


def _checked(target: ArrayLike | Tensor, mask: ArrayLike | Tensor) -> tuple[Tensor, Tensor]:
    matrix = torch.as_tensor(target).detach()
    if matrix.dtype not in (torch.float32, torch.float64):
        matrix = matrix.double()
    known = torch.as_tensor(mask, device=matrix.device).bool()
    if matrix.ndim != 2 or matrix.shape != known.shape:
        raise ValueError(
            f"target of shape {tuple(matrix.shape)} and mask of shape {tuple(known.shape)} are no "
            "matrices of one shape"
        )
    if not known.any():
        raise ConfigError("no entry of the matrix is known: the mask is true where one is")
    shown = matrix[known]
    if not shown.isfinite().all() or not shown.any():
        raise ConfigError("the known entries of the matrix are not all finite, or are all zero")
    return matrix, known


def _check_settings(
    depth: int,
    method: str,
    max_steps: int,
    record_every: int,
    outer_lr_ratio: float,
    step_size: float | None,
) -> None:
    if method not in METHODS:
        raise ConfigError(f"unknown method '{method}': choose {', '.join(METHODS)}")
    if depth < 2:
        raise ConfigError(f"depth {depth} must be at least 2")
    if max_steps < 1 or record_every < 1:
        raise ConfigError(
            f"max_steps {max_steps} and record_every {record_every} must be at least 1"
        )
    if not 0.0 <= outer_lr_ratio < math.inf:
        raise ConfigError(f"outer_lr_ratio {outer_lr_ratio} must be a number from 0 up")
    if step_size is not None and not 0.0 < step_size < math.inf:
        raise ConfigError(f"step_size {step_size} must be above 0")


def _initial_weights(
    matrix: Tensor, method: str, rank: int, depth: int, init_scale: float, seed: int
) -> list[Tensor]:
    outputs, inputs = matrix.shape
    if method != "full" and not 1 <= rank <= outputs // 2:
        raise ConfigError(
            f"rank {rank} of a {outputs} x {inputs} matrix must be from 1 to {outputs // 2}"
        )
    hidden = 2 * rank if method == "narrow" else outputs
    return [
        weight.to(matrix.device)
        for weight in orthogonal_weights(
            [inputs, *[hidden] * (depth - 1), outputs],
            init_scale,
            generator=torch.Generator().manual_seed(seed),
            dtype=matrix.dtype,
        )
    ]


def _given_weights(matrix: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    copies = [torch.as_tensor(each).detach().to(matrix, copy=True) for each in weights]
    sizes = [matrix.shape[1], *(size for each in copies for size in each.shape[::-1])]
    sizes.append(matrix.shape[0])
    if len(copies) < 2 or any(sizes[i] != sizes[i + 1] for i in range(0, len(sizes), 2)):
        raise ValueError(
            f"weights of shapes {[tuple(each.shape) for each in copies]} do not chain to the "
            f"target's {tuple(matrix.shape)}"
        )
    return copies


def _compressed(
    weights: Sequence[Tensor], matrix: Tensor, known: Tensor, rank: int
) -> list[Tensor]:
    residual = torch.where(known, chain(weights) - matrix, torch.zeros_like(matrix))
    right, inner, left = compress_weights(weights, first_gradient(weights, residual), rank)
    return [right.T.contiguous(), *inner, left.contiguous()]


def _descend(
    factors: list[Tensor],
    steps: Sequence[float],
    matrix: Tensor,
    known: Tensor,
    max_steps: int,
    record_every: int,
    stop_train_loss: float,
    begun: float,
) -> tuple[list[tuple[int, float, float, float]], list[Tensor]]:
    residual = residual_of(matrix, known)
    spent = _clock(matrix) - begun
    records: list[tuple[int, float, float, float]] = []
    taken = 0
    while True:
        train, test = losses(factors, matrix, known)
        if not math.isfinite(train):
            raise ConfigError(f"the descent diverged by step {taken}: choose a smaller step_size")
        records.append((taken, train, test, spent))
        if train < stop_train_loss or taken >= max_steps:
            return records, factors
        begun = _clock(matrix)
        for _ in range(min(record_every, max_steps - taken)):
            descend(factors, residual, steps)
        spent += _clock(matrix) - begun
        taken = min(taken + record_every, max_steps)


def _clock(matrix: Tensor) -> float:
    """Return the time in seconds, when the matrix's device has done all that it was given."""
    if matrix.is_cuda:
        torch.cuda.synchronize(matrix.device)
    return time.perf_counter()
