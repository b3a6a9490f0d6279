"""Leading singular subspaces, by randomised range finding if a full decomposition is slow."""

import math

import torch
from torch import Tensor

from rhm.errors import ConfigError

EXACT_SIZE = 256
"""Matrices whose smaller side is at most this are decomposed completely."""

_OVERSAMPLING = 10
_MAX_ITERATIONS = 24
_SETTLED = 5e-5


def top_singular_pairs(
    matrix: Tensor, rank: int, *, exact: bool | None = None, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the leading singular triplets of a matrix.

    Large matrices are decomposed by randomised subspace iteration (Halko, Martinsson and Tropp,
    SIAM Review 53, 2011, algorithm 4.4), which reads the matrix a few times and stops when the
    right subspace has settled. If the singular values ``rank`` and ``rank + 1`` are equal, the
    subspace is not uniquely defined, and different methods give different results.

    Args:
        matrix: (m, n), float32 or float64, of any scale.
        rank: number of triplets, at most the smaller side.
        exact: whether to use the full decomposition; by default only for small matrices.
        seed: seed of the random start.

    Returns:
        Left vectors (m, rank), values (rank,) descending, right vectors (n, rank).

    Raises:
        ConfigError: the matrix is not finite or is zero, or is too small for the rank.
    """
    smaller = min(matrix.shape)
    if not 1 <= rank <= smaller:
        raise ConfigError(f"rank {rank} must be from 1 to {smaller}, the smaller side of the layer")
    width = 2 * rank + _OVERSAMPLING
    if exact is None:
        exact = smaller <= EXACT_SIZE or 2 * width >= smaller
    if exact:
        scaled, scale = _scaled(matrix)
        left, values, right_t = torch.linalg.svd(scaled, full_matrices=False)
        return left[:, :rank], values[:rank] * scale, right_t[:rank].T
    return _subspace_iteration(matrix, rank, min(width, smaller), seed)


def _subspace_iteration(
    matrix: Tensor, rank: int, width: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(matrix.shape[1], width, generator=generator, dtype=matrix.dtype)
    sketch, scale = _scaled(matrix @ start.to(matrix.device))
    settled = torch.zeros(matrix.shape[1], rank, dtype=matrix.dtype, device=matrix.device)
    for _ in range(_MAX_ITERATIONS):
        rows = torch.linalg.qr(matrix.T @ torch.linalg.qr(sketch).Q / scale).Q
        sketch = matrix @ rows / scale
        columns, triangle = torch.linalg.qr(sketch)
        inner_left, values, inner_right_t = torch.linalg.svd(triangle)
        right = rows @ inner_right_t[:rank].T
        moved = torch.linalg.norm(right - settled @ (settled.T @ right))
        settled = right
        if moved < _SETTLED:
            break
    return columns @ inner_left[:, :rank], values[:rank] * scale, settled


def _scaled(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return a matrix scaled to a largest entry of 1, and the divisor.

    Gradients of deep products are so small that their squares underflow.
    """
    scale = matrix.abs().amax()
    if not torch.isfinite(scale):
        raise ConfigError("the gradient is not finite: lower the learning rate or check the data")
    if not scale > 0:
        raise ConfigError("the gradient is zero, so it gives no direction to train in")
    return matrix / scale, scale


def active_subspace(
    first_weight: Tensor, gradient: Tensor, rank: int, *, exact: bool | None = None
) -> Tensor:
    """Return the input directions in which gradient descent changes a deep linear network.

    They are ``orth([V_g, W_1^T U_g / eps])`` with the leading singular pairs ``U_g``, ``V_g`` of
    the gradient (Yaras et al., "The law of parsimony in gradient descent for learning deep linear
    networks", arXiv 2306.01154, section 4).

    Args:
        first_weight: (w, d), ``eps`` times a matrix with orthonormal rows or columns.
        gradient: (w, d), initial gradient of the loss with respect to ``first_weight``.
        rank: rank of the gradient, or an upper bound; ``2 * rank`` is at most d.
        exact: whether to use the full singular value decomposition; by default only if it is fast
            (``EXACT_SIZE``).

    Returns:
        (d, 2 * rank) with orthonormal columns.

    Raises:
        ConfigError: the layer is too small for the rank, or the gradient is not finite or zero.
        ValueError: the gradient does not have the shape of the weight.
    """
    if first_weight.ndim != 2 or gradient.shape != first_weight.shape:
        raise ValueError(
            f"a gradient of shape {tuple(gradient.shape)} does not belong to a weight of shape "
            f"{tuple(first_weight.shape)}"
        )
    inputs = first_weight.shape[1]
    if 2 * rank > inputs:
        raise ConfigError(
            f"rank {rank} changes {2 * rank} directions of a layer with {inputs} inputs: choose a "
            f"rank of at most {inputs // 2}"
        )
    left, _, right = top_singular_pairs(gradient, rank, exact=exact)
    turned = first_weight.T @ left / scale_of(first_weight)
    basis: Tensor = torch.linalg.qr(torch.cat([right, turned], dim=1)).Q
    return basis


def scale_of(weight: Tensor) -> float:
    """Return ``eps`` of a weight (m, n) that is ``eps`` times orthonormal rows or columns.

    Raises:
        ConfigError: the weight is zero or not finite.
    """
    scale = float(torch.linalg.norm(weight)) / math.sqrt(min(weight.shape))
    if not 0.0 < scale < math.inf:
        raise ConfigError("the initial weight is zero or not finite: initialise it orthogonally")
    return scale


def principal_angles(first: Tensor, second: Tensor) -> Tensor:
    """Return the principal angles between two subspaces, in radians, accurate down to 0.

    Small angles are computed from their sines, because a cosine near 1 cannot resolve angles below
    the square root of the rounding error (Björck and Golub, Mathematics of Computation 27, 1973).

    Args:
        first: (..., d, k) with orthonormal columns.
        second: (..., d, k) with orthonormal columns.

    Returns:
        (..., k), descending.

    Raises:
        ValueError: the bases differ in shape.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"bases of shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be compared"
        )
    overlap = first.mT @ second
    sines = torch.linalg.svdvals(second - first @ overlap).clamp(max=1.0)
    cosines = torch.linalg.svdvals(overlap).clamp(max=1.0).flip(-1)
    return torch.where(sines < cosines, sines.arcsin(), cosines.arccos())
