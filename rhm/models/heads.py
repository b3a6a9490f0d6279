"""Classifiers of dense features: the linear one that networks come with, and the cosine head."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

HEADS = ("linear", "cosine")
"""Classifiers by the name that a configuration gives."""

TEMPERATURE = 10.0
"""Of a cosine head by default: probabilities from 0.00005 to 0.99995 can be reached."""


class CosineClassifier(nn.Module):
    """Logits from the angle alone: ``tau * <w_k, h> / (|w_k| |h|)``.

    Features and rows lie on spheres, as in Yaras, Wang, Zhu, Balzano, Qu, NeurIPS 2022, where
    such networks collapse faster than those kept small by weight decay. It has no bias.

    Args:
        channels: D.
        classes: K.
        temperature: tau, the largest logit.
        learned: whether training changes it.

    Attributes:
        weight: (K, D, 1, 1), of any length.
        temperature: a scalar, a parameter where it is learned.
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
        # A fixed one is no parameter: whatever trains all of a network leaves it alone.
        if learned:
            self.temperature = nn.Parameter(value)
        else:
            self.register_buffer("temperature", value)
        nn.init.normal_(self.weight, std=1.0 / math.sqrt(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (N, K, H, W) of features (N, D, H, W); zeros where a feature is zero."""
        rows = functional.normalize(self.weight, dim=1)
        units = functional.normalize(features, dim=1)
        return self.temperature * functional.conv2d(units, rows)


def set_head(network: nn.Module, head: str, *, temperature: float, learned: bool) -> None:
    """Give a network of ``segmentation_models_pytorch`` the classifier of a name, in place.

    Raises:
        ValueError: there is no such head.
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
    """Return the first layer of a network's head: what makes logits of the last features."""
    return network.get_submodule("segmentation_head.0")


def classifier_rows(network: nn.Module) -> Tensor:
    """Return the rows (K, D) of the classifier of a network's last features.

    A convolution of k x k weighs neighbouring cells too. Where features are alike, which is
    where collapse is looked for, it acts as the sum of its weights over the window: these rows.
    """
    weight = classifier(network).get_parameter("weight")
    return weight.detach().sum(dim=(2, 3))


def classify(network: nn.Module, cells: Tensor) -> Tensor:
    """Return the logits (N, K) of cells (N, D) whose surroundings have the same features."""
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
