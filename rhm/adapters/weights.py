"""Initial weights of wide linear networks, and those of their small equivalents."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from rhm.adapters.subspace import active_subspace, scale_of
from rhm.errors import ConfigError

_ORTHOGONAL = 1e-2
"""Tolerance for the orthogonality of layers in float32."""


def orthogonal_weights(
    widths: Sequence[int],
    init_scale: float,
    *,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """Return ``init_scale`` times random orthogonal matrices (outputs, inputs), ``W_1`` first.

    If a layer is not square, the vectors along its shorter side are orthonormal.

    Args:
        widths: widths of input, hidden layers and output.
        init_scale: every singular value of every weight.
        generator: random generator on the CPU.
        dtype: dtype of the weights.

    Raises:
        ConfigError: a width is below 1, or the scale is not above 0.
        ValueError: there are fewer than two widths.
    """
    if len(widths) < 2:
        raise ValueError(f"widths {list(widths)} describe no layer")
    if min(widths) < 1:
        raise ConfigError(f"widths {list(widths)} must be at least 1")
    if not 0.0 < init_scale < math.inf:
        raise ConfigError(f"init_scale {init_scale} must be greater than 0")
    weights = []
    for inputs, outputs in pairwise(widths):
        weight = torch.empty(outputs, inputs, dtype=dtype)
        torch.nn.init.orthogonal_(weight, gain=init_scale, generator=generator)
        weights.append(weight)
    return weights


def chain(factors: Sequence[Tensor]) -> Tensor:
    """Return the product ``F_m ... F_1`` of ``F_1`` to ``F_m``, in the order of application."""
    product = factors[0]
    for factor in factors[1:]:
        product = factor @ product
    return product


def first_gradient(weights: Sequence[Tensor], residual: Tensor) -> Tensor:
    """Return the gradient of a loss of the product with respect to ``W_1``, up to a factor.

    The factor omits the scales of the layers, whose product may underflow in float32.

    Args:
        weights: ``W_1`` to ``W_L``.
        residual: (outputs, inputs), the gradient with respect to ``W_L ... W_1``.
    """
    gradient = residual
    for weight in reversed(weights[1:]):
        gradient = weight.T @ gradient / scale_of(weight)
    return gradient


def compress_weights(
    weights: Sequence[Tensor], gradient: Tensor, rank: int, *, exact: bool | None = None
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return ``V``, the inner factors and ``U`` of the network that follows the wide network.

    See ``rhm.adapters.linear_network.compress``.

    Raises:
        ConfigError: the rank is too high for a layer, the gradient is not finite or zero, or the
            weights are not orthogonal up to a scale.
        ValueError: a layer has more outputs than inputs, or the gradient does not have the shape of
            the first weight.
    """
    narrowest = min(min(weight.shape) for weight in weights)
    if 2 * rank > narrowest:
        raise ConfigError(
            f"rank {rank} needs layers of width {2 * rank}, but the narrowest has {narrowest}: "
            f"choose a rank of at most {narrowest // 2}"
        )
    right = active_subspace(weights[0], gradient, rank, exact=exact)
    carried, inner = right, []
    for weight in weights:
        outputs, inputs = weight.shape
        if outputs > inputs:
            raise ValueError(
                f"a layer from {inputs} to {outputs} cannot be compressed: the columns of the "
                "target that it does not reach are unknown; transpose the network"
            )
        scale = scale_of(weight)
        identity = torch.eye(2 * rank, dtype=weight.dtype, device=weight.device)
        carried = weight @ carried / scale
        if outputs < inputs:
            carried, triangle = torch.linalg.qr(carried)
            inner.append(scale * triangle)
        elif torch.linalg.norm(carried.T @ carried - identity) < _ORTHOGONAL:
            inner.append(scale * identity)
        else:
            raise ConfigError(
                "the weights are not orthogonal up to a scale: compress a network before it is "
                "trained"
            )
    return right, inner, carried
