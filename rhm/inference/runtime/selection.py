"""Selection of the runtime and the device that execute a network."""

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
        model: model, moved to the device in place and put into ``eval`` mode.
        device: ``auto`` (CUDA if available), ``cpu``, ``cuda`` or ``cuda:N``.
        runtime: one of ``RUNTIMES``, or ``auto`` for the first of ``AUTO`` that supports the
            device, is installed, can express the model, and is worthwhile for the number of
            pixels.
        pixels: total number of pixels to predict; None if it is unknown, but large.

    Raises:
        ConfigError: the runtime or device is unknown or not available, or the runtime does not
            support the device.
        ModelFileError: the chosen runtime cannot express the model.
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
