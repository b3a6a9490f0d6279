"""Classifiers of dense features: the networks' own linear head, and the cosine head."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

HEADS = ("linear", "cosine")
"""Classifiers, by the names that configurations use."""

TEMPERATURE = 10.0
"""Default temperature of a cosine head; it allows probabilities from 0.00005 to 0.99995."""


class CosineClassifier(nn.Module):
    """Logits that depend only on angles: ``tau * <w_k, h> / (|w_k| |h|)``, without a bias.

    Features and classifier rows are normalised to spheres, as in Yaras, Wang, Zhu, Balzano, Qu,
    NeurIPS 2022, where such networks collapse faster than networks with weight decay.

    Args:
        channels: D, the number of features.
        classes: K, the number of classes.
        temperature: tau, the largest possible logit.
        learned: whether the temperature is trained.

    Attributes:
        weight: (K, D, 1, 1); the length of its rows has no effect.
        temperature: scalar tensor, a parameter if it is learned and otherwise a buffer.
    """

    temperature: Tensor

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        temperature: float = TEMPERATURE,
        learned: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, channels, 1, 1))
        value = torch.tensor(float(temperature))
        # A fixed temperature is a buffer, so that training all parameters does not change it.
        if learned:
            self.temperature = nn.Parameter(value)
        else:
            self.register_buffer("temperature", value)
        nn.init.normal_(self.weight, std=1.0 / math.sqrt(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of features (N, D, H, W); a zero feature has zero logits."""
        rows, units = _normalized(self.weight), _normalized(features)
        return self.temperature * functional.conv2d(units, rows)


def _normalized(vectors: Tensor) -> Tensor:
    """Return vectors (N, D, H, W) of length 1 along D; those of length 0 remain so."""
    # torch's default, 1e-12, is zero in float16, where a zero feature would become NaN. The least
    # number above zero is below the length of any other feature.
    known = torch.finfo(vectors.dtype)
    return functional.normalize(vectors, dim=1, eps=max(1e-12, known.tiny * known.eps))


def set_head(network: nn.Module, head: str, *, temperature: float, learned: bool) -> None:
    """Replace the classifier of a network from ``segmentation_models_pytorch``, in place.

    Args:
        network: network to change.
        head: one of ``HEADS``; ``linear`` changes nothing.
        temperature: initial temperature of a cosine head.
        learned: whether the temperature is trained.

    Raises:
        ValueError: the head is unknown, or the network's classifier cannot be replaced.
    """
    if head not in HEADS:
        raise ValueError(f"unknown head: choose {', '.join(HEADS)}")
    if head == "linear":
        return
    stages = network.get_submodule("segmentation_head")
    first = classifier(network)
    if not isinstance(stages, nn.Sequential) or not isinstance(first, nn.Conv2d):
        raise ValueError(f"the head of {type(network).__name__} cannot be replaced")
    stages[0] = CosineClassifier(
        first.in_channels, first.out_channels, temperature=temperature, learned=learned
    )


def classifier(network: nn.Module) -> nn.Module:
    """Return the first layer of a network's head, which maps the last features to logits."""
    return network.get_submodule("segmentation_head.0")


def classifier_rows(network: nn.Module) -> Tensor:
    """Return the rows (K, D) of the classifier of a network's last features.

    A k x k convolution also weighs neighbouring cells. Collapse is measured where neighbouring
    features are alike; there, the convolution acts like its weights summed over the kernel. These
    sums are the rows. Those of a cosine head have length 1, because it ignores their length.
    """
    head = classifier(network)
    weight = head.get_parameter("weight").detach()
    rows = weight.sum(dim=(2, 3))
    return _normalized(rows) if isinstance(head, CosineClassifier) else rows


def classified(network: nn.Module, features: Tensor) -> Tensor:
    """Return the last features (N, D, ...) as the classifier of a network takes them.

    A cosine head ignores the length of features, so that before one they have length 1 along D.
    """
    return _normalized(features) if has_unit_features(network) else features


def has_unit_features(network: nn.Module) -> bool:
    """Return whether the classifier of a network ignores the length of the last features."""
    return isinstance(classifier(network), CosineClassifier)


def classify(network: nn.Module, cells: Tensor) -> Tensor:
    """Return the logits (N, K) of cells (N, D) whose neighbours have the same features."""
    head = classifier(network)
    image = cells[:, :, None, None].to(head.get_parameter("weight").device)
    if isinstance(head, nn.Conv2d):
        rows, columns = head.kernel_size
        logits = functional.conv2d(
            image.expand(-1, -1, rows, columns), head.weight, head.bias, groups=head.groups
        )
        return logits[:, :, 0, 0]
    logits = head(image)
    return torch.as_tensor(logits)[:, :, 0, 0]
