"""Networks where they run: executed by PyTorch, or by an engine that reads ONNX."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from rhm.errors import ConfigError
from rhm.inference.runtime.onnx_graph import check_graph, graph_of, one_thread, run, session_of
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec

Engine = Callable[[bytes], Callable[[Tensor], Tensor]]
"""Of an ONNX model file, returns what gives its output (N, 1, H, W) for images (N, C, H, W)."""


class Backend(nn.Module):
    """A model where it runs.

    It takes normalised images (N, bands, H, W) float32 of any device and layout and returns
    logits (N, 1, H, W) float32.

    Attributes:
        model: as given, in ``eval`` mode.
        runtime: its name in ``RUNTIMES``: what decides their last digits.
    """

    runtime: str

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.model = model
        self.eval()

    @property
    def spec(self) -> ModelSpec:
        """The model's description."""
        return self.model.spec

    def train(self, mode: bool = True) -> Self:
        """Stay in ``eval`` mode: what predicts is never trained."""
        return super().train(False)

    def get_extra_state(self) -> Tensor:
        """Return the runtime as bytes: two runtimes of one model are not in the same state."""
        return torch.tensor(list(self.runtime.encode()), dtype=torch.uint8)


DescribedNetwork = SegmentationModel | Backend
"""A network with a ``spec``: a model, which PyTorch executes, or a model where it runs."""


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


class GraphBackend(Backend):
    """An engine that reads ONNX, on the CPU.

    The graph is made of the model when the backend is, and tested on images of another size.

    Args:
        model: is moved to the CPU.
        runtime: the engine's name in ``RUNTIMES``.
        engine: is asked again in another process, and must therefore be found by name.

    Raises:
        ModelFileError: ONNX or the engine cannot express the model.
    """

    def __init__(self, model: SegmentationModel, runtime: str, engine: Engine) -> None:
        super().__init__(on_device(model, "cpu"))
        self.runtime = runtime
        self._engine = engine
        bands = model.spec.bands
        axes = {0: "images", 2: "height", 3: "width"}
        with one_thread():
            graph = graph_of(model, torch.zeros(1, bands, 64, 64), dynamic=axes)
        self._run = engine(graph)
        images = torch.randn(2, bands, 96, 160, generator=torch.Generator().manual_seed(0))
        with one_thread():
            check_graph(self._run, model, images, logits=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits on the CPU."""
        return self._run(images)

    def __reduce__(self) -> tuple[Any, ...]:
        # An engine stays in its process: another one makes its own.
        return GraphBackend, (self.model, self.runtime, self._engine)


class OnnxBackend(GraphBackend):
    """ONNX Runtime on the CPU, with as many threads as torch.

    Args:
        model: is moved to the CPU.

    Raises:
        ModelFileError: ONNX cannot express the model.
    """

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__(model, "onnx", _onnx_runtime)


def _onnx_runtime(graph: bytes) -> Callable[[Tensor], Tensor]:
    return partial(run, session_of(graph))


def on_device(model: SegmentationModel, device: str) -> SegmentationModel:
    """Return the model on a device, in the memory layout that convolutions are fastest in.

    Args:
        model: is moved in place.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: the device is unknown or not there.
    """
    place = torch.device(place_of(device))
    model.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def place_of(device: str) -> str:
    """Return the device that a word means: ``cpu``, ``cuda`` or ``cuda:N``."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    named = re.fullmatch(r"cpu|cuda(?::(\d{1,3}))?", device)
    if named is None:
        raise ConfigError(f"unknown device '{device}': choose auto, cpu, cuda or cuda:N")
    if device != "cpu" and int(named[1] or 0) >= torch.cuda.device_count():
        raise ConfigError(f"no device '{device}' on this machine: use --device cpu")
    return device
