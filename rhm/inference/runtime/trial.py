"""Trial of runtimes: the one that executes a network fastest on this machine.

Runtimes round differently, so the choice must not change from one run to the next. It is kept in
the folder for caches that the system gives each user, one file for each kind of network, processor
and set of installed versions, and is made again only when one of these changes.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import rhm
from rhm.documents import read_json
from rhm.errors import ConfigError, ModelFileError, OutputError
from rhm.files import write_text
from rhm.inference.runtime.backends import Backend
from rhm.inference.runtime.runtimes import RUNTIMES
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec
from rhm.system import cache_folder, processor

_LOG = logging.getLogger(__name__)

_SIDE = 512
_TILES, _ENOUGH_S = 3, 1.0
"""Most tiles that each runtime predicts, and the time after which fewer are enough."""

_BETTER = 0.9
"""Largest share of the time of an earlier runtime that a later one may take to replace it, so that
small differences, which noise could turn around, do not decide."""


@dataclass(frozen=True)
class Trial:
    """The result of a trial, as it is kept.

    Attributes:
        runtime: runtime that was chosen.
        seconds: seconds per tile of each runtime that can execute the network.
        circumstances: kind of network, processor and versions, for readers of the file.
    """

    runtime: str
    seconds: dict[str, float]
    circumstances: tuple[str, ...] = ()

    def told(self) -> str:
        """Return the result in a sentence."""
        measured = ", ".join(
            f"{RUNTIMES[name].about} {1000 * seconds:.0f} ms"
            for name, seconds in self.seconds.items()
        )
        return (
            f"runtime {self.runtime}, after a trial that is made once for this network on this "
            f"machine (per tile: {measured})"
        )


def fastest(
    model: SegmentationModel,
    place: str,
    names: Sequence[str],
    tell: Callable[[str], None] | None = None,
) -> Backend:
    """Return a model with the fastest of several runtimes.

    Args:
        model: model in ``eval`` mode.
        place: device that all of these runtimes support.
        names: runtimes that are installed, in the order of preference.
        tell: called with the result of a trial, if one is made.

    Raises:
        ModelFileError: none of the runtimes can express the model.
    """
    if len(names) == 1:
        return _opened(model, place, names[0])
    circumstances = _circumstances(model.spec, names)
    kept = _kept(circumstances, names)
    if kept is not None:
        try:
            return _opened(model, place, kept)
        except (ConfigError, ModelFileError) as error:
            _LOG.info("%s no longer executes the network: %s", RUNTIMES[kept].about, error)
    backend, seconds = _raced(model, place, names)
    _keep(Trial(backend.runtime, seconds, circumstances))
    if tell is not None and len(seconds) > 1:
        tell(Trial(backend.runtime, seconds).told())
    return backend


def _opened(model: SegmentationModel, place: str, name: str) -> Backend:
    RUNTIMES[name].require()
    return RUNTIMES[name].open(model, place)


def _raced(
    model: SegmentationModel, place: str, names: Sequence[str]
) -> tuple[Backend, dict[str, float]]:
    """Return the fastest backend, and the seconds per tile of all that can be opened."""
    best: Backend | None = None
    refusal: Exception | None = None
    seconds: dict[str, float] = {}
    for name in names:
        try:
            backend = _opened(model, place, name)
            seconds[name] = _seconds_per_tile(backend)
        except (ConfigError, ModelFileError) as error:
            _LOG.info("%s does not execute the network: %s", RUNTIMES[name].about, error)
            refusal = error
            continue
        if best is None or seconds[name] < _BETTER * seconds[best.runtime]:
            best = backend
    if best is None:
        raise refusal or ModelFileError("no runtime executes the model")
    return best, seconds


def _seconds_per_tile(backend: Backend) -> float:
    """Return the shortest time in which a runtime predicts a tile."""
    images = torch.randn(
        1, backend.spec.bands, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0)
    )
    images = images.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        backend(images)  # warm-up: allocates memory and compiles
        times: list[float] = []
        while len(times) < _TILES and sum(times) < _ENOUGH_S:
            begun = time.perf_counter()
            backend(images)
            times.append(time.perf_counter() - begun)
    return min(times)


def _circumstances(spec: ModelSpec, names: Sequence[str]) -> tuple[str, ...]:
    """Return everything that a choice depends on."""
    needed = (package for name in names for package in RUNTIMES[name].packages)
    packages = dict.fromkeys(["torch", *needed])
    return (
        f"rhm {rhm.__version__}",
        f"{spec.architecture} {spec.encoder} {spec.head} {spec.bands} bands "
        f"{len(spec.classes)} classes",
        processor(),
        *(f"{package} {_version(package)}" for package in packages),
        *names,
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"  # a build under another name, such as onnxruntime-gpu


def _file(circumstances: Sequence[str]) -> Path:
    key = hashlib.sha256(json.dumps(circumstances).encode()).hexdigest()[:16]
    return cache_folder() / "runtimes" / f"{key}.json"


def _kept(circumstances: Sequence[str], names: Sequence[str]) -> str | None:
    try:
        values = read_json(_file(circumstances))
    except (OSError, ValueError):
        return None
    runtime = values.get("runtime") if isinstance(values, dict) else None
    # Nothing else of the file is used, and the name only if it is one of these.
    return next((name for name in names if name == runtime), None)


def _keep(trial: Trial) -> None:
    try:
        write_text(_file(trial.circumstances), json.dumps(asdict(trial), indent=1) + "\n")
    except OutputError as error:
        _LOG.info("the choice of the runtime is not kept: %s", error)
