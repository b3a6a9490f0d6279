"""Files of pretrained weights, in the shapes in which people have them.

A file is one of

    .safetensors             named tensors
    .pth, .pt, .bin, .ckpt   what ``torch.save`` wrote: named tensors, or dicts that contain them,
                             such as the ``model`` and ``optimizer`` of a checkpoint

and it may be given as the folder of a Hugging Face cache that contains it (``models--timm--NAME``,
or a folder below its ``snapshots``) or as a folder that was downloaded from there. Its origin is
not trusted: pickles may only hold tensors and plain values, and no number in a file decides how
much memory is taken.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import torch
from torch import Tensor, nn

from rhm.documents import read_json, read_text
from rhm.errors import ConfigError, one_line
from rhm.tensor_files import DTYPES, LONGEST_NAME, MOST_TENSORS, open_tensors

State = dict[str, Tensor]
"""Tensors by name."""

MOST_PICKLED = 1 << 26
"""Most bytes of what describes the tensors of a file from ``torch.save``."""

_IN_FOLDERS = ("model.safetensors", "pytorch_model.bin")
_CONFIG = "config.json"
_DEEPEST = 5

# Where checkpoints keep networks, the best first: averages of the weights are better than the
# weights themselves, and teachers are averages of their students.
_PREFERRED = (
    *("state_dict_ema", "model_ema", "ema_model", "ema", "teacher"),
    *("state_dict", "model", "student"),
)
_MOST_STATES = 1000

# Layers may share a tensor, and a file may store what they share once.
_MOST_SHARED = 4


def weight_file(path: Path) -> Path:
    """Return the file of weights that a user named, directly or by a folder.

    Raises:
        ConfigError: the folder contains no weights, or several files.
    """
    if not path.is_dir():
        return path
    folder = _snapshot(path)
    for name in _IN_FOLDERS:
        if (folder / name).is_file():
            return folder / name
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    what = "several files" if found else f"neither {' nor '.join(_IN_FOLDERS)}"
    raise ConfigError(f"model.weights: {folder} contains {what}: name the file of weights")


def _snapshot(path: Path) -> Path:
    """Return the current snapshot of a repository in a Hugging Face cache; other folders as is."""
    snapshots = path / "snapshots"
    if not snapshots.is_dir():
        return path
    try:
        current = snapshots / Path(read_text(path / "refs" / "main").strip()).name
    except (OSError, ValueError):
        current = snapshots
    if current != snapshots and current.is_dir():
        return current
    found = [each for each in snapshots.iterdir() if each.is_dir()]
    if len(found) != 1:
        raise ConfigError(
            f"model.weights: {path} contains {len(found)} snapshots: name one of the folders in "
            f"{snapshots}"
        )
    return found[0]


def hub_config(file: Path) -> Mapping[str, Any]:
    """Return the description that timm puts beside its weights; empty if there is none.

    Raises:
        ConfigError: the description cannot be read.
    """
    path = file.parent / _CONFIG
    if not path.is_file():
        return {}
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.weights: {path} cannot be read: {one_line(error)}") from error
    return found if isinstance(found, dict) and "pretrained_cfg" in found else {}


def read_states(path: Path) -> list[State]:
    """Return all collections of named tensors in a file of weights, the preferred ones first.

    Tensors of a file from ``torch.save`` remain in the file until they are used.

    Raises:
        ConfigError: the file cannot be read, is not a plain state dict of tensors, or contains
            none.
    """
    if path.suffix == ".safetensors":
        return [_stored_state(path)]
    try:
        _check_pickle(path)
        tree = _unpickled(path)
    except Exception as error:
        # What PyTorch says of pickles is advice to programmers on how to trust them.
        foreign = type(error).__name__ == "UnpicklingError"  # of a module that nothing imports
        reason = "it holds other objects, or is damaged" if foreign else one_line(error, 160)
        raise ConfigError(
            f"model.weights: {path} is not a plain state dict of tensors, or a checkpoint of plain "
            f"values that contains one: {reason}"
        ) from error
    states = islice(_states(tree, (), set()), _MOST_STATES)
    found = sorted(states, key=lambda each: rank_of(each[0]))
    if not found:
        raise ConfigError(f"model.weights: {path} contains no named tensors")
    if not all(_is_stored(state) for _, state in found):
        raise ConfigError(
            f"model.weights: {path} has tensors that need more than {_MOST_SHARED} times the "
            "memory that is stored for them"
        )
    return [state for _, state in found]


def _stored_state(path: Path) -> State:
    try:
        with open_tensors(path) as archive:
            return {name: archive.read(name) for name in archive.layouts}
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.weights: {path} cannot be read: {one_line(error)}") from error


def _check_pickle(path: Path) -> None:
    """Check a file from ``torch.save`` for what would take more memory than it has bytes.

    Raises:
        ValueError: it contains such things.
    """
    if is_zipfile(path):
        with ZipFile(path) as archive:
            for member in archive.infolist():
                if member.compress_type != ZIP_STORED:
                    raise ValueError("it is compressed")
                if not member.filename.endswith(".pkl"):
                    continue
                if member.file_size > MOST_PICKLED:
                    raise ValueError(f"its description is larger than {MOST_PICKLED >> 20} MB")
                _check_names(archive.read(member))
        return
    # The old format: descriptions, then tensors.
    with path.open("rb") as file:
        _check_names(file.read(MOST_PICKLED))


def _check_names(pickled: bytes) -> None:
    # The only one of the types that torch allows in a pickle whose size is a number in it.
    if b"bytearray" in pickled:
        raise ValueError("it contains a bytearray")


def _unpickled(path: Path) -> Any:
    # What checkpoints of timm, DINO and MAE keep besides: the arguments of the command line.
    allow = getattr(torch.serialization, "safe_globals", None)
    with allow([argparse.Namespace]) if allow else nullcontext():
        return torch.load(
            str(path), map_location="cpu", weights_only=True, mmap=is_zipfile(path) or None
        )


def _states(
    tree: Any, place: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], State]]:
    """Yield the collections of named tensors in a tree of dicts, with their place in it.

    A dict that stands in several places is seen once, or a few of them could stand for billions.
    """
    if not isinstance(tree, dict) or len(tree) > MOST_TENSORS or len(place) > _DEEPEST:
        return
    if id(tree) in seen:
        return
    seen.add(id(tree))
    named = {
        name: each
        for name, each in tree.items()
        if isinstance(name, str) and len(name) <= LONGEST_NAME
    }
    state = {name: each.detach() for name, each in named.items() if _is_plain(each)}
    if state:
        yield place, state
    for name, each in named.items():
        yield from _states(each, (*place, name), seen)


def _is_plain(value: Any) -> bool:
    """Return whether a value is an ordinary tensor that takes as much memory as it says."""
    if type(value) not in (Tensor, nn.Parameter) or value.dtype not in DTYPES.values():
        return False
    if value.layout != torch.strided or value.device.type != "cpu":
        return False
    return bool(value.numel() * value.element_size() <= value.untyped_storage().nbytes())


def _is_stored(state: State) -> bool:
    """Return whether tensors take about as much memory together as is stored for them."""
    stored = {
        each.untyped_storage().data_ptr(): each.untyped_storage().nbytes()
        for each in state.values()
    }
    needed = sum(each.numel() * each.element_size() for each in state.values())
    return needed <= _MOST_SHARED * sum(stored.values())


def rank_of(place: Sequence[str]) -> int:
    """Return how much a place in a checkpoint is preferred, by its parts; 0 is the most.

    Places of which nothing is known are as good as students.
    """
    ranks = [_PREFERRED.index(name) for name in place if name in _PREFERRED]
    return min(ranks, default=_PREFERRED.index("student"))
