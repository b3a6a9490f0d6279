"""Test-time augmentation: the predictions of rotated and mirrored views, averaged."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rhm.models.building_classes import class_probabilities

Network = Callable[[Tensor], Tensor]
"""Function from normalised images (N, bands, H, W) float32 to logits (N, 1, H, W).

A model with classes returns logits (N, K, H, W); see ``rhm.models.building_classes``."""

# Mean probabilities of 0 or 1 have no finite logit; this limit is far below any that matters.
_LEAST = 1e-7


def averaged_over_views(network: Network) -> Network:
    """Return a network that averages the probabilities of eight views of an image.

    Overhead imagery has no preferred direction: the four rotations by quarter turns and their
    mirror images show the same ground. The network predicts all eight.

    Args:
        network: network that returns logits for square images.
    """
    return _Averaged(network)


class _Averaged(nn.Module):
    """The averaging network; it is a module, so that its device is that of the inner network."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.spec = getattr(network, "spec", None)

    def forward(self, images: Tensor) -> Tensor:
        total = torch.zeros(())
        for turns in range(4):
            turned = torch.rot90(images, turns, (2, 3))
            total = total + torch.rot90(_probability(self.network, turned), -turns, (2, 3))
            mirrored = _probability(self.network, turned.flip(3)).flip(3)
            total = total + torch.rot90(mirrored, -turns, (2, 3))
        mean = (total / 8.0).clamp(_LEAST, 1.0 - _LEAST)
        return torch.logit(mean) if mean.shape[1] == 1 else mean.log()


def _probability(network: Network, images: Tensor) -> Tensor:
    # The strides of a rotated view make networks slow.
    logits = network(images.contiguous(memory_format=torch.channels_last)).float()
    return class_probabilities(logits)
