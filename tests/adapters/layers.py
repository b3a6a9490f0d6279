"""Layers of every kind that can have an adapter, and changes to them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rhm.adapters.attach import updates

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(12, 20), (3, 12)),
    "linear, wide": (lambda: nn.Linear(40, 8, bias=False), (2, 5, 40)),
    "conv1d": (lambda: nn.Conv1d(6, 9, 5, padding=2), (2, 6, 11)),
    "conv2d": (lambda: nn.Conv2d(6, 10, 3, stride=2, padding=1), (2, 6, 9, 8)),
    "conv2d, pointwise": (lambda: nn.Conv2d(8, 6, 1), (2, 8, 5, 5)),
    "conv2d, grouped": (lambda: nn.Conv2d(8, 12, 3, groups=4, dilation=2), (1, 8, 9, 9)),
    "conv2d, depthwise": (lambda: nn.Conv2d(10, 10, 5, groups=10), (1, 10, 7, 7)),
}


def stirred(model: nn.Module, *, seed: int = 0) -> None:
    """Change all that an adapter trains."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, update in updates(model):
            for parameter in update.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)


def square_loss(model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    output: Tensor = model(torch.randn(2, 3, 64, 64, generator=generator))
    return output.square().mean()
