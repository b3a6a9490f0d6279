"""Pretrained weights of encoders: from a file, from timm by name, or those installed with rhm."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from rhm.errors import ConfigError, one_line, printable
from rhm.models.encoders.backbones import is_encoder, settings_of, timm_model
from rhm.models.encoders.bundled_weights import BUNDLED_ENCODER, bundled_state
from rhm.models.encoders.state_matching import choose_state, match_state
from rhm.models.encoders.weight_files import State, hub_config, read_states, weight_file
from rhm.models.spec import LARGEST

LEAST_SHARE = 0.9
"""Least share of an encoder's tensors, and of its values, that weights must have."""

_SHOWN = 2


@dataclass(frozen=True)
class LoadedWeights:
    """What was loaded into an encoder.

    Attributes:
        weights: source of the weights, as the user named it.
        wanted: number of tensors that the encoder has.
        missing: names of those that the source lacks, which keep their random values.
        surplus: names of the source's tensors that the architecture does not have.
    """

    weights: str
    wanted: int
    missing: tuple[str, ...]
    surplus: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every tensor found its place."""
        return not self.missing and not self.surplus

    def __str__(self) -> str:
        loaded = self.wanted - len(self.missing)
        text = (
            f"model.weights '{self.weights}': loaded {loaded} of {self.wanted} tensors "
            f"({100 * loaded / self.wanted:.3g} %)"
        )
        if self.missing:
            text += f"; {len(self.missing)} missing: {_some(self.missing)}"
        if self.surplus:
            text += f"; {len(self.surplus)} left over: {_some(self.surplus)}"
        return text


def load_weights(
    encoder: nn.Module, name: str, weights: str, *, bands: int
) -> LoadedWeights | None:
    """Load pretrained weights into an encoder.

    The first convolution is adapted to the number of bands as timm adapts it.

    Args:
        encoder: encoder of a segmentation network, changed in place.
        name: its name in timm.
        weights: source of the weights, as in ``ModelConfig.weights``.
        bands: number of bands of the encoder.

    Returns:
        What was loaded, or None for the weights ``none``.

    Raises:
        ConfigError: the weights cannot be read or downloaded, or belong to another encoder.
    """
    if weights == "none":
        return None
    target = encoder.get_submodule("model")
    names, whole = target.state_dict(), _whole(name)
    state = choose_state(_states(name, weights), names, whole)
    load = partial(timm_model, encoder, name)
    try:
        match = match_state(state, target, whole, load, settings=settings_of(name), bands=bands)
    except ValueError as error:
        raise ConfigError(
            f"model.weights '{weights}' do not fit {name}: {one_line(error, 160)}"
        ) from error
    loaded = LoadedWeights(weights, len(match.wanted), match.missing, match.surplus)
    values = [sum(names[each].numel() for each in group) for group in (match.missing, match.wanted)]
    share = 1.0 - max(len(match.missing) / len(match.wanted), values[0] / values[1])
    if share < LEAST_SHARE:
        raise ConfigError(
            f"model.weights '{weights}' are not those of {name}: {len(match.missing)} of "
            f"{len(match.wanted)} tensors are missing, such as {match.missing[0]}"
        )
    for each, tensor in match.state.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ConfigError(f"model.weights '{weights}': {each} is not finite")
    target.load_state_dict({**names, **match.state})
    return loaded


def input_statistics(
    encoder: str, bands: int, weights: str = "none"
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of the inputs that an encoder was pretrained with.

    Both are 0.5 if they are not known, or known for another number of bands.

    Args:
        encoder: name of the encoder in timm.
        bands: number of bands.
        weights: source of the weights, as in ``ModelConfig.weights``. A folder from timm's hub
            and the names of weights in timm have statistics of their own.

    Raises:
        ConfigError: the weights are a folder that cannot be read.
    """
    known = settings_of(encoder)
    mean, std = _own_statistics(encoder, weights) or (tuple(known.mean), tuple(known.std))
    if len(mean) != bands:
        return (0.5,) * bands, (0.5,) * bands
    return mean, std


def check_weights(encoder: str, weights: str) -> None:
    """Check that weights for an encoder exist, without reading or downloading them.

    Raises:
        ConfigError: there is no file of this path, and timm has no weights of this name.
    """
    if weights == "bundled" and encoder != BUNDLED_ENCODER:
        raise ConfigError(
            f"model.weights: only {BUNDLED_ENCODER} has bundled weights; for {encoder}, give a "
            "file or folder, the name of weights in timm, or none"
        )
    if weights in ("bundled", "none") or _path_of(weights) is not None:
        return
    if _name_in_timm(encoder, weights) is None:
        tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{_plain(encoder)}.*")]
        known = f"timm has {', '.join(tags)}" if tags else "timm has none for this encoder"
        raise ConfigError(
            f"model.weights: '{weights}' is neither a file or folder nor weights in timm of "
            f"{_plain(encoder)}: {known}"
        )


def _states(encoder: str, weights: str) -> list[State]:
    """Return the collections of tensors that the weights may mean.

    Raises:
        ConfigError: the weights cannot be read or downloaded.
    """
    check_weights(encoder, weights)
    if weights == "bundled":
        return [bundled_state()]
    path = _path_of(weights)
    if path is None:
        return [_downloaded_state(str(_name_in_timm(encoder, weights)))]
    _check_architecture(encoder, hub_config(path), path)
    return read_states(path)


def _path_of(weights: str) -> Path | None:
    """Return the file that weights name, or None if they do not name one."""
    try:
        path = Path(weights).expanduser()
    except RuntimeError:  # a home of nobody
        return None
    return weight_file(path) if os.path.exists(path) else None


def _name_in_timm(encoder: str, weights: str) -> str | None:
    """Return the name with tag of weights in timm, given with or without the encoder."""
    tag = weights.removeprefix("timm/").removeprefix(f"{_plain(encoder)}.")
    name = f"{_plain(encoder)}.{tag}"
    return name if is_encoder(name) and name in timm.list_pretrained(f"{name}") else None


def _plain(encoder: str) -> str:
    return encoder.partition(".")[0]


def _check_architecture(encoder: str, config: Mapping[str, Any], path: Path) -> None:
    architecture = config.get("architecture", _plain(encoder))
    if architecture != _plain(encoder):
        raise ConfigError(
            f"model.weights: {path} has the weights of {printable(str(architecture)[:100])}: set "
            "model.encoder to this name"
        )


def _downloaded_state(name: str) -> State:
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:
        raise ConfigError(
            f"model.weights: '{name}' is not a file, and timm could not provide weights of this "
            f"name: {one_line(error)}"
        ) from error


def _own_statistics(
    encoder: str, weights: str
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the statistics that come with weights, or None if none do."""
    if weights in ("bundled", "none"):
        return None
    path = _path_of(weights)
    if path is None:
        name = _name_in_timm(encoder, weights)
        found = None if name is None else settings_of(name)
        return None if found is None else (tuple(found.mean), tuple(found.std))
    settings = hub_config(path).get("pretrained_cfg")
    if not isinstance(settings, dict) or "mean" not in settings or "std" not in settings:
        return None
    mean, std = (_numbers(settings[name], path) for name in ("mean", "std"))
    most = max(map(abs, (*mean, *std)))
    if len(mean) != len(std) or min(std) < 1 / LARGEST or most > LARGEST:
        raise ConfigError(f"model.weights: the statistics beside {path} are not those of images")
    return mean, std


def _numbers(values: Any, path: Path) -> tuple[float, ...]:
    if not isinstance(values, list) or not values or not all(map(_is_number, values)):
        raise ConfigError(f"model.weights: the statistics beside {path} are not numbers")
    return tuple(map(float, values))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@lru_cache(maxsize=8)
def _whole(encoder: str) -> frozenset[str]:
    """Return the names of the tensors of a network with its head."""
    with torch.device("meta"):
        return frozenset(timm.create_model(encoder).state_dict())


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(printable(name[:100]) for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown}, ..."
