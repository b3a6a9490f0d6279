"""Where a network runs, and by what: PyTorch, or ONNX Runtime."""

import logging
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rhm.errors import ConfigError, ModelFileError
from rhm.inference.runtime.onnx_graph import check_session, graph_of, one_thread, run, session_of
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec

_LOG = logging.getLogger(__name__)

RUNTIMES = ("auto", "torch", "onnx")
"""What ``network_for`` can be asked for."""

WORTHWHILE_PX = 16 * 512 * 512
"""Per thread: with less to predict, ONNX Runtime does not win back what making its graph takes."""


class Backend(nn.Module):
    """A model where it runs.

    It takes normalised images (N, bands, H, W) float32 of any device and layout and returns
    logits (N, 1, H, W) float32.

    Attributes:
        model: as given, in ``eval`` mode.
        runtime: ``torch``, ``torch-float16`` or ``onnx``: what decides their last digits.
    """

    runtime: str

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.model = model.eval()

    @property
    def spec(self) -> ModelSpec:
        """The model's description."""
        return self.model.spec

    def get_extra_state(self) -> Tensor:
        """Return the runtime as bytes: two runtimes of one model are not in the same state."""
        return torch.tensor(list(self.runtime.encode()), dtype=torch.uint8)


class TorchBackend(Backend):
    """PyTorch, with channels last; on CUDA in mixed precision.

    Args:
        model: is moved in place.
        device: as ``on_device`` takes it.
        mixed: whether to calculate in float16 where that is safe; by default on CUDA.
    """

    def __init__(
        self, model: SegmentationModel, device: str = "auto", *, mixed: bool | None = None
    ) -> None:
        super().__init__(on_device(model, device))
        self.device = next(model.parameters()).device
        self.mixed = self.device.type == "cuda" if mixed is None else mixed
        self.runtime = "torch-float16" if self.mixed else "torch"

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Return logits on the model's device."""
        images = images.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.mixed):
            logits: Tensor = self.model(images)
        if self.mixed and not logits.isfinite().all():
            # Something was too large for float16; it need not be for float32.
            logits = self.model(images)
        return logits.float()


class OnnxBackend(Backend):
    """ONNX Runtime on the CPU, with as many threads as torch.

    The graph is made of the model when the backend is, and tested on images of another size.

    Args:
        model: is moved to the CPU.

    Raises:
        ConfigError: the extra ``onnx`` is not installed.
        ModelFileError: ONNX cannot express the model.
    """

    runtime = "onnx"

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__(on_device(model, "cpu"))
        bands = model.spec.bands
        axes = {0: "images", 2: "height", 3: "width"}
        with one_thread():
            graph = graph_of(model, torch.zeros(1, bands, 64, 64), dynamic=axes)
        self._session = session_of(graph)
        images = torch.randn(2, bands, 96, 160, generator=torch.Generator().manual_seed(0))
        with one_thread():
            check_session(self._session, model, images, logits=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits on the CPU."""
        return run(self._session, images)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[SegmentationModel]]:
        # A session stays in its process: another one makes its own.
        return type(self), (self.model,)


def network_for(
    model: SegmentationModel,
    *,
    device: str = "auto",
    runtime: str = "auto",
    pixels: int | None = None,
) -> Backend:
    """Return a model ready to predict.

    Args:
        model: is moved to the device, in ``eval`` mode.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        runtime: ``torch``; ``onnx``, which is ONNX Runtime on the CPU; or ``auto``: ONNX Runtime
            where the device is the CPU, the extra ``onnx`` is installed, ONNX can express the
            model and there is enough to predict, and otherwise torch.
        pixels: how many are to be predicted in all; None where that is not known, but many.

    Raises:
        ConfigError: the runtime or device is unknown or not there, or they exclude each other.
        ModelFileError: the runtime is ``onnx``, which cannot express the model.
    """
    if runtime not in RUNTIMES:
        raise ConfigError(f"unknown runtime '{runtime}': choose {', '.join(RUNTIMES)}")
    place = _place(device)
    if runtime == "onnx":
        if device != "auto" and place != "cpu":
            raise ConfigError(f"ONNX Runtime is for the CPU here: on {device} use --runtime torch")
        return OnnxBackend(model)
    worthwhile = pixels is None or pixels >= WORTHWHILE_PX * torch.get_num_threads()
    if runtime == "auto" and place == "cpu" and worthwhile:
        try:
            return OnnxBackend(model)
        except (ConfigError, ModelFileError) as error:
            _LOG.info("torch predicts, ONNX Runtime cannot: %s", error)
    return TorchBackend(model, place)


def on_device(model: SegmentationModel, device: str) -> SegmentationModel:
    """Return the model on a device, in the memory layout that convolutions are fastest in.

    Args:
        model: is moved in place.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: the device is unknown or not there.
    """
    place = torch.device(_place(device))
    model.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _place(device: str) -> str:
    """Return the device that a word means: ``cpu``, ``cuda`` or ``cuda:N``."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    named = re.fullmatch(r"cpu|cuda(?::(\d{1,3}))?", device)
    if named is None:
        raise ConfigError(f"unknown device '{device}': choose auto, cpu, cuda or cuda:N")
    if device != "cpu" and int(named[1] or 0) >= torch.cuda.device_count():
        raise ConfigError(f"no device '{device}' on this machine: use --device cpu")
    return device
