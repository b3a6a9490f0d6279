"""Which runtime executes a network, and where: decided here for whatever wants probabilities."""

import logging

import torch

from rhm.errors import ConfigError, ModelFileError
from rhm.inference.runtime.backends import Backend, place_of
from rhm.inference.runtime.runtimes import AUTO, RUNTIMES, RuntimeConfig
from rhm.models.build import SegmentationModel

_LOG = logging.getLogger(__name__)


def network_for(
    model: SegmentationModel,
    *,
    device: str = RuntimeConfig.device,
    runtime: str = RuntimeConfig.runtime,
    pixels: int | None = None,
) -> Backend:
    """Return a model ready to predict.

    Args:
        model: is moved to the device, in ``eval`` mode.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        runtime: one of ``RUNTIMES``; or ``auto``: the first of ``AUTO`` that runs on the device,
            is installed, can express the model, and pays for so many pixels.
        pixels: how many are to be predicted in all; None where that is not known, but many.

    Raises:
        ConfigError: the runtime or device is unknown or not there, or they exclude each other.
        ModelFileError: the runtime that was asked for cannot express the model.
    """
    RuntimeConfig(device, runtime)
    place = place_of(device)
    if runtime == "auto":
        return _preferred(model, place, pixels)
    chosen = RUNTIMES[runtime]
    if _kind(place) not in chosen.devices:
        if device != "auto" or "cpu" not in chosen.devices:
            raise ConfigError(
                f"{runtime} runs on {' and '.join(chosen.devices)}, not on {place}: use "
                f"--runtime {AUTO[-1]}"
            )
        place = "cpu"
    chosen.require()
    return chosen.open(model, place)


def _preferred(model: SegmentationModel, place: str, pixels: int | None) -> Backend:
    *others, last = AUTO
    for name in others:
        runtime = RUNTIMES[name]
        worthwhile_px = runtime.worthwhile_px * torch.get_num_threads()
        if _kind(place) not in runtime.devices or (pixels is not None and pixels < worthwhile_px):
            continue
        try:
            runtime.require()
            return runtime.open(model, place)
        except (ConfigError, ModelFileError) as error:
            _LOG.info("%s does not execute the network: %s", runtime.about, error)
    return RUNTIMES[last].open(model, place)


def _kind(place: str) -> str:
    return place.partition(":")[0]
