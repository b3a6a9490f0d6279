"""Adapters on a network: attach, train, merge and detach them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rhm.adapters.gradient import LossOf, initial_update, weight_gradients
from rhm.adapters.lowrank import Adapter, DeepLoRA, LowRankUpdate
from rhm.adapters.targets import (
    Targets,
    layers_to_adapt,
    matches,
    modules_of_weights,
)
from rhm.errors import ConfigError
from rhm.notebook_display import Curves, NotebookDisplay

BATCH_NORM = ("frozen", "statistics", "affine")
"""Modes of batch norm: frozen, update the statistics, or also train scale and offset."""

_RECORD = "_rhm_adapter"


@dataclass(frozen=True)
class AttachedLayer:
    """An adapted layer.

    Attributes:
        name: name of the module.
        kind: type of the module: ``Linear``, ``Conv2d``, ...
        shape: shape of the weight.
        rank: rank of the update.
        parameters: number of trained parameters of the update.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    rank: int
    parameters: int


@dataclass(frozen=True)
class Attachment(NotebookDisplay):
    """Description of what was attached to a network.

    Attributes:
        adapter: kind of update, or None if there are no updates.
        layers: the adapted layers.
        batch_norm: one of ``BATCH_NORM``.
        trained: globs of modules and parameters that are also trained, in full.
        saved: original values of all tensors of the network that training may change.
        total: number of parameters of the network without the updates.
    """

    adapter: Adapter | None
    layers: tuple[AttachedLayer, ...]
    batch_norm: str
    trained: tuple[str, ...]
    saved: Mapping[str, Tensor]
    total: int

    @property
    def parameters(self) -> int:
        """Number of trained parameters of the updates."""
        return sum(layer.parameters for layer in self.layers)

    def _facts(self) -> dict[str, object]:
        return {
            "update": "none" if self.adapter is None else repr(self.adapter),
            "layers": len(self.layers),
            "parameters": f"{self.parameters:,} ({self.parameters / max(self.total, 1):.2%} of "
            f"the network's {self.total:,})",
            "batch normalisation": self.batch_norm,
            "trained in full": ", ".join(self.trained) or "nothing",
        }

    def _picture(self) -> Curves:
        """Return how many parameters of each layer are trained, from the first to the last."""
        if not self.layers:
            raise ValueError("no layer has an update")
        numbers = range(1, len(self.layers) + 1)
        lines = {
            "weight": (numbers, [math.prod(layer.shape) for layer in self.layers]),
            "update": (numbers, [layer.parameters for layer in self.layers]),
        }
        return Curves("layer", "parameters", lines, logarithmic=True)


def attach(
    model: nn.Module,
    adapter: Adapter | None,
    targets: Targets = "all",
    gradient_batch: LossOf | Sequence[LossOf] | None = None,
    *,
    batch_norm: str = "frozen",
    trained: Sequence[str] = (),
    but: Sequence[str] = (),
    seed: int = 0,
) -> Attachment:
    """Add low-rank updates to the weights of a network in place, and freeze the rest.

    Args:
        model: a network whose weights are loaded.
        adapter: kind of update, or None to train only what ``trained`` names.
        targets: layers that get updates, see ``rhm.adapters.targets``. If a layer of a preset is
            too small for the rank, its update has full rank; a layer that is named explicitly must
            be large enough.
        gradient_batch: function that returns the loss of a batch, or several functions whose mean
            is used. Deep LoRA computes its outer factors from the gradient of this loss. Without
            it, the outer factors are random.
        batch_norm: one of ``BATCH_NORM``.
        trained: globs of modules or parameters that are also trained, in full, and get no updates,
            such as ``*segmentation_head`` or ``*.bias``.
        but: globs of further modules that get no updates.
        seed: seed of random factors.

    Raises:
        ConfigError: no layer is a target, the rank is above that of a named layer, the network or
            a part of it already has an adapter, a gradient is not finite, weights are too coarse
            for Deep LoRA, or nothing would be trained.
    """
    require_bare(model)
    if adapter is None:
        return put_on(model, None, {}, batch_norm=batch_norm, trained=trained)
    layers = layers_to_adapt(
        model, adapter, targets, but=[*trained, *modules_of_weights(model, trained), *but]
    )
    gradients: Mapping[str, Tensor] = {}
    if gradient_batch is not None and isinstance(adapter, DeepLoRA):
        losses = [gradient_batch] if callable(gradient_batch) else list(gradient_batch)
        weights = {name: layer.get_parameter("weight") for name, layer in layers.items()}
        gradients = weight_gradients(model, weights, losses)
    found = {
        # Not the sum: else neighbouring seeds would have the same draws, one layer apart.
        name: initial_update(
            adapter,
            layer.get_parameter("weight"),
            gradients.get(name),
            seed=int(np.random.SeedSequence((seed % 2**64, index)).generate_state(1)[0]),
        )
        for index, (name, layer) in enumerate(layers.items())
    }
    return put_on(model, adapter, found, batch_norm=batch_norm, trained=trained)


def put_on(
    model: nn.Module,
    adapter: Adapter | None,
    updates: Mapping[str, LowRankUpdate],
    *,
    batch_norm: str,
    trained: Sequence[str],
) -> Attachment:
    """Add existing updates to a network in place, and freeze the rest.

    Args:
        model: a network without an adapter.
        adapter: kind of the updates, or None if there are none.
        updates: the updates, by the names of their layers.
        batch_norm: one of ``BATCH_NORM``.
        trained: globs of modules and parameters that are also trained, in full.

    Raises:
        ConfigError: nothing matches a glob, ``batch_norm`` is unknown, or nothing would be trained.
    """
    besides = trained_besides(model, batch_norm, trained)
    if not updates and not besides:
        raise ConfigError("nothing would be trained: choose an adapter, or name the parts to train")
    total = sum(each.numel() for each in model.parameters())
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    rows = []
    for name, update in updates.items():
        layer = model.get_submodule(name)
        shape = tuple(layer.get_parameter("weight").shape)
        kind = type(layer).__name__
        size = sum(each.numel() for each in update.parameters() if each.requires_grad)
        parametrize.register_parametrization(layer, "weight", update, unsafe=True)
        rows.append(AttachedLayer(name, kind, shape, update.rank, size))
    for tensor in besides.values():
        if isinstance(tensor, nn.Parameter):
            tensor.requires_grad_(True)
    saved = {name: tensor.detach().clone() for name, tensor in besides.items()}
    attachment = Attachment(adapter, tuple(rows), batch_norm, tuple(trained), saved, total)
    setattr(model, _RECORD, attachment)
    return attachment


def attachment_of(model: nn.Module) -> Attachment | None:
    """Return the attachment of a network, or None."""
    found = getattr(model, _RECORD, None)
    return found if isinstance(found, Attachment) else None


def require_bare(model: nn.Module) -> None:
    """Check that neither a network nor a part of it has an adapter.

    Raises:
        ConfigError: it has one.
    """
    told = "already has an adapter: merge or detach it first"
    found = [(n, told) for n, module in model.named_modules() if attachment_of(module) is not None]
    told = "belongs to an adapter of a larger network: merge that first"
    found += [(name, told) for name, _ in updates(model)]
    for name, told in found:
        which = f"{name}, a part of the network," if name else "the network"
        raise ConfigError(f"{which} {told}")


def check_whole(model: nn.Module) -> None:
    """Check that no part of a network has got an adapter of its own after the network's.

    Raises:
        ConfigError: one has.
    """
    own = {layer.name for layer in _attached(model).layers}
    other = next((name for name, _ in updates(model) if name not in own), None)
    if other is not None:
        raise ConfigError(
            f"{other} has an adapter of its own beside that of the network: merge or detach it "
            "first"
        )


def merge(model: nn.Module) -> None:
    """Merge the updates into the weights, so that an ordinary network gives the same results.

    Afterwards all of its parameters can be trained.

    Raises:
        ConfigError: there is no adapter, or an adapted layer also has another parametrisation.
    """
    _remove(model, merged=True)


def detach(model: nn.Module) -> None:
    """Remove the adapter, so that the weights are bit for bit the same as before ``attach``.

    Afterwards all parameters of the network can be trained.

    Raises:
        ConfigError: there is no adapter, or an adapted layer also has another parametrisation.
    """
    saved = _attached(model).saved
    _remove(model, merged=False)
    with torch.no_grad():
        state = model.state_dict(keep_vars=True)
        for name, tensor in saved.items():
            state[name].copy_(tensor)


def trained_besides(model: nn.Module, batch_norm: str, trained: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensors of the network itself that training may change, by name.

    A tensor with several names, such as a shared weight, is listed by the first of them.

    Args:
        model: a network without an adapter.
        batch_norm: one of ``BATCH_NORM``.
        trained: globs of modules and parameters.

    Raises:
        ConfigError: nothing matches a glob, or ``batch_norm`` is unknown.
    """
    if batch_norm not in BATCH_NORM:
        raise ConfigError(f"unknown batch_norm '{batch_norm}': choose {', '.join(BATCH_NORM)}")
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and batch_norm != "frozen":
            found |= dict(module.named_buffers(prefix=name, recurse=False))
            if batch_norm == "affine":
                found |= dict(module.named_parameters(prefix=name, recurse=False))
    for glob in trained:
        every = model.named_parameters(remove_duplicate=False)
        named = {name: each for name, each in every if matches(name, [glob])}
        if not named:
            raise ConfigError(f"no module or parameter of the network matches '{glob}'")
        found |= named
    once = {id(tensor): name for name, tensor in reversed(found.items())}
    return {name: tensor for name, tensor in found.items() if once[id(tensor)] == name}


def updates(model: nn.Module) -> Iterator[tuple[str, LowRankUpdate]]:
    """Yield the updates of a network with the names of their layers."""
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            for update in module.get_submodule("parametrizations.weight").children():
                if isinstance(update, LowRankUpdate):
                    yield name, update


def parameter_groups(
    model: nn.Module, learning_rate: float, *, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Return the trained parameters as groups for any optimiser, with their learning rates.

    The outer factors of Deep LoRA have ``outer_lr_ratio`` times the learning rate of the others.
    Low-rank factors, biases and norms get no weight decay.

    Raises:
        ConfigError: there is no adapter.
    """
    adapter = _attached(model).adapter
    ratio = adapter.outer_lr_ratio if isinstance(adapter, DeepLoRA) else 1.0
    found = [update for _, update in updates(model)]
    outer = {id(each) for update in found for each in update.outer()}
    factors = {id(each) for update in found for each in update.parameters()}
    wanted = [each for each in model.parameters() if each.requires_grad]
    besides = [each for each in wanted if id(each) not in factors]
    groups: list[dict[str, Any]] = [
        {
            "params": [each for each in wanted if id(each) in factors - outer],
            "lr": learning_rate,
            "weight_decay": 0.0,
        },
        {
            "params": [each for each in wanted if id(each) in outer],
            "lr": ratio * learning_rate,
            "weight_decay": 0.0,
        },
        {
            "params": [each for each in besides if each.ndim > 1],
            "lr": learning_rate,
            "weight_decay": weight_decay,
        },
        {
            "params": [each for each in besides if each.ndim <= 1],
            "lr": learning_rate,
            "weight_decay": 0.0,
        },
    ]
    return [group for group in groups if group["params"]]


def hold_batch_norm(model: nn.Module) -> None:
    """Set batch norms to the mode of the attachment; call this after ``model.train()``.

    Raises:
        ConfigError: there is no adapter.
    """
    policy = _attached(model).batch_norm
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train(policy != "frozen" and model.training)


def _attached(model: nn.Module) -> Attachment:
    found = attachment_of(model)
    if found is None:
        raise ConfigError("the network has no adapter")
    return found


def _remove(model: nn.Module, *, merged: bool) -> None:
    check_whole(model)
    layers = [model.get_submodule(layer.name) for layer in _attached(model).layers]
    for layer in layers:
        lists = list(layer.get_submodule("parametrizations").children())
        if len(lists) > 1 or len(list(lists[0].children())) > 1:
            raise ConfigError("an adapted layer also has another parametrisation: remove it first")
    for layer in layers:
        _restore(layer, merged=merged)
    delattr(model, _RECORD)
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def _restore(layer: nn.Module, *, merged: bool) -> None:
    """Restore the plain weight of a layer, updated or original."""
    updated = layer.get_parameter("parametrizations.weight.original")
    if merged:
        with torch.no_grad():
            updated.copy_(layer.weight)  # type: ignore[arg-type]
    # torch's own function removes the property from the class, which a deep copy of the network
    # shares, so the copy could no longer be merged.
    layer.__class__ = type(layer).__mro__[1]
    del layer.parametrizations
    layer.register_parameter("weight", updated)
