"""Initial factors of an update, from the gradient of a batch."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from rhm.adapters.lowrank import Adapter, DeepLoRA, DeepLoRAUpdate, LoRA, LoRAUpdate, LowRankUpdate
from rhm.adapters.subspace import top_singular_pairs
from rhm.adapters.targets import matrix_of
from rhm.errors import ConfigError

LossOf = Callable[[nn.Module], Tensor]
"""Function that runs a network on one batch and returns its loss."""


def weight_gradients(
    model: nn.Module, weights: Mapping[str, nn.Parameter], losses: Sequence[LossOf]
) -> dict[str, Tensor]:
    """Return the gradient of the mean loss for each weight, and leave the model unchanged.

    Args:
        model: the network; it runs in ``eval`` mode, so that its statistics do not change.
        weights: parameters of the network, by name.
        losses: one loss function for each batch.

    Raises:
        ConfigError: a gradient is not finite.
    """
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    try:
        model.eval()
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        for weight in weights.values():
            weight.requires_grad_(True)
        for loss in losses:
            found = torch.autograd.grad(loss(model), list(weights.values()), allow_unused=True)
            for name, gradient in zip(weights, found, strict=True):
                if gradient is not None:
                    total[name] += gradient / len(losses)
    finally:
        for parameter, needed in wanted:
            parameter.requires_grad_(needed)
        for module, training in modes:
            module.training = training
    for name, gradient in total.items():
        if not bool(torch.isfinite(gradient).all()):
            raise ConfigError(
                f"the gradient of {name} is not finite: check the value range of the batch"
            )
    return total


def gradient_factors(gradient: Tensor, rank: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return orthonormal U (m, r) and V (n, r) for the update of a weight with this gradient.

    Under gradient descent, the overparameterised update ``eps^L Q_L ... Q_1`` with orthogonal
    ``Q_l`` changes only within ``V = orth([V_g, P^T U_g])`` and ``U = P V``, where
    ``P = Q_L ... Q_1`` and U_g, V_g are the top r/2 singular vectors of the gradient (Yaras et
    al., ICML 2024, and the law of parsimony, arXiv 2306.01154). Therefore only P is needed, and
    only its product with r/2 vectors. Here P is a signed permutation, which is orthogonal and
    costs nothing.

    Args:
        gradient: gradient (m, n) of the loss.
        rank: rank r, even, at most the smaller side.
        seed: seed of P and of the range finding.

    Raises:
        ConfigError: the rank is odd or above the smaller side, or the gradient is not finite.
    """
    rows, columns = gradient.shape
    if rank % 2 or not 2 <= rank <= min(rows, columns):
        raise ConfigError(
            f"rank {rank} must be even and from 2 to {min(rows, columns)}, the layer's smaller side"
        )
    if not bool(torch.isfinite(gradient).all()):
        raise ConfigError("the gradient is not finite: check the value range of the batch")
    if not bool(gradient.any()):
        return random_factors(rows, columns, rank, like=gradient, seed=seed)
    if rows > columns:
        right, left = gradient_factors(gradient.T, rank, seed=seed)
        return left, right
    left, _, right = top_singular_pairs(gradient, rank // 2, seed=seed)
    order, signs = signed_permutation(rows, columns, like=gradient, seed=seed)
    # P (m, n) maps coordinate order[i] to i; P^T maps row i back.
    led_to = torch.zeros(columns, rank // 2, dtype=gradient.dtype, device=gradient.device)
    led_to[order] = signs * left
    inputs = _orthonormal(torch.cat([right, led_to], dim=1))
    return _orthonormal(signs * inputs[order]), inputs


def signed_permutation(
    rows: int, columns: int, *, like: Tensor, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return the matrix P (m, n) of ``gradient_factors``, as an order of columns and signs.

    Row i of P is ``signs[i]`` in column ``order[i]`` and 0 elsewhere.

    Args:
        rows: m, at most n.
        columns: n.
        like: tensor with the dtype and device of the result.
        seed: seed of P.

    Returns:
        Order (m,) int64 and signs (m, 1).
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(columns, generator=generator)[:rows].to(like.device)
    return order, torch.randint(0, 2, (rows, 1), generator=generator).to(like) * 2.0 - 1.0


def random_factors(
    rows: int, columns: int, rank: int, *, like: Tensor, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return random orthonormal U (m, r) and V (n, r), for updates without a gradient.

    Args:
        rows: m.
        columns: n.
        rank: rank r, at most m and n.
        like: tensor with the dtype and device of the result.
        seed: seed of the random factors.
    """
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(size, rank, generator=generator) for size in (rows, columns))
    return _orthonormal(left).to(like), _orthonormal(right).to(like)


def _orthonormal(columns: Tensor) -> Tensor:
    # In float64, because float32 would keep only the rounding errors of nearly dependent columns.
    orthonormal, triangle = torch.linalg.qr(columns.double())
    # Libraries choose signs differently. With these, orthonormal columns stay as they are.
    signs = torch.where(triangle.diagonal() < 0.0, -1.0, 1.0)
    signed: Tensor = orthonormal * signs
    return signed.to(columns.dtype)


def initial_update(
    adapter: Adapter, weight: Tensor, gradient: Tensor | None, *, seed: int
) -> LowRankUpdate:
    """Return an update of a layer before its training.

    Args:
        adapter: kind of update.
        weight: weight of the layer.
        gradient: gradient of the loss with respect to it; None draws outer factors at random.
        seed: seed of random factors.

    Raises:
        ConfigError: the weight is too coarse for Deep LoRA, or the gradient is zero or not finite.
    """
    matrix = matrix_of(weight)
    rows, columns = matrix.shape
    rank = adapter.fit(rows, columns)
    if isinstance(adapter, DeepLoRA) and torch.finfo(weight.dtype).bits < 32:
        raise ConfigError(
            f"weights of {str(weight.dtype).removeprefix('torch.')} are too coarse for the small "
            "start of Deep LoRA: convert the network with float()"
        )
    if isinstance(adapter, LoRA):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return LoRAUpdate(rows, columns, rank, adapter.scale).to(matrix)
    if gradient is None:
        left, right = random_factors(rows, columns, rank, like=matrix, seed=seed)
    else:
        left, right = gradient_factors(matrix_of(gradient), rank, seed=seed)
    return DeepLoRAUpdate(left, right, adapter)
