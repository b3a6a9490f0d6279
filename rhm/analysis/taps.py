"""Features from inside a network, recorded while it runs."""

import difflib
import re
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rhm.errors import AnalysisError

_PART = re.compile(r"(?P<module>.*)\[(?P<index>\d+)\]")
_PROBE_PX = (64, 224, 256)
"""Image sizes to probe a network with: some networks accept only one size."""


class Taps:
    """Records the outputs of named modules of a network; use it as a context manager.

        with Taps(model, ["encoder[4]", "decoder.blocks.2"]) as taps:
            model(images)
        taps.features["encoder[4]"]

    Afterwards the hooks are removed from the network, even if an error was raised.

    Args:
        model: any module.
        names: names of its modules, as in ``named_modules``; ``name[i]`` is item i of a list or
            tuple that a module returns, such as the stages of an encoder.
        graph: whether gradients flow through the features; by default they are detached.

    Attributes:
        features: by name, the last output of the module, in the order of computation. It is a
            copy, because the next layer may work in place.

    Raises:
        AnalysisError: there is no such module; the message names similar ones.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], *, graph: bool = False) -> None:
        self.features: dict[str, Tensor] = {}
        self._graph = graph
        known = dict(model.named_modules())
        self._wanted: dict[str, list[tuple[str, int | None]]] = {}
        for name in names:
            part = _PART.fullmatch(name)
            module = part["module"] if part else name
            if module not in known:
                raise AnalysisError(_unknown(module, list(known)))
            index = int(part["index"]) if part else None
            self._wanted.setdefault(module, []).append((name, index))
        self._modules = {module: known[module] for module in self._wanted}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "Taps":
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(self._hook(name)))
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

    def _hook(self, module_name: str) -> Any:
        def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            for name, index in self._wanted[module_name]:
                given = _item(name, output, index)
                self.features.pop(name, None)
                self.features[name] = given.clone() if self._graph else given.detach().clone()

        return keep


def stages(network: nn.Module, *, bands: int = 3) -> tuple[str, ...]:
    """Return the names of the stages of an encoder-decoder network, in order of computation.

    For networks of ``segmentation_models_pytorch``, these are ``encoder[0]``, which is the image
    itself, all stages of the encoder, all blocks of the decoder, and finally the decoder itself,
    whose features are the input of the head.

    Args:
        network: a network with the modules ``encoder``, which returns a list of features, and
            ``decoder``.
        bands: number of input bands.

    Raises:
        AnalysisError: the network does not have these modules.
    """
    parts = dict(network.named_children())
    widths: Any = getattr(parts.get("encoder"), "out_channels", None)
    if widths is None or "decoder" not in parts:
        raise AnalysisError(
            f"{type(network).__name__} has no encoder and decoder: name the layers to analyse, "
            f"such as {', '.join(list(parts)[:4])}"
        )
    within = "decoder.blocks" if hasattr(parts["decoder"], "blocks") else "decoder"
    names = [f"encoder[{index}]" for index in range(len(widths))]
    names += [f"{within}.{name}" for name, _ in network.get_submodule(within).named_children()]
    found: dict[str, Tensor] = {}
    for name, features in _run(network, [*names, "decoder"], bands).items():
        same = [n for n, f in found.items() if f.shape == features.shape and f.equal(features)]
        # Encoders that start at a quarter of the image size return an empty tensor for the half.
        empty = features.ndim != 4 or not features.shape[1]
        if empty or any(n.startswith("encoder") for n in same):
            continue
        # The last block may return the same as the decoder, which is the better name.
        for other in same:
            del found[other]
        found[name] = features
    return tuple(found)


def _run(network: nn.Module, names: Sequence[str], bands: int) -> dict[str, Tensor]:
    """Return the outputs of modules on a small image, in order of computation."""
    first = next(network.parameters())
    # For every module, because some modules of a network in training may be frozen.
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        for side in _PROBE_PX:
            image = torch.linspace(-2, 2, bands * side**2, device=first.device, dtype=first.dtype)
            try:
                with torch.no_grad(), Taps(network, names) as taps:
                    network(image.reshape(1, bands, side, side))
            except (AssertionError, RuntimeError, ValueError):
                continue
            return taps.features
    finally:
        for module, training in modes:
            module.training = training
    sides = ", ".join(map(str, _PROBE_PX))
    raise AnalysisError(
        f"the network accepts no image of {sides} pixels: name the layers to analyse"
    )


def _item(name: str, output: Any, index: int | None) -> Tensor:
    if index is None and isinstance(output, Tensor):
        return output
    if index is not None and isinstance(output, list | tuple) and index < len(output):
        item = output[index]
        if isinstance(item, Tensor):
            return item
    if isinstance(output, list | tuple):
        module = name.partition("[")[0]
        last = len(output) - 1
        raise AnalysisError(
            f"{module} returns {last + 1} features: name one, {module}[0] to {module}[{last}]"
        )
    raise AnalysisError(f"{name} does not return features but {type(output).__name__}")


def _unknown(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, [each for each in known if each], n=4, cutoff=0.3)
    choice = f"did you mean {', '.join(near)}?" if near else f"choose e.g. {', '.join(known[1:5])}"
    return f"the network has no layer '{name}': {choice}"
