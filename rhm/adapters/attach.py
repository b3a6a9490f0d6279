"""Adapters on a network: what they are attached to, trained by, and merged into."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rhm.adapters.gradient import LossOf, gradient_factors, random_factors, weight_gradients
from rhm.adapters.lowrank import Adapter, DeepLoRA, DeepLoRAUpdate, LoRA, LoRAUpdate, LowRankUpdate
from rhm.adapters.targets import Targets, layers_to_adapt, matches, matrix_of
from rhm.errors import ConfigError

BATCH_NORM = ("frozen", "statistics", "affine")
"""What batch norms do: nothing; follow the new imagery's statistics; train scale and offset."""

_RECORD = "_rhm_adapter"


@dataclass(frozen=True)
class AttachedLayer:
    """One layer that is adapted.

    Attributes:
        name: of the module.
        kind: ``Linear``, ``Conv2d``, ...
        shape: of the weight.
        rank: of the update.
        parameters: how many of the update are trained.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    rank: int
    parameters: int


@dataclass(frozen=True)
class Attachment:
    """What was attached to a network.

    Attributes:
        adapter: the kind of update, or None where there are no updates.
        layers: where.
        batch_norm: one of ``BATCH_NORM``.
        trained: globs of modules and parameters that are trained in full besides.
        saved: tensors of the network as they were, of all that training may change.
        total: parameters of the network without the updates.
    """

    adapter: Adapter | None
    layers: tuple[AttachedLayer, ...]
    batch_norm: str
    trained: tuple[str, ...]
    saved: Mapping[str, Tensor]
    total: int

    @property
    def parameters(self) -> int:
        """How many parameters of the updates are trained."""
        return sum(layer.parameters for layer in self.layers)


def attach(
    model: nn.Module,
    adapter: Adapter | None,
    targets: Targets = "all",
    gradient_batch: LossOf | Sequence[LossOf] | None = None,
    *,
    batch_norm: str = "frozen",
    trained: Sequence[str] = (),
    seed: int = 0,
) -> Attachment:
    """Add low-rank updates to a network's weights, in place, and freeze the rest.

    Args:
        model: with its weights loaded.
        adapter: the kind of update, or None: then only what ``trained`` names is trained.
        targets: which layers, see ``rhm.adapters.targets``. A preset gives a layer that is too
            small for the rank its full one; a layer that is named must be large enough.
        gradient_batch: gives the loss of a batch, or several of which the mean counts; from its
            gradient Deep LoRA takes its outer factors. Without it they are random.
        batch_norm: one of ``BATCH_NORM``.
        trained: globs of modules or parameters that are trained in full besides, and are no
            targets, such as ``*segmentation_head`` or ``*.bias``.
        seed: of random factors.

    Raises:
        ConfigError: no layer is a target, the rank is above that of a layer that is named, the
            network has an adapter already, a gradient is not finite, or nothing is left to train.
    """
    if attachment_of(model) is not None:
        raise ConfigError("the network has an adapter already: merge or detach it first")
    if adapter is None:
        return put_on(model, None, {}, batch_norm=batch_norm, trained=trained)
    layers = layers_to_adapt(model, adapter, targets, but=trained)
    gradients: Mapping[str, Tensor] = {}
    if gradient_batch is not None and isinstance(adapter, DeepLoRA):
        losses = [gradient_batch] if callable(gradient_batch) else list(gradient_batch)
        weights = {name: layer.get_parameter("weight") for name, layer in layers.items()}
        gradients = weight_gradients(model, weights, losses)
    found = {
        name: _update(
            adapter, layer.get_parameter("weight"), gradients.get(name), seed=seed + index
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
    """Add updates that are at hand to a network, in place, and freeze the rest.

    Args:
        model: without an adapter.
        adapter: what the updates are, or None where there are none.
        updates: by the names of their layers.
        batch_norm: one of ``BATCH_NORM``.
        trained: globs of modules and parameters that are trained in full besides.

    Raises:
        ConfigError: nothing matches a glob, there is no such ``batch_norm``, or nothing is left
            to train.
    """
    besides = trained_besides(model, batch_norm, trained)
    if not updates and not any(isinstance(each, nn.Parameter) for each in besides.values()):
        raise ConfigError("nothing would be trained: choose an adapter, or name what to train")
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
    """Return what is attached to a network, or None."""
    found = getattr(model, _RECORD, None)
    return found if isinstance(found, Attachment) else None


def merge(model: nn.Module) -> None:
    """Make the updates part of the weights: a network as any other, that gives the same.

    All its parameters can be trained then.

    Raises:
        ConfigError: there is no adapter, or an adapted layer has another parametrisation too.
    """
    _remove(model, merged=True)


def detach(model: nn.Module) -> None:
    """Take the adapter away: a network whose weights are bit for bit what they were before.

    All its parameters can be trained then.

    Raises:
        ConfigError: there is no adapter, or an adapted layer has another parametrisation too.
    """
    saved = _attached(model).saved
    _remove(model, merged=False)
    with torch.no_grad():
        state = model.state_dict(keep_vars=True)
        for name, tensor in saved.items():
            state[name].copy_(tensor)


def trained_besides(model: nn.Module, batch_norm: str, trained: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensors of a network itself that training may change, by name.

    Args:
        model: without an adapter.
        batch_norm: one of ``BATCH_NORM``.
        trained: globs of modules and parameters.

    Raises:
        ConfigError: nothing matches a glob, or there is no such ``batch_norm``.
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
        named = {n: each for n, each in model.named_parameters() if matches(n, [glob])}
        if not named:
            raise ConfigError(f"no module or parameter of the network is '{glob}'")
        found |= named
    return found


def updates(model: nn.Module) -> Iterator[tuple[str, LowRankUpdate]]:
    """Yield the updates of a network by the names of their layers."""
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            for update in module.get_submodule("parametrizations.weight").children():
                if isinstance(update, LowRankUpdate):
                    yield name, update


def parameter_groups(
    model: nn.Module, learning_rate: float, *, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Return what is trained, as groups that any optimiser takes: the discrepant learning rate.

    The outer factors of Deep LoRA learn at ``outer_lr_ratio`` times the rate of all else.
    Low-rank factors, biases and norms are not decayed.

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
    """Put batch norms into the mode of the attachment; call it after ``model.train()``.

    Raises:
        ConfigError: there is no adapter.
    """
    policy = _attached(model).batch_norm
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train(policy != "frozen" and model.training)


def _update(
    adapter: Adapter, weight: Tensor, gradient: Tensor | None, *, seed: int
) -> LowRankUpdate:
    matrix = matrix_of(weight)
    rows, columns = matrix.shape
    rank = adapter.fit(rows, columns)
    if isinstance(adapter, LoRA):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return LoRAUpdate(rows, columns, rank, adapter.scale).to(matrix)
    if gradient is None:
        left, right = random_factors(rows, columns, rank, like=matrix, seed=seed)
    else:
        left, right = gradient_factors(matrix_of(gradient), rank, seed=seed)
    return DeepLoRAUpdate(left, right, adapter)


def _attached(model: nn.Module) -> Attachment:
    found = attachment_of(model)
    if found is None:
        raise ConfigError("the network has no adapter")
    return found


def _remove(model: nn.Module, *, merged: bool) -> None:
    layers = [model.get_submodule(layer.name) for layer in _attached(model).layers]
    for layer in layers:
        lists = list(layer.get_submodule("parametrizations").children())
        if len(lists) > 1 or len(list(lists[0].children())) > 1:
            raise ConfigError("an adapted layer has another parametrisation too: remove it first")
    for layer in layers:
        _restore(layer, merged=merged)
    delattr(model, _RECORD)
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def _restore(layer: nn.Module, *, merged: bool) -> None:
    """Give a layer back its plain weight, updated or as it was."""
    updated = layer.get_parameter("parametrizations.weight.original")
    if merged:
        with torch.no_grad():
            updated.copy_(layer.weight)  # type: ignore[arg-type]
    # torch's own removal takes the property off the class, which a deep copy of the network
    # shares: the copy could not be merged any more.
    layer.__class__ = type(layer).__mro__[1]
    del layer.parametrizations
    layer.register_parameter("weight", updated)
