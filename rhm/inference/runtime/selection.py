"""Selection of the runtime and the device that execute a network."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from rhm.errors import ConfigError
from rhm.inference.runtime.backends import Backend, place_of
from rhm.inference.runtime.runtimes import AUTO, RUNTIMES, Runtime, RuntimeConfig
from rhm.inference.runtime.trial import fastest
from rhm.models.build import SegmentationModel

if TYPE_CHECKING:
    from rhm.inference.runtime.quantization import Quantization


def network_for(
    model: SegmentationModel,
    *,
    device: str = RuntimeConfig.device,
    runtime: str = RuntimeConfig.runtime,
    precision: str = RuntimeConfig.precision,
    quantization: "Quantization | None" = None,
    pixels: int | None = None,
    tell: Callable[[str], None] | None = None,
) -> Backend:
    """Return a model ready to predict.

    With the runtime ``auto``, few pixels are predicted by PyTorch, because other runtimes take time
    to open. For many pixels on a CPU, the runtimes of ``AUTO`` that are installed try a few tiles
    once. The fastest is used from then on for all networks of this kind on this machine, until
    another version of a runtime is installed: the last digits of a result depend on the runtime.

    Args:
        model: model, moved to the device in place and put into ``eval`` mode.
        device: ``auto`` (CUDA if available), ``cpu``, ``cuda`` or ``cuda:N``.
        runtime: one of ``RUNTIMES``, or ``auto`` for the fastest of ``AUTO`` that supports the
            device, is installed, can express the model, and is worthwhile for the number of
            pixels.
        precision: ``float``, or ``int8`` for 8-bit integers, on the CPU. ``auto`` is then the first
            of ``AUTO`` that is installed and can, without a trial.
        quantization: quantisation of the model, which ``int8`` needs; see
            ``rhm.inference.tiling.calibration``.
        pixels: total number of pixels to predict; None if it is unknown, but large.
        tell: called with the result of a trial of runtimes, if one is made.

    Raises:
        ConfigError: the runtime or device is unknown or not available, or the runtime does not
            support the device or the precision.
        ModelFileError: the chosen runtime cannot express the model.
    """
    RuntimeConfig(device, runtime, precision)
    if precision != "float":
        return _in_int8(model, device, runtime, quantization)
    place = place_of(device)
    if runtime == "auto":
        names = _worthwhile(place, pixels)
        if _kind(place) == "cpu":
            return fastest(model, place, names, tell)
        return RUNTIMES[names[0]].open(model, place)
    chosen = RUNTIMES[runtime]
    supported = _place_for(chosen, device)
    if supported is None:
        raise ConfigError(
            f"{runtime} runs on {' and '.join(chosen.devices)}, not on {place}: use "
            f"--runtime {AUTO[-1]}"
        )
    chosen.require()
    return chosen.open(model, supported)


def is_usable(runtime: str, device: str) -> bool:
    """Return whether a runtime can execute networks on a device of this machine.

    Args:
        runtime: any text, such as what a file records.
        device: device as in ``network_for``.

    Returns:
        Whether it is one of ``RUNTIMES``, is installed, suits the processor, and supports the
        device.

    Raises:
        ConfigError: the device is unknown or does not exist.
    """
    known = RUNTIMES.get(runtime)
    return known is not None and _place_for(known, device) is not None and known.usable


def _place_for(runtime: Runtime, device: str) -> str | None:
    """Return where a runtime executes networks; None if it does not support the device."""
    place = place_of(device)
    if _kind(place) in runtime.devices:
        return place
    return "cpu" if device == "auto" and "cpu" in runtime.devices else None


def int8_runtime(device: str, runtime: str) -> str:
    """Return the runtime that computes in int8.

    Args:
        device: device as in ``network_for``.
        runtime: one of ``RUNTIMES``, or ``auto`` for the first of ``AUTO`` that is installed and
            can.

    Returns:
        One of ``RUNTIMES``, which is installed.

    Raises:
        ConfigError: the device is not the CPU, the runtime cannot, or is not installed.
    """
    if device not in ("auto", "cpu"):
        raise ConfigError(f"int8 runs on cpu, not on {device}: use --device cpu")
    names = AUTO if runtime == "auto" else (runtime,)
    can = [name for name in names if RUNTIMES[name].quantized is not None]
    if not can:
        known = [name for name, each in RUNTIMES.items() if each.quantized is not None]
        raise ConfigError(f"{runtime} does not compute in int8: choose {' or '.join(known)}")
    name = next((name for name in can if RUNTIMES[name].installed), can[-1])
    RUNTIMES[name].require()
    return name


def _in_int8(
    model: SegmentationModel, device: str, runtime: str, quantization: "Quantization | None"
) -> Backend:
    name = int8_runtime(device, runtime)
    if quantization is None:
        raise ConfigError("int8 needs a quantisation of the model, which `rhm predict` makes")
    opened = RUNTIMES[name].quantized
    assert opened is not None  # noqa: S101 - by the choice of the names
    return opened(model, quantization)


def _worthwhile(place: str, pixels: int | None) -> list[str]:
    """Return the runtimes of ``AUTO`` that are installed and worthwhile for a number of pixels."""
    names = []
    for name in AUTO:
        runtime = RUNTIMES[name]
        worthwhile_px = runtime.worthwhile_px * torch.get_num_threads()
        if _kind(place) not in runtime.devices or (pixels is not None and pixels < worthwhile_px):
            continue
        if runtime.installed:
            names.append(name)
    return names


def _kind(place: str) -> str:
    return place.partition(":")[0]
