"""Targets: the layers of a network that an adapter is attached to."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from glob import escape

from torch import Tensor, nn

from rhm.adapters.lowrank import Adapter
from rhm.errors import ConfigError

Predicate = Callable[[str, nn.Module], bool]
"""Function of a module's name and the module that returns whether it is a target."""

Targets = str | Sequence[str] | Predicate
"""A preset from ``PRESETS``, a glob of module names, several of either, or a predicate."""

_ATTENTION = ("attn", "attention", "self_attn")


def layers_to_adapt(
    model: nn.Module, adapter: Adapter, targets: Targets, *, but: Sequence[str] = ()
) -> dict[str, nn.Module]:
    """Return the linear and convolutional layers that are targets, by name.

    Args:
        model: the network.
        adapter: kind of update, which determines the rank for a layer. A preset skips layers that
            are too small for any update, and at least one of its layers must be large enough for
            the full rank. A layer that is named explicitly must be large enough for the full rank.
        targets: targets to select.
        but: globs of modules that are excluded.

    Raises:
        ConfigError: no layer matches a target, all that match are excluded, the rank is above that
            of a named layer or of all layers of a preset, the weight of a layer is no parameter,
            or it is shared with another module, which an update of one would change as well.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    }
    excluded = {name: module for name, module in layers.items() if matches(name, but)}
    supported = {name: module for name, module in layers.items() if name not in excluded}
    found: dict[str, nn.Module] = {}
    for target in [targets] if callable(targets) or isinstance(targets, str) else targets:
        found |= _layers_of(target, supported, excluded, adapter)
    if not found:
        raise ConfigError("no layer of the network matches the targets")
    _check_unshared(model, found)
    # In the order of the network, whatever the order of the targets.
    return {name: module for name, module in supported.items() if name in found}


def _check_unshared(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    for layer in layers.values():
        names = owners[id(layer.get_parameter("weight"))]
        if len(names) > 1:
            raise ConfigError(
                f"{' and '.join(names)} share a weight, so it cannot be adapted: choose other "
                "targets"
            )


def _layers_of(
    target: str | Predicate,
    supported: Mapping[str, nn.Module],
    excluded: Mapping[str, nn.Module],
    adapter: Adapter,
) -> dict[str, nn.Module]:
    """Return the supported layers that match one target."""
    preset = PRESETS.get(target) if isinstance(target, str) else None
    if callable(target):
        wanted = target
    else:
        wanted = preset or (lambda name, module: fnmatchcase(name, target))
    found: dict[str, nn.Module] = {}
    largest = 0
    for name, module in supported.items():
        if not wanted(name, module):
            continue
        if "weight" not in dict(module.named_parameters(recurse=False)):
            raise ConfigError(
                f"the weight of {name} is computed from others, such as by weight_norm, so it "
                "cannot be adapted: remove that first, or exclude the layer with `but`"
            )
        rows, columns = matrix_of(module.get_parameter("weight")).shape
        rank = adapter.fit(rows, columns)
        if preset is None and rank < adapter.rank:
            raise ConfigError(
                f"rank {adapter.rank} is above that of {name}, a matrix of {rows} x {columns}: "
                f"choose {min(rows, columns)} or less"
            )
        largest = max(largest, rank)
        if rank:
            found[name] = module
    if not found and isinstance(target, str):
        if any(wanted(name, module) for name, module in excluded.items()):
            raise ConfigError(
                f"every layer that matches the target '{target}' is excluded: choose other targets "
                "or exclude fewer modules"
            )
        raise ConfigError(_no_target(target, list(supported)))
    if found and largest < adapter.rank:
        raise ConfigError(
            f"rank {adapter.rank} is above that of every layer: choose {largest} or less"
        )
    return found


def matrix_of(weight: Tensor) -> Tensor:
    """Return a weight as the matrix (outputs, all other dimensions) that is updated, detached."""
    return weight.detach().reshape(weight.shape[0], -1)


def matches(name: str, globs: Sequence[str]) -> bool:
    """Return whether the name of a module, or of one that contains it, matches a glob."""
    parts = name.split(".")
    prefixes = [".".join(parts[: end + 1]) for end in range(len(parts))]
    return any(fnmatchcase(prefix, glob) for prefix in prefixes for glob in globs)


def modules_of_weights(model: nn.Module, globs: Sequence[str]) -> list[str]:
    """Return globs of the modules whose weight itself matches a glob, such as ``*.weight``."""
    every = model.named_parameters(remove_duplicate=False)
    wanted = {id(each) for name, each in every if matches(name, globs)}
    return [
        escape(name)
        for name, module in model.named_modules()
        if any(
            part == "weight" and id(each) in wanted
            for part, each in module.named_parameters(recurse=False)
        )
    ]


def _is_attention(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and any(part in _ATTENTION for part in name.split("."))


def _is_pointwise(name: str, module: nn.Module) -> bool:
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return set(module.kernel_size) == {1} and module.groups == 1
    return isinstance(module, nn.Linear)


PRESETS: dict[str, Predicate] = {
    "all": lambda name, module: True,
    "encoder": lambda name, module: "encoder" in name.split("."),
    "attention": _is_attention,
    "pointwise": _is_pointwise,
}
"""Targets by name: all linear and convolutional layers, those of the encoder, the projections of
attention, and 1 x 1 convolutions with linear layers."""


def _no_target(target: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(target, [*PRESETS, *known], n=4, cutoff=0.3)
    said = near or [*PRESETS, *known[:2]]
    return f"no layer of the network matches the target '{target}': choose e.g. {', '.join(said)}"
