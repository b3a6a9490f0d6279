"""AdaBN: the statistics of batch normalisation are measured anew on the target, and nothing else.

Li, Wang, Shi, Liu, Hou, "Revisiting batch normalization for practical domain adaptation", 2016
(arXiv 1603.04779). One pass over the unlabelled imagery is enough, without labels, source imagery
or gradients.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rhm.data.chips import UnlabelledChip
from rhm.errors import ConfigError

BatchNorm = nn.modules.batchnorm._BatchNorm
"""Base class of every batch normalisation."""


@dataclass(frozen=True, eq=False)
class ChannelMoments:
    """Number, mean and spread of the values of each channel; mergeable.

    Attributes:
        count: number of values of each channel.
        mean: (C,) float64 means.
        squares: (C,) float64 sums of the squared deviations from the mean.
    """

    count: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, features: Tensor, counted: Tensor) -> "ChannelMoments":
        """Measure the counted cells of features.

        Args:
            features: (N, C, H, W) features.
            counted: (N, H, W) bool.
        """
        cells = features.detach().movedim(1, -1)[counted].double()
        if not len(cells):
            nothing = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
            return cls(0, nothing, nothing.clone())
        mean = cells.mean(dim=0)
        return cls(len(cells), mean, (cells - mean).square().sum(dim=0))

    def merge(self, other: "ChannelMoments") -> "ChannelMoments":
        """Return the moments of the values of both (Chan, Golub, LeVeque, 1979)."""
        count = self.count + other.count
        if not count:
            return self
        away = other.mean - self.mean
        return ChannelMoments(
            count,
            self.mean + away * (other.count / count),
            self.squares + other.squares + away.square() * (self.count * other.count / count),
        )

    def variance(self, *, unbiased: bool) -> Tensor:
        """Return the variances (C,) float64."""
        return self.squares / max(1, self.count - int(unbiased))


def measure_statistics(
    model: nn.Module, batches: Iterable[UnlabelledChip]
) -> dict[str, ChannelMoments]:
    """Measure the input of every batch normalisation over all valid pixels of a target domain.

    As in training, each batch is normalised by its own statistics on the way, or by those of the
    model where no cell of it is counted. Parts of the imagery can therefore be measured apart and
    merged. Cells that see nodata are not counted.

    Args:
        model: network, left as it was.
        batches: unlabelled chips in batches; larger ones are closer to the whole domain.

    Returns:
        Moments by the name of the module.

    Raises:
        ConfigError: the network has no batch normalisation.
    """
    layers = {name: each for name, each in model.named_modules() if isinstance(each, BatchNorm)}
    if not layers:
        raise ConfigError(
            "the model has no batch normalisation, so adabn changes nothing: choose another method"
        )
    moments: dict[str, ChannelMoments] = {}
    device = next(model.parameters()).device
    own = {name: [buffer.clone() for buffer in layer.buffers()] for name, layer in layers.items()}
    with _undone(model, layers), torch.inference_mode():
        for batch in batches:
            for name, layer in layers.items():
                for buffer, value in zip(layer.buffers(), own[name], strict=True):
                    buffer.copy_(value)
            valid = batch["valid"].to(device)
            hooks = [
                layer.register_forward_pre_hook(partial(_measure, moments, name, valid))
                for name, layer in layers.items()
            ]
            try:
                images = batch["image"].to(device)
                model(images.contiguous(memory_format=torch.channels_last))
            finally:
                for hook in hooks:
                    hook.remove()
    return moments


def set_statistics(model: nn.Module, moments: dict[str, ChannelMoments]) -> None:
    """Make moments the running statistics of the modules of these names, in place.

    A module none of whose cells was counted keeps its statistics.
    """
    with torch.no_grad():
        for name, measured in moments.items():
            if measured.count > 1:
                _set(model.get_submodule(name), measured, unbiased=True)


def _measure(
    moments: dict[str, ChannelMoments],
    name: str,
    valid: Tensor,
    layer: nn.Module,
    inputs: tuple[Any, ...],
) -> None:
    """Count the input of a layer, and let the layer normalise it by its own statistics."""
    features: Tensor = inputs[0]
    size = (features.shape[2], features.shape[3])
    counted = functional.adaptive_avg_pool2d(valid.float(), size)[:, 0] > 1.0 - 1e-6
    measured = ChannelMoments.of(features, counted)
    moments[name] = moments[name].merge(measured) if name in moments else measured
    if measured.count > 1:
        _set(layer, measured, unbiased=False)


def _set(layer: nn.Module, measured: ChannelMoments, *, unbiased: bool) -> None:
    if not isinstance(layer, BatchNorm) or layer.running_mean is None or layer.running_var is None:
        return
    layer.running_mean.copy_(measured.mean)
    layer.running_var.copy_(measured.variance(unbiased=unbiased))


@contextmanager
def _undone(model: nn.Module, layers: Mapping[str, nn.Module]) -> Iterator[None]:
    """Let a network predict inside the block; afterwards its modes and statistics are as before."""
    modes = [(module, module.training) for module in model.modules()]
    kept = [(each, each.clone()) for layer in layers.values() for each in layer.buffers()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
