"""The law of parsimony: gradient descent on a deep linear network changes few singular vectors.

When a network with orthogonal initial weights learns a matrix of rank r, every weight keeps all but
2r of its singular vector pairs, with one common singular value (Yaras, Wang, Hu, Zhu, Balzano, Qu,
"The law of parsimony in gradient descent for learning deep linear networks", arXiv 2306.01154,
theorem 1). The part that changes is a deep linear network of width 2r that follows the same path.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rhm.adapters.descent import DenseResidual, descend
from rhm.adapters.linear_network import DeepLinearNetwork, compress
from rhm.adapters.subspace import principal_angles
from rhm.adapters.weights import chain, first_gradient
from rhm.errors import ConfigError
from rhm.lab.seeds import part_seed

MOST_NUMBERS = 50_000_000
"""Most numbers in the recorded weights of a network; their analysis takes a few times as much
memory."""

_RECORD_EVERY = 5


@dataclass(frozen=True, eq=False)
class Parsimony:
    """The path of a deep linear network under gradient descent: R records, L layers, width d.

    The *middle* of a layer is the part that does not change according to the theorem: the right
    singular vectors orthogonal to the active subspace as mapped by the layers below, and the left
    singular vectors orthogonal to its image.

    Attributes:
        rank: rank r of the target.
        steps: (R,) int64 number of steps taken at each record; the first record is the start.
        loss: (R,) ``1/2 ||W_L ... W_1 - target||_F^2``.
        singular_values: (R, L, d) descending.
        left_angles: (R, L) largest principal angle, in radians, between the span of the left
            middle singular vectors now and at the start.
        right_angles: (R, L) the same for the right ones.
        middle_spread: (R, L) range of the d - 2r middle singular values.
        leading_angles: (R, L) largest principal angle, in radians, between the span of the r
            leading right singular vectors now and at the first record after the start: how the
            active directions change, for comparison.
        compressed_loss: (R,) loss of the network of width 2r.
        compressed_distance: (R,) relative Frobenius distance, on the active subspace, between
            the maps of the network of width 2r and of the wide network.
    """

    rank: int
    steps: NDArray[np.int64]
    loss: NDArray[np.float64]
    singular_values: NDArray[np.float64]
    left_angles: NDArray[np.float64]
    right_angles: NDArray[np.float64]
    middle_spread: NDArray[np.float64]
    leading_angles: NDArray[np.float64]
    compressed_loss: NDArray[np.float64]
    compressed_distance: NDArray[np.float64]

    @property
    def largest_angle(self) -> float:
        """The largest angle, in radians, by which any middle subspace has rotated."""
        return float(max(self.left_angles.max(), self.right_angles.max()))


def low_rank_target(width: int, rank: int, *, seed: int = 0) -> Tensor:
    """Draw a (width, width) float64 matrix with ``rank`` singular values from 3 down to 2.

    Raises:
        ConfigError: the rank is not from 1 to the width.
    """
    if not 1 <= rank <= width:
        raise ConfigError(f"rank {rank} must be from 1 to the width {width}")
    generator = torch.Generator().manual_seed(part_seed(seed, "target"))
    left, right = (
        torch.linalg.qr(torch.randn(width, rank, generator=generator, dtype=torch.float64)).Q
        for _ in range(2)
    )
    values = torch.linspace(3.0, 2.0, rank, dtype=torch.float64)
    target: Tensor = left * values @ right.T
    return target


def follow(
    network: DeepLinearNetwork,
    target: Tensor,
    rank: int,
    *,
    step_size: float = 0.02,
    steps: int = 300,
    record_every: int = _RECORD_EVERY,
) -> Parsimony:
    """Train a network to reproduce a matrix, and record the singular subspaces of its layers.

    Runs full-batch gradient descent on ``1/2 ||W_L ... W_1 - target||_F^2``, the squared loss on
    whitened data, in the dtype of the target. Accurate angles need float64.

    Args:
        network: square layers of the same width d, orthogonal up to a scale; it is not changed.
        target: (d, d) of rank ``rank``.
        rank: rank r; ``2 * rank`` is below d - 1, so that the middle has several singular values.
        step_size: step size of gradient descent.
        steps: number of steps of gradient descent, at least 1.
        record_every: number of steps between records.

    Raises:
        ConfigError: the rank leaves no middle, a setting is out of range, there is too much to
            record, or gradient descent diverged.
        ValueError: there are fewer than two layers, or a layer or the target is not (d, d).
    """
    width = target.shape[-1]
    weights = [weight.detach().to(target, copy=True) for weight in network.weights]
    if any(matrix.shape != (width, width) for matrix in (target, *weights)) or len(weights) < 2:
        raise ValueError(f"the target and at least two layers must all be {width} x {width}")
    if not 1 <= rank <= (width - 2) // 2:
        raise ConfigError(
            f"rank {rank} leaves no middle singular values at width {width}: choose a rank "
            f"from 1 to {(width - 2) // 2}"
        )
    if steps < 1 or record_every < 1 or not step_size > 0.0:
        raise ConfigError(
            f"steps {steps} and record_every {record_every} must be at least 1, step_size "
            f"{step_size} greater than 0"
        )
    _check_size(width, len(weights), steps, record_every)
    # The part of the first gradient that depends on the target. The other part is a multiple of
    # W_1, which changes no singular vector.
    small = compress(DeepLinearNetwork(weights), first_gradient(weights, -target), rank, exact=True)
    factors = [factor.detach().clone() for factor in small.factors()]
    at, wide, inner = _train(weights, factors, target, step_size, steps, record_every)
    return _watch(at, wide, factors[-1] @ inner, factors[0].T, target, rank)


def run_parsimony(
    *,
    width: int = 30,
    rank: int = 3,
    depth: int = 3,
    init_scale: float = 0.3,
    steps: int = 300,
    seed: int = 0,
) -> Parsimony:
    """Draw a target and a network, and follow it.

    Args:
        width: width d of every layer.
        rank: rank r of the target.
        depth: number of layers L.
        init_scale: every singular value of the initial weights.
        steps: number of steps of gradient descent.
        seed: seed of the target and the network.

    Raises:
        ConfigError: the rank leaves no middle, a setting is out of range, there is too much to
            record, or gradient descent diverged.
    """
    if depth < 2:
        raise ConfigError(f"depth {depth} must be at least 2")
    _check_size(width, depth, steps, _RECORD_EVERY)
    target = low_rank_target(width, rank, seed=seed)
    network = DeepLinearNetwork.orthogonal(
        [width] * (depth + 1), init_scale=init_scale, seed=seed, dtype=torch.float64
    )
    return follow(network, target, rank, steps=steps)


def _check_size(width: int, depth: int, steps: int, record_every: int) -> None:
    numbers = (steps // record_every + 1) * depth * width**2
    if numbers > MOST_NUMBERS:
        raise ConfigError(
            f"{depth} layers of width {width} have {numbers:,} numbers to record, more than "
            f"{MOST_NUMBERS:,}: choose fewer or narrower layers"
        )


def _train(
    weights: list[Tensor],
    factors: list[Tensor],
    target: Tensor,
    step_size: float,
    steps: int,
    record_every: int,
) -> tuple[list[int], Tensor, Tensor]:
    """Train both networks in place; return steps, weights (R, L, d, d), products (R, 2r, 2r)."""
    residual = DenseResidual(target, torch.ones_like(target, dtype=torch.bool))
    frozen = [0.0, *[step_size] * len(weights), 0.0]
    at, wide, inner = [0], [torch.stack(weights)], [chain(factors[1:-1])]
    for taken in range(1, steps + 1):
        descend(weights, residual, [step_size] * len(weights))
        descend(factors, residual, frozen)
        if taken % record_every == 0 or taken == steps:
            at.append(taken)
            wide.append(torch.stack(weights))
            inner.append(chain(factors[1:-1]))
    if not torch.isfinite(wide[-1]).all():
        raise ConfigError(f"gradient descent diverged: choose a step_size below {step_size}")
    return at, torch.stack(wide), torch.stack(inner)


def _watch(
    at: list[int], wide: Tensor, small: Tensor, active: Tensor, target: Tensor, rank: int
) -> Parsimony:
    """Analyse weights (R, L, d, d) and ``U W_L ... W_1`` (R, d, 2r) of the small network."""
    products = chain(list(wide.unbind(1)))
    on_active = products @ active
    lefts, values, rights_t = torch.linalg.svd(wide)
    rights = rights_t.mT
    chosen = _middle_columns(values, values.shape[-1] - 2 * rank)
    middle = values.gather(-1, chosen)
    start_left, start_right = _initial_middle(wide[0], active)
    leading = rights[..., :rank]
    return Parsimony(
        rank=rank,
        steps=np.array(at),
        loss=_half_squares(products - target),
        singular_values=values.numpy(),
        left_angles=_angles_after(start_left, _columns(lefts, chosen)),
        right_angles=_angles_after(start_right, _columns(rights, chosen)),
        middle_spread=(middle.amax(-1) - middle.amin(-1)).numpy(),
        leading_angles=_angles_after(leading[1], leading),
        compressed_loss=_half_squares(small @ active.T - target),
        compressed_distance=(
            torch.linalg.matrix_norm(on_active - small) / torch.linalg.matrix_norm(on_active)
        ).numpy(),
    )


def _initial_middle(start: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """Return bases (L, d, d - 2r) orthogonal to the active subspace as mapped to each layer."""
    lefts, rights = [], []
    for weight in start:
        rights.append(_complement(active))
        active = torch.linalg.qr(weight @ active).Q
        lefts.append(_complement(active))
    return torch.stack(lefts), torch.stack(rights)


def _complement(basis: Tensor) -> Tensor:
    complete: Tensor = torch.linalg.qr(basis, mode="complete").Q
    return complete[:, basis.shape[1] :]


def _middle_columns(values: Tensor, count: int) -> Tensor:
    """Return which ``count`` consecutive singular values (..., d) lie closest together."""
    spreads = values[..., : values.shape[-1] - count + 1] - values[..., count - 1 :]
    return spreads.argmin(-1, keepdim=True) + torch.arange(count)


def _columns(vectors: Tensor, chosen: Tensor) -> Tensor:
    places = chosen.unsqueeze(-2).expand(*vectors.shape[:-1], chosen.shape[-1])
    return vectors.gather(-1, places)


def _angles_after(start: Tensor, vectors: Tensor) -> NDArray[np.float64]:
    """Return the largest angles (R, L); 0 at the start, where all singular values are equal."""
    angles = principal_angles(start.expand_as(vectors), vectors)[..., 0]
    angles[0] = 0.0
    return angles.numpy()


def _half_squares(residuals: Tensor) -> NDArray[np.float64]:
    return (0.5 * residuals.square().sum((-2, -1))).numpy()
