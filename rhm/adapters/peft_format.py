"""Plain LoRA in the format of Hugging Face PEFT: a folder of weights and a configuration."""

import json
import math
import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rhm.adapters.attach import Attachment, attachment_of, put_on, require_bare, updates
from rhm.adapters.lowrank import LoRA, LoRAUpdate, LowRankUpdate
from rhm.adapters.targets import matrix_of
from rhm.documents import read_json
from rhm.errors import ConfigError, ModelFileError, one_line
from rhm.files import staged_paths
from rhm.tensor_files import MOST_TENSORS, TensorFile, open_tensors

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
"""File names."""

_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of ``init_lora_weights`` with which PEFT leaves the weights of the base as they are."""

_PREFIX = "base_model.model."
_PLAIN_KEY = re.compile(r"[\w.-]+")
_KEY = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<part>[AB])\.weight")


def export_peft(model: nn.Module, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write the LoRA of a network in a form that PEFT can read.

    Args:
        model: a network with plain LoRA on linear layers and ungrouped convolutions, and nothing
            else trained, because the format of PEFT stores nothing more.
        folder: folder to write ``WEIGHTS`` and ``CONFIG`` to.

    Raises:
        ConfigError: the network has no such adapter.
        OutputError: the folder cannot be written.
    """
    attachment = attachment_of(model)
    if attachment is None or not isinstance(attachment.adapter, LoRA):
        raise ConfigError("the format of PEFT stores plain LoRA, and the network has none")
    if attachment.saved:
        raise ConfigError(
            "the format of PEFT stores only low-rank factors, and something else was trained, too"
        )
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for name, update in updates(model):
        layer = model.get_submodule(name)
        if not isinstance(update, LoRAUpdate) or getattr(layer, "groups", 1) != 1:
            raise ConfigError(f"PEFT has no LoRA for {name}, which is a grouped convolution")
        thin, wide = _as_layers(update, layer)
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = thin.detach().cpu().contiguous()
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = wide.detach().cpu().contiguous()
        ranks[name] = update.rank
    adapter = attachment.adapter
    patterned = _patterned({name for name, rank in ranks.items() if rank != adapter.rank}, ranks)
    values = {
        "peft_type": "LORA",
        "task_type": None,
        "r": adapter.rank,
        "lora_alpha": adapter.scale * adapter.rank,
        # PEFT divides by the rank of each layer.
        "rank_pattern": {name: ranks[name] for name in patterned},
        "alpha_pattern": {name: adapter.scale * ranks[name] for name in patterned},
        "target_modules": sorted(ranks),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    paths = Path(folder) / WEIGHTS, Path(folder) / CONFIG
    with staged_paths(paths) as (weights, config):
        save_file(tensors, weights, metadata={"format": "pt"})
        config.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return paths


def import_peft(model: nn.Module, folder: str | os.PathLike[str]) -> Attachment:
    """Attach a LoRA that was written by PEFT, in place.

    Args:
        model: the base model, without an adapter. The files do not say which base they belong to.
        folder: folder with ``WEIGHTS`` and ``CONFIG``.

    Raises:
        ConfigError: the network already has an adapter.
        ModelFileError: the files are missing, damaged, not plain LoRA, or not for this network.
    """
    require_bare(model)
    try:
        values = read_json(Path(folder) / CONFIG)
        adapter = _adapter(values)
        with open_tensors(Path(folder) / WEIGHTS) as archive:
            found = _updates(model, adapter, values, archive)
    except (
        *(AttributeError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError),
        *(OSError, ConfigError),
    ) as error:
        raise ModelFileError(
            f"{folder} is not a PEFT LoRA for this network: {one_line(error)}"
        ) from error
    return put_on(model, adapter, found, batch_norm="frozen", trained=())


def _adapter(values: Mapping[str, Any]) -> LoRA:
    if values["peft_type"] != "LORA" or values.get("use_dora") or values.get("use_rslora"):
        raise ValueError("it is another kind of adapter")
    if values.get("modules_to_save") or values.get("bias", "none") != "none":
        raise ValueError("it trains more than low-rank factors")
    start = values.get("init_lora_weights", True)
    if start not in _STARTS:
        raise ValueError(
            f"it is for weights that PEFT changes at the start ({start}): save it with "
            "path_initial_model_for_weight_conversion"
        )
    return LoRA(int(values["r"]), alpha=float(values["lora_alpha"]))


def _updates(
    model: nn.Module, adapter: LoRA, values: Mapping[str, Any], archive: TensorFile
) -> dict[str, LowRankUpdate]:
    layers = _layers(model, archive)
    alphas = values.get("alpha_pattern") or {}
    _check_keys(alphas)
    found: dict[str, LowRankUpdate] = {}
    for name, parts in layers.items():
        weight = model.get_submodule(name).get_parameter("weight")
        rows, columns = matrix_of(weight).shape
        thin, wide = (archive.read(parts[part]).flatten(1) for part in ("A", "B"))
        # In PEFT, a layer may have its own scale; here it is multiplied into B.
        scale = float(alphas.get(_key_of(name, alphas), values["lora_alpha"])) / len(thin)
        if not math.isfinite(scale):
            raise ValueError(f"the scale of {name} is not finite")
        update = LoRAUpdate(rows, columns, len(thin), adapter.scale)
        with torch.no_grad():
            update.a.copy_(thin)
            update.b.copy_(wide * (scale / adapter.scale))
        found[name] = update.to(weight)
    return found


def _patterned(own: Collection[str], layers: Iterable[str]) -> list[str]:
    """Return the layers that need a key of a pattern, in the order that PEFT searches them.

    PEFT would also take the key ``0`` for a layer ``a.0``, which therefore comes first.

    Args:
        own: names of the layers with a rank of their own.
        layers: names of all adapted layers.
    """
    meant = [name for name in layers if _key_of(name, own) is not None]
    mistaken = {name for name in meant if any(name.endswith(f".{key}") for key in own)}
    return sorted(meant, key=lambda name: -len(name) if name in mistaken else 0)


def _check_keys(keys: Collection[str]) -> None:
    """Check that the keys of a pattern are names, or the last parts of names.

    Raises:
        ValueError: one is a regular expression, which could take any time to search for, or there
            are more than layers.
    """
    if len(keys) > MOST_TENSORS:
        raise ValueError(f"its alpha_pattern has {len(keys)} keys, more than {MOST_TENSORS}")
    for key in keys:
        if not _PLAIN_KEY.fullmatch(key):
            raise ValueError(f"its alpha_pattern has a regular expression, {key[:100]!r}")


def _key_of(layer: str, keys: Iterable[str]) -> str | None:
    """Return the key that PEFT takes for a layer: the first that its name has, or ends with."""
    parts = layer.split(".")
    ends = {".".join(parts[start:]) for start in range(len(parts))}
    return next((key for key in keys if key in ends), None)


def _layers(model: nn.Module, archive: TensorFile) -> dict[str, dict[str, str]]:
    """Return the names of both factors of each layer, after comparing their shapes with it.

    Raises:
        ValueError: the file contains something else, or a factor has another shape.
    """
    layers: dict[str, dict[str, str]] = {}
    for key in archive.layouts:
        named = _KEY.fullmatch(key)
        if named is None:
            raise ValueError(f"it contains {key}")
        layers.setdefault(named["layer"], {})[named["part"]] = key
    if not layers:
        raise ValueError("it contains no factors")
    for name, parts in layers.items():
        weight = model.get_submodule(name).get_parameter("weight")
        rows, columns = matrix_of(weight).shape
        thin, wide = (archive.layouts[parts[part]].shape for part in ("A", "B"))
        rank = thin[0] if thin else 0
        fits = (math.prod(thin), math.prod(wide)) == (rank * columns, rows * rank)
        if not (fits and 0 < rank <= min(rows, columns) and wide[:1] == (rows,)):
            raise ValueError(
                f"the factors of {name} do not fit a weight of shape {tuple(weight.shape)}"
            )
    return layers


def _as_layers(update: LoRAUpdate, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Return A and B in the shapes of the thin layers that PEFT creates from them."""
    if isinstance(layer, nn.Linear):
        return update.a, update.b
    kernel: tuple[int, ...] = tuple(layer.kernel_size)  # type: ignore[arg-type]
    ones = (1,) * len(kernel)
    return update.a.reshape(update.rank, -1, *kernel), update.b.reshape(*update.b.shape, *ones)
