"""Deep matrix completion: recover a low-rank matrix from some of its entries."""

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
"""Names of the networks that can complete a matrix."""


@dataclass(frozen=True)
class Completion:
    """Result of completing a matrix.

    Values are recorded before the first step and then after every ``record_every`` steps.

    Attributes:
        method: one of ``METHODS``.
        factors: factors in the order of their application; their product completes the matrix.
        steps: (R,) number of steps taken at each record.
        train_loss: (R,) half the mean over all entries of the squared residual at known entries.
        test_loss: (R,) the same at the other entries; NaN if their true values are unknown.
        seconds: (R,) time spent on initialisation, compression and descent, without recording.
        step_size: step size of gradient descent.
        converged: whether the training loss fell below ``stop_train_loss``.
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
        """Return the completed matrix, with the shape and dtype of the target."""
        return chain(self.factors)

    @property
    def seconds_per_step(self) -> float:
        """Seconds per step, without the time before the first step."""
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
    """Complete a matrix by training a deep linear network to reproduce its known entries.

    This is deep matrix completion (Yaras et al., arXiv 2306.01154, section 5). From a small initial
    scale, the network finds a low-rank matrix that agrees with the known entries.

    Args:
        target: (m, n); floating-point types keep their dtype and device, other types become
            float64. Unknown entries may have any value, including NaN.
        mask: (m, n), true for known entries.
        rank: rank of the target, or an upper bound. ``compressed`` and ``narrow`` networks have
            width ``2 * rank``, which is at most the shorter side of the matrix; ``full`` ignores
            it.
        depth: number of weights, at least 2.
        init_scale: ``eps``, every singular value of the initial weights. It must be smaller than
            the final singular values of a balanced network, which are the ``depth``-th roots of
            those of the target.
        step_size: step size of gradient descent on ``1/2 mean (mask * (product - target))^2`` over
            all entries; by default derived from the spectral norm of the target, see
            ``default_step_size``.
        method: ``full``: weights as wide as the shorter side of the matrix. ``compressed``: the
            small network that follows the same path. ``narrow``: a network of width ``2 * rank``
            that starts like the full one, for comparison.
        outer_lr_ratio: step size of the outer factors of a compressed network relative to the
            others; 0 freezes them. Their gradient grows with the square of the singular values of
            the target: scale targets to singular values of about 10.
        max_steps: maximum number of steps.
        stop_train_loss: training loss below which to stop, at a record.
        record_every: number of steps between records.
        seed: seed of the initial weights.
        weights: initial weights ``W_1`` to ``W_L`` to use instead: of the wide network for ``full``
            and ``compressed``, of the narrow network for ``narrow``.

    Raises:
        ConfigError: a setting is out of range, no entry is known, the known entries are not finite
            or all zero, or gradient descent diverged.
        ValueError: target and mask are not matrices of the same shape, or ``weights`` do not chain
            to the shape of the target.
    """
    matrix, known = _checked(target, mask)
    _check_settings(depth, method, max_steps, record_every, outer_lr_ratio, step_size)
    # Only layers without more outputs than inputs can be compressed: the wider side is the input.
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
    """Return the inverse of the largest curvature of the loss at a balanced solution.

    With s the largest singular value of the target, weights with singular values ``s^(1/L)``
    contribute ``L s^(2 - 2/L)``, and each outer factor with orthonormal columns contributes ``s^2``
    times its rate. The sum is multiplied by the share of known entries.

    Args:
        target: (m, n), finite at known entries.
        mask: (m, n) bool.
        depth: number of weights ``L``.
        outer_lr_ratio: rate of the outer factors relative to the others, 0 if there are none.

    Raises:
        ConfigError: the known entries are all zero.
    """
    share = float(mask.double().mean())
    shown = torch.where(mask, target, torch.zeros_like(target))
    # From a start close to zero, singular values are learned in descending order.
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
            f"target of shape {tuple(matrix.shape)} and mask of shape {tuple(known.shape)} are not "
            "matrices of the same shape"
        )
    if not known.any():
        raise ConfigError(
            "no entry of the matrix is known: the mask must be true for known entries"
        )
    shown = matrix[known]
    if not shown.isfinite().all() or not shown.any():
        raise ConfigError("the known entries of the matrix must be finite and not all zero")
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
        raise ConfigError(f"outer_lr_ratio {outer_lr_ratio} must be a number of at least 0")
    if step_size is not None and not 0.0 < step_size < math.inf:
        raise ConfigError(f"step_size {step_size} must be greater than 0")


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
            f"weights of shapes {[tuple(each.shape) for each in copies]} do not chain to the shape "
            f"of the target, {tuple(matrix.shape)}"
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
            raise ConfigError(
                f"gradient descent diverged by step {taken}: choose a smaller step_size"
            )
        records.append((taken, train, test, spent))
        if train < stop_train_loss or taken >= max_steps:
            return records, factors
        begun = _clock(matrix)
        for _ in range(min(record_every, max_steps - taken)):
            descend(factors, residual, steps)
        spent += _clock(matrix) - begun
        taken = min(taken + record_every, max_steps)


def _clock(matrix: Tensor) -> float:
    """Return the time in seconds, after the device of the matrix has finished its work."""
    if matrix.is_cuda:
        torch.cuda.synchronize(matrix.device)
    return time.perf_counter()
