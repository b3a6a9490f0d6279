"""Which tensor of a file belongs where in an encoder.

Files name the tensors of a network as the network does, behind a prefix that tells what contained
it (``module.backbone.``), or as its authors did before it came to timm. Prefixes are found by
comparison with the names of the network. For everything else there is timm, which knows how to
read the original files of its networks, and how to resample position embeddings and tables. What
it uses of a file, and for what, is found by a trace: a network is loaded from tensors of the same
names, types and shapes, each of which holds only its own number.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from timm.models import PretrainedCfg, adapt_input_conv
from torch import Tensor, nn

from rhm.models.encoders.weight_files import State, rank_of

Loader = Callable[..., nn.Module]
"""Function that builds the network of an encoder with other options of ``timm.create_model``."""

# Names of what contains a network whose tensors have other names than those of timm.
_CONTAINERS = (
    *(
        "module",
        "_orig_mod",
        "model",
        "net",
        "network",
        "backbone",
        "encoder",
        "teacher",
        "student",
    ),
    *("image_encoder", "vision_encoder", "base_encoder", "encoder_q"),
)

_NOTABLY_MORE = 1.1

_QUANTIZED = (torch.int8, torch.uint8, torch.int16)

# timm adapts weights for as many bands, or for any number of them to one.
_COLOURS = 3

# Numbers of tensors in a trace. No network initializes a weight as far below zero as the first of
# them, not even if timm scales it.
_FIRST_NUMBER = 64
_SURELY_LOADED = -8.0
_SAMPLES = 4096

# Counters of batches that old files lack, and that no prediction uses.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Match:
    """The tensors of a file in the places of an encoder.

    Attributes:
        state: tensors by their names in the encoder.
        wanted: names of the encoder's tensors, except for counters of batches.
        missing: names of the encoder's tensors that the file lacks.
        surplus: names of the file's tensors that the architecture does not have; its head, and
            blocks after the last one that is used, are not surplus.
    """

    state: State
    wanted: tuple[str, ...]
    missing: tuple[str, ...]
    surplus: tuple[str, ...]


def choose_state(states: Sequence[State], target: Collection[str], whole: Collection[str]) -> State:
    """Return the collection of a file's tensors that fits an encoder best, without prefixes.

    Args:
        states: collections of tensors, the preferred ones first.
        target: names of the encoder's tensors.
        whole: names of the tensors of the network with everything that the encoder leaves out.
    """
    known = {*target, *whole}
    most, best = 0, states[0]
    for state in states:
        prefix, count = _prefix_of(state, known)
        # A head makes no difference.
        if count > _NOTABLY_MORE * most:
            most, best = count, _within(state, prefix)
    return best if 2 * most >= len(target) else _without_containers(states[0])


def _prefix_of(state: State, known: set[str]) -> tuple[str, int]:
    """Return the prefix behind which most names are known, and their number.

    Of prefixes behind which nearly as many are known, the one counts that says that its tensors are
    averages, as those of a teacher are.
    """
    counts: Counter[str] = Counter()
    for name in state:
        end = 0
        while True:
            if name[end:] in known:
                counts[name[:end]] += 1
            end = name.find(".", end) + 1
            if not end:
                break
    enough = max(counts.values(), default=0) / _NOTABLY_MORE
    return max(
        ((prefix, count) for prefix, count in counts.items() if count >= enough),
        key=lambda found: (-rank_of(found[0].split(".")), found[1], -len(found[0])),
        default=("", 0),
    )


def _without_containers(state: State) -> State:
    while state:
        firsts = Counter(name.partition(".")[0] for name in state if "." in name)
        first = max(_CONTAINERS, key=lambda container: firsts[container])
        if 2 * firsts[first] < len(state):
            return state
        state = _within(state, f"{first}.")
    return state


def _within(state: State, prefix: str) -> State:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }


def match_state(
    state: State,
    target: nn.Module,
    whole: Collection[str],
    load: Loader,
    *,
    settings: PretrainedCfg,
    bands: int,
) -> Match:
    """Return the tensors of a file in the places of an encoder.

    Args:
        state: tensors of the file, without prefixes.
        target: network of the encoder.
        whole: names of the tensors of the network with everything that the encoder leaves out.
        load: function that builds the network of the encoder.
        settings: what timm knows of the encoder.
        bands: number of bands of the encoder.

    Raises:
        ValueError: timm cannot read the tensors, or the number of bands cannot be adapted.
    """
    names = target.state_dict()
    _check_real(state, names)
    wanted = {name: each for name, each in names.items() if not name.endswith(_COUNTER)}
    missing: list[str] = []
    if all(name in state and _fits(state[name], each) for name, each in wanted.items()):
        found, surplus = state, set(state) - set(names)
    else:
        given = _bands_of(state, settings)
        overlay = _overlay(settings, given)
        traced = _loaded(load, _numbered(state), overlay, given)
        made_of = {name: _numbers_in(traced[name]) for name in wanted}
        missing = [name for name, numbers in made_of.items() if not numbers]
        used = set().union(*made_of.values())
        surplus = {name for number, name in enumerate(state) if number not in used}
        found = {} if len(missing) == len(wanted) else _loaded(load, state, overlay, given)
    places = {
        name: _with_bands(found[name], each, name, bands)
        for name, each in names.items()
        if name in found and name not in missing
    }
    surplus -= set(whole)
    return Match(places, tuple(wanted), tuple(missing), tuple(sorted(surplus)))


def _check_real(state: State, names: State) -> None:
    """Check that no integers, such as those of quantised weights, take the place of weights."""
    for name, tensor in state.items():
        small = tensor.dtype in _QUANTIZED and tensor.ndim > 1
        expected = name in names and names[name].is_floating_point()
        if small or (expected and not tensor.is_floating_point()):
            raise ValueError(f"{name} holds integers: quantised weights are not read")


def _fits(found: Tensor, wanted: Tensor) -> bool:
    """Return whether a tensor has a shape, or at least that of another number of bands."""
    same = found.shape == wanted.shape
    return same or (found.ndim == wanted.ndim == 4 and _but_bands(found) == _but_bands(wanted))


def _but_bands(weight: Tensor) -> tuple[int, ...]:
    return (weight.shape[0], *weight.shape[2:])


def _with_bands(found: Tensor, wanted: Tensor, name: str, bands: int) -> Tensor:
    if found.shape == wanted.shape:
        return found
    if not _fits(found, wanted) or wanted.shape[1] != bands:
        shapes = f"{tuple(found.shape)}, not {tuple(wanted.shape)}"
        raise ValueError(f"{name} has the shape {shapes}")
    if bands != 1 and found.shape[1] != _COLOURS:
        raise ValueError(f"weights for {found.shape[1]} bands cannot be adapted to {bands} bands")
    return adapt_input_conv(bands, found)


def _bands_of(state: State, settings: PretrainedCfg) -> int:
    """Return the number of bands that the tensors of a file are for."""
    stems = settings.first_conv or ()
    for stem in (stems,) if isinstance(stems, str) else stems:
        weight = state.get(f"{stem}.weight")
        if weight is not None and weight.ndim == 4:
            return int(weight.shape[1])
    return int(settings.input_size[0])


def _overlay(settings: PretrainedCfg, bands: int) -> dict[str, Any]:
    """Return the settings by which timm ignores heads and surplus tensors of a file."""
    return {
        "num_classes": -1,  # a number of classes that no network has
        "classifier": settings.classifier or "head",
        "input_size": (bands, *settings.input_size[1:]),
        "custom_load": False,
    }


def _loaded(load: Loader, state: State, overlay: Mapping[str, Any], bands: int) -> State:
    """Return the tensors of a network that timm has loaded from those of a file.

    Raises:
        ValueError: timm cannot read the tensors.
    """
    source = {**overlay, "state_dict": dict(state)}
    try:
        with _quiet():
            network = load(pretrained=True, pretrained_cfg_overlay=source, in_chans=bands)
    except Exception as error:
        raise ValueError(f"timm cannot read the tensors: {error}") from error
    return network.state_dict()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep timm from telling what is said here in one line."""
    logger = logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _numbered(state: State) -> State:
    """Return tensors of the same shapes, each of which holds its own number, below zero."""
    numbered = {}
    for number, (name, tensor) in enumerate(state.items()):
        dtype = tensor.dtype if tensor.dtype in (torch.int64, torch.int32) else torch.float32
        numbered[name] = torch.full(tensor.shape, -float(_FIRST_NUMBER + number), dtype=dtype)
    return numbered


def _numbers_in(tensor: Tensor) -> set[int]:
    """Return the numbers of the tensors that a tensor was made of."""
    flat = tensor.detach().flatten()
    step = max(1, len(flat) // _SAMPLES)
    values = torch.cat([flat[::step], flat[-1:]]).double()
    values = values[values <= _SURELY_LOADED]
    return {-int(value) - _FIRST_NUMBER for value in values.round().tolist()}
