"""Where a network runs."""

import re

import torch

from rhm.errors import ConfigError
from rhm.models.build import SegmentationModel


def on_device(model: SegmentationModel, device: str) -> SegmentationModel:
    """Return the model on a device, in the memory layout that convolutions are fastest in.

    Args:
        model: is moved in place.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: the device is unknown or not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    named = re.fullmatch(r"cpu|cuda(?::(\d{1,3}))?", device)
    if named is None:
        raise ConfigError(f"unknown device '{device}': choose auto, cpu, cuda or cuda:N")
    if device != "cpu" and int(named[1] or 0) >= torch.cuda.device_count():
        raise ConfigError(f"no device '{device}' on this machine: use --device cpu")
    model.to(torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model
