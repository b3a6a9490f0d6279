"""Low-rank updates of a frozen weight, as values and as parametrisations.

The weight of any layer is treated as a matrix (outputs, inputs of a group x kernel positions). Its
update is computed once per step and added. A segmentation network processes so many pixels per
weight that this is cheaper than sending activations through low-rank branches, and it works for
every kind of convolution. Removing the parametrisation merges the update into the weight.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rhm.errors import ConfigError

MOST = 1 << 16
"""Largest rank and scale; no layer of a segmentation network is as wide."""

DEEPEST = 256
"""Most inner factors of Deep LoRA."""


@dataclass(frozen=True)
class LoRA:
    """Plain low-rank adaptation: the update ``alpha / rank * B A``, where B starts at zero.

    Hu et al., ICLR 2022.

    Attributes:
        rank: rank r of the update.
        alpha: scale of the update times r; None is r, so that the scale is 1. The default does not
            grow with the rank: where it does, the step that each update takes grows as well, and
            high ranks need a smaller learning rate for this reason alone.
    """

    rank: int = 8
    alpha: float | None = 8.0

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= MOST:
            raise ConfigError(f"rank must be at least 1 and at most {MOST}, got {self.rank}")
        if self.alpha is not None and not 0.0 < self.alpha <= MOST:
            raise ConfigError(f"alpha must be greater than 0 and at most {MOST}, got {self.alpha}")

    @property
    def scale(self) -> float:
        """The factor that ``B A`` is multiplied by."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    def fit(self, rows: int, columns: int) -> int:
        """Return the rank of the update for a matrix of this size, 0 if there is none."""
        return min(self.rank, rows, columns)


@dataclass(frozen=True)
class DeepLoRA:
    """Compressed deep low-rank adaptation: the update ``U (W_L ... W_1) V^T``.

    Yaras, Wang, Balzano, Qu, ICML 2024. The inner factors start at ``init_scale`` times the
    identity, so the update starts at about ``init_scale ** depth``. This is practically zero, but
    not a saddle point.

    Attributes:
        rank: rank r, even: U and V span r/2 leading directions of the gradient and the r/2
            directions that it leads to.
        depth: number of inner factors, L.
        init_scale: initial scale of the inner factors, epsilon.
        outer_lr_ratio: learning rate of U and V as a share of that of the inner factors, gamma; 0
            freezes them.
    """

    rank: int = 8
    depth: int = 3
    init_scale: float = 1e-3
    outer_lr_ratio: float = 1e-2

    def __post_init__(self) -> None:
        if self.rank < 2 or self.rank % 2:
            raise ConfigError(f"the rank of Deep LoRA must be even and at least 2, got {self.rank}")
        if self.rank > MOST:
            raise ConfigError(f"the rank of Deep LoRA must be at most {MOST}, got {self.rank}")
        if not 1 <= self.depth <= DEEPEST:
            raise ConfigError(f"depth must be at least 1 and at most {DEEPEST}, got {self.depth}")
        if not 0.0 < self.init_scale <= 1.0:
            raise ConfigError(f"init_scale must be in (0, 1], got {self.init_scale}")
        if not 0.0 <= self.outer_lr_ratio <= 1.0:
            raise ConfigError(f"outer_lr_ratio must be in [0, 1], got {self.outer_lr_ratio}")

    def fit(self, rows: int, columns: int) -> int:
        """Return the rank of the update for a matrix of this size, 0 if there is none."""
        return min(self.rank, rows, columns) // 2 * 2


Adapter = LoRA | DeepLoRA
"""Kinds of update that ``attach`` adds to a network."""


class LowRankUpdate(nn.Module):
    """A parametrisation ``W -> W + Delta``, W of any shape (outputs, ...)."""

    @property
    def rank(self) -> int:
        """The largest rank that Delta can have."""
        raise NotImplementedError

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return matrices (outputs, r) and (r, all other dimensions) whose product is Delta."""
        raise NotImplementedError

    def update(self) -> Tensor:
        """Return Delta as a matrix (outputs, all other dimensions)."""
        left, right = self.factors()
        return torch.mm(left, right)

    def outer(self) -> list[nn.Parameter]:
        """Return the parameters that have the separate learning rate of outer factors."""
        return []

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated weight, with the shape and dtype of the weight."""
        # Half precision cannot represent the initial values of Deep LoRA.
        with torch.autocast(weight.device.type, enabled=False):
            left, right = (each.to(weight.dtype) for each in self.factors())
            # One pass over the weight, where a product and a sum would need two.
            return torch.addmm(weight.reshape(len(left), -1), left, right).view_as(weight)


class LoRAUpdate(LowRankUpdate):
    """``scale * B A``, where A is initialised as in PEFT and B is zero.

    Attributes:
        a: (r, columns).
        b: (rows, r).
    """

    def __init__(self, rows: int, columns: int, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.a = nn.Parameter(torch.empty(rank, columns))
        self.b = nn.Parameter(torch.zeros(rows, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    @property
    def rank(self) -> int:
        """The rank r."""
        return int(self.a.shape[0])

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return ``scale * B`` and ``A``."""
        return self.b * self.scale, self.a


class DeepLoRAUpdate(LowRankUpdate):
    """``U (W_L ... W_1) V^T``.

    Attributes:
        left: U, (rows, r).
        inner: W_1 to W_L, (L, r, r).
        right: V, (columns, r).
    """

    def __init__(self, left: Tensor, right: Tensor, adapter: DeepLoRA) -> None:
        super().__init__()
        rank = left.shape[1]
        trained = adapter.outer_lr_ratio > 0.0
        self.left = nn.Parameter(_contiguous(left), requires_grad=trained)
        self.right = nn.Parameter(_contiguous(right), requires_grad=trained)
        one = adapter.init_scale * torch.eye(rank, dtype=left.dtype, device=left.device)
        self.inner = nn.Parameter(one.repeat(adapter.depth, 1, 1))

    @property
    def rank(self) -> int:
        """The rank r."""
        return int(self.left.shape[1])

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return ``U W_L ... W_1`` and ``V^T``."""
        core = self.inner[0]
        for factor in self.inner[1:]:
            core = factor @ core
        return self.left @ core, self.right.T

    def outer(self) -> list[nn.Parameter]:
        """Return U and V."""
        return [self.left, self.right]


def _contiguous(matrix: Tensor) -> Tensor:
    """Return a copy, row by row.

    Products round by the order in memory too, and an adapter that is loaded from its file merges
    into the very weights that training wrote.
    """
    return matrix.clone(memory_format=torch.contiguous_format)
