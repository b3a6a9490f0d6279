"""Views: an image turned and mirrored, predicted each way, and averaged."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Network = Callable[[Tensor], Tensor]
"""Returns logits (N, 1, H, W) of normalised images (N, bands, H, W) float32."""

# Averaged probabilities of 0 or 1 have no finite logit; this is far below any that matters.
_LEAST = 1e-7


def averaged_over_views(network: Network) -> Network:
    """Return a network that averages the probabilities of all eight views of an image.

    Overhead imagery has no up: the four quarter turns, each as it is and mirrored, show the
    same ground. It costs eight predictions.

    Args:
        network: gives logits of square images.
    """
    return _Averaged(network)


class _Averaged(nn.Module):
    """A module, so that it is found on the device of the network within."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        total = torch.zeros(())
        for turns in range(4):
            turned = torch.rot90(images, turns, (2, 3))
            total = total + torch.rot90(_probability(self.network, turned), -turns, (2, 3))
            mirrored = _probability(self.network, turned.flip(3)).flip(3)
            total = total + torch.rot90(mirrored, -turns, (2, 3))
        return torch.logit((total / 8.0).clamp(_LEAST, 1.0 - _LEAST))


def _probability(network: Network, images: Tensor) -> Tensor:
    # A turned image is a view with strides that networks are slow on.
    return network(images.contiguous(memory_format=torch.channels_last)).float().sigmoid()
