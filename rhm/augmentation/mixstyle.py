"""MixStyle: the statistics of features are mixed between the chips of a batch."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rhm.errors import ConfigError

_EPSILON = 1e-6
_PROBE_PX = 64


class MixStyle:
    """Mixes feature statistics in early stages of an encoder; use it as a context manager.

    Each channel of a chip's features is normalised, and given a mean and spread between its own and
    those of another chip of the batch (Zhou, Yang, Qiao, Xiang, "Domain generalization with
    MixStyle", ICLR 2021). Only networks in training are changed, and afterwards nothing of it
    remains in the network. Random numbers come from torch's generator.

    Args:
        encoder: encoder that returns a list of features.
        stages: numbers of the features in that list whose statistics are mixed.
        p: probability that a stage mixes a batch; every stage draws for itself.
        alpha: parameter of the Beta distribution of the shares; small ones mix little.
        bands: number of bands of an image.

    Raises:
        ConfigError: a stage has no module of its own.
    """

    def __init__(
        self, encoder: nn.Module, stages: Sequence[int], *, p: float, alpha: float, bands: int
    ) -> None:
        self._encoder = encoder
        self._p = p
        self._alpha = alpha
        self._modules = stage_modules(encoder, stages, bands=bands) if p else []
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "MixStyle":
        for module in self._modules:
            self._handles.append(module.register_forward_hook(self._hook))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hook(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if not self._encoder.training or float(torch.rand(())) >= self._p:
            return None
        count = len(output)
        shares = torch.distributions.Beta(self._alpha, self._alpha).sample((count, 1, 1, 1))
        order = torch.randperm(count)
        return mixed_styles(output, shares.to(output), order.to(output.device))


def mixed_styles(features: Tensor, shares: Tensor, order: Tensor) -> Tensor:
    """Return features with the mean and spread between their own and those of others.

    Args:
        features: (N, C, H, W).
        shares: (N, 1, 1, 1) weights of a chip's own statistics, in [0, 1].
        order: (N,) number of the chip whose statistics are mixed in.

    Returns:
        (N, C, H, W), in the dtype of the features; no gradient flows through the statistics.
    """
    values = features.float()
    mean = values.mean(dim=(2, 3), keepdim=True).detach()
    # Features of a single cell have no other variance than this.
    spread = (values.var(dim=(2, 3), keepdim=True, correction=0) + _EPSILON).sqrt().detach()
    content = (values - mean) / spread
    shares = shares.float()
    other_mean = shares * mean + (1.0 - shares) * mean[order]
    other_spread = shares * spread + (1.0 - shares) * spread[order]
    return (content * other_spread + other_mean).to(features.dtype)


def stage_modules(encoder: nn.Module, stages: Sequence[int], *, bands: int) -> list[nn.Module]:
    """Return the modules of an encoder whose outputs are the features of some stages.

    Args:
        encoder: encoder that returns a list of features.
        stages: numbers of the features.
        bands: number of bands of an image.

    Raises:
        ConfigError: a stage has no module of its own.
    """
    outputs: dict[int, tuple[nn.Module, Tensor]] = {}

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            # The outermost module returns last. The tensor is kept, so that its id stays its own.
            outputs[id(output)] = (module, output)

    handles = [module.register_forward_hook(keep) for module in encoder.modules()]
    modes = [(module, module.training) for module in encoder.modules()]
    first = next(encoder.parameters())
    try:
        encoder.eval()
        with torch.no_grad():
            features = encoder(torch.zeros(1, bands, _PROBE_PX, _PROBE_PX).to(first))
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    known = [number for number, each in enumerate(features) if id(each) in outputs]
    for number in stages:
        if number not in known:
            raise ConfigError(
                f"augment.mixstyle_stages: the encoder has no module for stage {number}: choose of "
                f"{', '.join(map(str, known)) or 'another encoder'}"
            )
    return [outputs[id(features[number])][0] for number in stages]
