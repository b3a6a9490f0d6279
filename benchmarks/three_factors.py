"""Deep updates without compression: three trained factors, as wide as the layer or narrow."""

import torch
from torch import Tensor, nn

from rhm.adapters import DeepLoRA
from rhm.adapters.lowrank import LowRankUpdate


class ThreeFactors(LowRankUpdate):
    """``W_3 W_2 W_1``, which start at a multiple of orthogonal matrices.

    With the full width this is what Deep LoRA compresses; with a small one, it is the form of the
    authors' scripts for few examples.

    Args:
        rows: rows of the weight.
        columns: columns of the weight.
        width: rows of the first and columns of the last factor; None is the smaller side.
        scale: the multiple.
    """

    def __init__(
        self, rows: int, columns: int, width: int | None, scale: float = DeepLoRA.init_scale
    ) -> None:
        super().__init__()
        width = min(rows, columns, width or rows)
        shapes = ((width, columns), (width, width), (rows, width))
        self.parts = nn.ParameterList(
            scale * nn.init.orthogonal_(torch.empty(shape)) for shape in shapes
        )

    @property
    def rank(self) -> int:
        """The width."""
        return int(self.parts[1].shape[0])

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return ``W_3 W_2`` and ``W_1``."""
        first, second, third = self.parts
        return third @ second, first
