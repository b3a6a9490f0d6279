"""Encoders with weights that differ everywhere, so that a tensor in a wrong place is noticed."""

from typing import Any

import timm
import torch
from torch import Tensor, nn


def whole_network(name: str, **options: Any) -> Any:
    """Return a network of timm with its head and random weights, in ``eval`` mode.

    Many tensors of a new network are zeros or ones, and would be the same in each other's place.
    """
    torch.manual_seed(0)
    network = timm.create_model(name, **options).eval()
    randomness = torch.Generator().manual_seed(1)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(torch.rand(tensor.shape, generator=randomness) * 0.2 + 0.9)
            tensor.add_(torch.rand(tensor.shape, generator=randomness) * 0.02 - 0.01)
        else:
            tensor.add_(int(torch.randint(1, 100, (), generator=randomness)))
    return network


def features_of(network: Any, encoder: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the features of a network of timm at the stages or blocks that an encoder returns."""
    inside: Any = encoder.get_submodule("model")
    indices = getattr(encoder, "indices", None) or list(inside.feature_info.out_indices)
    with torch.no_grad():
        found: list[Tensor] = network.forward_intermediates(
            images, indices=indices, intermediates_only=True
        )
    return found


def maps_of(encoder: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the features of an encoder that are maps, without the images."""
    with torch.no_grad():
        found = encoder(images)
    return [each for each in found if each is not images and each.ndim == 4 and each.shape[1]]


def largest_difference(found: list[Tensor], wanted: list[Tensor]) -> float:
    """Return the largest difference of features, as a share of the largest value of their map."""
    return max(
        float((ours - theirs).abs().max() / theirs.abs().max())
        for ours, theirs in zip(found, wanted, strict=True)
    )
