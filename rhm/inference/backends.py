"""Where a network runs."""

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
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"unknown device '{device}': choose auto, cpu or cuda") from error
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is available: use --device cpu")
    model.to(wanted, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model
