"""Adapter files: the updates of a base model, stored separately."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rhm.adapters.attach import (
    Attachment,
    attachment_of,
    check_whole,
    put_on,
    require_bare,
    trained_besides,
    updates,
)
from rhm.adapters.lowrank import Adapter, DeepLoRA, DeepLoRAUpdate, LoRA, LoRAUpdate, LowRankUpdate
from rhm.adapters.targets import matrix_of
from rhm.documents import parse_json
from rhm.errors import ConfigError, ModelFileError, one_line
from rhm.files import atomic_path
from rhm.tensor_files import TensorFile, TensorLayout, open_tensors

FORMAT = 1
"""Version of adapter files; readers refuse later versions."""

KINDS: dict[str, type[Adapter]] = {"lora": LoRA, "deep-lora": DeepLoRA}
"""Adapters by their name in files and configurations."""

_KEY = "rhm_adapter"
_BESIDES = "besides/"
_PARTS = ".parametrizations.weight."

# What a description raises that has other types or names than expected.
_MALFORMED = (
    ArithmeticError,
    AttributeError,
    ConfigError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def save_adapter(
    model: nn.Module, path: str | os.PathLike[str], *, notes: Mapping[str, str] | None = None
) -> None:
    """Write the adapter of a network, and all other trained tensors, to one file.

    The file identifies its base model by a hash of the base's weights.

    Args:
        model: a network with an adapter.
        path: path of the file, usually with the suffix ``.safetensors``.
        notes: texts to store with it, for ``adapter_notes``.

    Raises:
        ConfigError: the network has no adapter, or a part of it has one of its own.
        ModelFileError: a value is not finite.
        OutputError: the file cannot be written.
    """
    attachment = attachment_of(model)
    if attachment is None:
        raise ConfigError("the network has no adapter to save")
    check_whole(model)
    tensors = {
        f"{name}/{part}": tensor.detach().cpu().contiguous()
        for name, update in updates(model)
        for part, tensor in update.named_parameters()
    }
    state = _plain_state(model)
    tensors |= {
        f"{_BESIDES}{name}": state[name].detach().cpu().contiguous() for name in attachment.saved
    }
    _check_finite(tensors, path)
    values = {
        "format": FORMAT,
        **_described(attachment.adapter),
        "layers": [layer.name for layer in attachment.layers],
        "batch_norm": attachment.batch_norm,
        "trained": list(attachment.trained),
        "base": base_hash(model),
        "notes": dict(notes or {}),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: json.dumps(values, sort_keys=True)})


def load_adapter(model: nn.Module, path: str | os.PathLike[str]) -> Attachment:
    """Attach the adapter in a file to its base model, in place.

    To switch to another adapter of the same base, ``detach`` this one first.

    Args:
        model: the base model, without an adapter.
        path: file written by ``save_adapter``.

    Raises:
        ConfigError: the network or a part of it already has an adapter.
        ModelFileError: the file is missing, damaged, not an adapter of a supported version, or made
            for another base model.
    """
    require_bare(model)
    with _opened(Path(path)) as (values, archive):
        if values["base"] != base_hash(model):
            raise ModelFileError(
                f"{path} was made for another base model: the weights of this one differ"
            )
        try:
            adapter, layers = _planned(model, values, archive)
            policy: dict[str, Any] = {k: values[k] for k in ("batch_norm", "trained")}
            state = trained_besides(model, **policy)
            for name, tensor in state.items():
                _check(archive, f"{_BESIDES}{name}", TensorLayout.of(tensor))
            if len(archive.layouts) != sum(map(len, layers.values())) + len(state):
                raise ValueError("it contains more tensors than its layers need")
            # Only now, when all of the file is known to fit, are its tensors read.
            found = {
                name: _update(model, name, adapter, {p: archive.read(n) for p, n in parts.items()})
                for name, parts in layers.items()
            }
            besides = {name: archive.read(f"{_BESIDES}{name}") for name in state}
            attachment = put_on(model, adapter, found, **policy)
        except _MALFORMED as error:
            raise ModelFileError(
                f"{path} is not an adapter for this network: {one_line(error)}"
            ) from error
        with torch.no_grad():
            for name, tensor in besides.items():
                state[name].copy_(tensor)
    return attachment


def adapter_notes(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the texts that ``save_adapter`` stored with an adapter.

    Raises:
        ModelFileError: the file is missing, damaged, or not an adapter of a supported version.
    """
    with _opened(Path(path)) as (values, _):
        notes = values.get("notes", {})
    if not isinstance(notes, dict) or not all(isinstance(each, str) for each in notes.values()):
        raise ModelFileError(f"{path} cannot be read as an adapter: its metadata are not text")
    return notes


def base_hash(model: nn.Module) -> str:
    """Return a hash of the weights of a network without its adapter.

    Returns:
        Hexadecimal SHA-256 of the names, types, shapes and values.
    """
    attachment, state = attachment_of(model), _plain_state(model)
    saved = attachment.saved if attachment is not None else {}
    # A trained tensor may have further names, by which it is not saved.
    before = {id(state[name]): tensor for name, tensor in saved.items()}
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        value = before.get(id(tensor), tensor).detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _described(adapter: Adapter | None) -> dict[str, Any]:
    if adapter is None:
        return {"kind": None, "settings": {}}
    kind = next(name for name, kind in KINDS.items() if isinstance(adapter, kind))
    return {"kind": kind, "settings": asdict(adapter)}


def _plain_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a network without its adapter, by the names they have without it."""
    adapted = {id(model.get_submodule(name)) for name, _ in updates(model)}
    # A layer that is used twice has its tensors under two names.
    every = model.named_modules(remove_duplicate=False)
    layers = {name for name, module in every if id(module) in adapted}
    plain = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        layer, _, part = name.partition(_PARTS)
        if layer not in layers or not part:
            plain[name] = tensor
        elif part == "original":
            plain[f"{layer}.weight"] = tensor
    return plain


def _planned(
    model: nn.Module, values: Mapping[str, Any], archive: TensorFile
) -> tuple[Adapter | None, dict[str, dict[str, str]]]:
    """Return the adapter of a file and, for each layer, the names of the tensors of its parts.

    The layouts of these tensors have been compared with the layers by then.
    """
    if values["kind"] is None:
        return None, {}
    if values["kind"] not in KINDS:
        raise ValueError(f"its kind {values['kind']!r} is not {' or '.join(KINDS)}")
    adapter = KINDS[values["kind"]](**values["settings"])
    layers = {}
    for layer in values["layers"]:
        weight = model.get_submodule(layer).get_parameter("weight")
        rows, columns = matrix_of(weight).shape
        first = "a" if isinstance(adapter, LoRA) else "left"
        rank = min([*archive.layouts[f"{layer}/{first}"].shape, rows, columns])
        shapes: dict[str, tuple[int, ...]]
        if isinstance(adapter, LoRA):
            shapes = {"a": (rank, columns), "b": (rows, rank)}
        else:
            inner = (adapter.depth, rank, rank)
            shapes = {"left": (rows, rank), "inner": inner, "right": (columns, rank)}
        for part, shape in shapes.items():
            _check(archive, f"{layer}/{part}", TensorLayout(weight.dtype, shape))
        layers[layer] = {part: f"{layer}/{part}" for part in shapes}
    return adapter, layers


def _update(
    model: nn.Module, name: str, adapter: Adapter | None, parts: Mapping[str, Tensor]
) -> LowRankUpdate:
    """Return the update of a layer, whose parts have the layouts that ``_planned`` checked."""
    weight = model.get_submodule(name).get_parameter("weight")
    rows, columns = matrix_of(weight).shape
    update: LowRankUpdate
    if isinstance(adapter, DeepLoRA):
        update = DeepLoRAUpdate(parts["left"], parts["right"], adapter)
    else:
        scale = 1.0 if adapter is None else adapter.scale
        update = LoRAUpdate(rows, columns, len(parts["a"]), scale)
    with torch.no_grad():
        for part, parameter in update.named_parameters():
            parameter.copy_(parts[part])
    return update.to(weight)


def _check(archive: TensorFile, name: str, layout: TensorLayout) -> None:
    archive.check_one(name, layout)
    if not math.prod(layout.shape):
        raise ValueError(f"{name} has a different shape: it is empty")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[dict[str, Any], TensorFile]]:
    """Open an adapter file, and read its description."""
    if not os.path.isfile(path):
        raise ModelFileError(f"no adapter at {path}")
    try:
        with open_tensors(path) as archive:
            if _KEY not in archive.metadata:
                raise ValueError("it has no description of an adapter, as `rhm adapt` writes it")
            values = parse_json(archive.metadata[_KEY])
            if not isinstance(values, dict) or int(values["format"]) > FORMAT:
                raise ValueError("it was written by a later version of rhm")
            yield values, archive
    except (*_MALFORMED, OSError) as error:
        raise ModelFileError(f"{path} cannot be read as an adapter: {one_line(error)}") from error


def _check_finite(tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelFileError(f"{path}: {name} is not finite")
