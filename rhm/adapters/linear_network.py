"""Deep linear networks, and the small networks that follow the same path in training."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from rhm.adapters.completion import Completion, complete_matrix
from rhm.adapters.subspace import active_subspace
from rhm.adapters.weights import chain, compress_weights, orthogonal_weights

__all__ = ["Completion", "DeepLinearNetwork", "active_subspace", "complete_matrix", "compress"]


class DeepLinearNetwork(nn.Module):
    """The linear map ``x -> W_L ... W_1 x`` or ``x -> U W_L ... W_1 V^T x`` with trained factors.

    ``DeepLinearNetwork.orthogonal`` returns an initial network.

    Args:
        weights: ``W_1`` to ``W_L``, each (outputs, inputs), in the order of their application.
        left: ``U`` (outputs, outputs of ``W_L``), or None.
        right: ``V`` (inputs, inputs of ``W_1``), or None.

    Attributes:
        weights: ``W_1`` to ``W_L``, as parameters.
        left: ``U``, a parameter or None.
        right: ``V``, a parameter or None.

    Raises:
        ValueError: there is no weight, or the factors do not chain.
    """

    def __init__(
        self,
        weights: Iterable[Tensor],
        *,
        left: Tensor | None = None,
        right: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(each.detach().clone()) for each in weights)
        self.left = None if left is None else nn.Parameter(left.detach().clone())
        self.right = None if right is None else nn.Parameter(right.detach().clone())
        if not len(self.weights):
            raise ValueError("a deep linear network needs at least one weight")
        for before, after in pairwise(self.factors()):
            if before.shape[0] != after.shape[1]:
                raise ValueError(
                    f"a factor of shape {tuple(after.shape)} cannot follow one of shape "
                    f"{tuple(before.shape)}"
                )

    @classmethod
    def orthogonal(
        cls,
        widths: Sequence[int],
        *,
        init_scale: float = 1e-3,
        seed: int = 0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> "DeepLinearNetwork":
        """Return a network whose weights are ``init_scale`` times random orthogonal matrices.

        If a layer is not square, the vectors along its shorter side are orthonormal.

        Args:
            widths: widths of input, hidden layers and output: one more than there are weights.
            init_scale: ``eps``, every singular value of every weight.
            seed: seed of the weights, which are the same on every device.
            generator: generator on the CPU, to use instead of a seed.
            dtype: dtype of the weights.
            device: device of the weights.

        Raises:
            ConfigError: a width is below 1, or the scale is not above 0.
            ValueError: there are fewer than two widths.
        """
        generator = generator or torch.Generator().manual_seed(seed)
        weights = orthogonal_weights(widths, init_scale, generator=generator, dtype=dtype)
        return cls(weights).to(device)

    @property
    def depth(self) -> int:
        """Number of weights ``L``, without outer factors."""
        return len(self.weights)

    def factors(self) -> list[Tensor]:
        """Return all factors in the order of their application: ``V^T, W_1, ..., W_L, U``."""
        first = [] if self.right is None else [self.right.T]
        last = [] if self.left is None else [self.left]
        return [*first, *self.weights, *last]

    def product(self) -> Tensor:
        """Return the end-to-end matrix (outputs, inputs)."""
        return chain(self.factors())

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``inputs`` (..., inputs) to (..., outputs), factor by factor."""
        for factor in self.factors():
            inputs = nn.functional.linear(inputs, factor)
        return inputs

    def parameter_groups(
        self, learning_rate: float, outer_lr_ratio: float = 0.01
    ) -> list[dict[str, Any]]:
        """Return parameter groups for any torch optimizer, with a separate rate of outer factors.

        Args:
            learning_rate: learning rate of the weights.
            outer_lr_ratio: learning rate of the outer factors relative to it; 0 omits them.
        """
        groups: list[dict[str, Any]] = [{"params": list(self.weights), "lr": learning_rate}]
        outer = [factor for factor in (self.left, self.right) if factor is not None]
        if outer and outer_lr_ratio:
            groups.append({"params": outer, "lr": outer_lr_ratio * learning_rate})
        return groups


def compress(
    network: DeepLinearNetwork, gradient: Tensor, rank: int, *, exact: bool | None = None
) -> DeepLinearNetwork:
    """Return the small network that follows the same path as a wide network from its start.

    The small network is ``U W_L ... W_1 V^T``, where V is the active subspace,
    ``U = W_L ... W_1 V / eps^L``, and the inner factors are ``eps I`` of size ``2 * rank`` (arXiv
    2306.01154, section 4). With U and V fixed, its end-to-end map is that of the wide network,
    except for the part that does not change, of norm ``eps^L``, as long as the gradient keeps its
    rank. If the gradient does not keep its rank, U and V follow it when they are trained at a small
    rate. A layer with fewer outputs than inputs starts as a triangular inner factor instead of
    ``eps I``. If such a layer is not the last one, the paths differ by terms of the order ``eps``.

    Args:
        network: an untrained network without outer factors.
        gradient: gradient of the loss with respect to the first weight, with the same shape.
        rank: rank of the gradient, or an upper bound.
        exact: see ``active_subspace``.

    Raises:
        ConfigError: the rank is too high for a layer, the gradient is not finite or zero, or the
            weights are not orthogonal up to a scale.
        ValueError: the network is already compressed, a layer has more outputs than inputs, or the
            gradient does not have the shape of the first weight.
    """
    if network.left is not None or network.right is not None:
        raise ValueError("the network is already compressed")
    weights = [weight.detach() for weight in network.weights]
    right, inner, left = compress_weights(weights, gradient, rank, exact=exact)
    return DeepLinearNetwork(inner, left=left, right=right)
