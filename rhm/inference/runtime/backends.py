"""Backends: networks that PyTorch or an engine for ONNX executes."""

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from rhm.errors import ConfigError
from rhm.inference.runtime.int8_graph import quantized
from rhm.inference.runtime.onnx_graph import check_graph, graph_of, one_thread, run, session_of
from rhm.inference.runtime.openvino_graph import CompiledGraph
from rhm.inference.runtime.runtimes import PRECISIONS, name_in_precision
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec

if TYPE_CHECKING:
    from rhm.inference.runtime.quantization import Quantization

Engine = Callable[[bytes], Callable[[Tensor], Tensor]]
"""Function that turns an ONNX model file into a function from images (N, C, H, W) to its output
(N, 1, H, W)."""


class Backend(nn.Module):
    """A model that is executed by a runtime.

    It takes normalised images (N, bands, H, W) float32 on any device and in any layout, and returns
    logits (N, 1, H, W) float32.

    Attributes:
        model: model in ``eval`` mode.
        runtime: name in ``RUNTIMES``, with the precision if that is not ``float``; it determines
            the last digits of the logits.
        quantization: quantisation of the model; None for floating-point numbers.
    """

    runtime: str
    quantization: "Quantization | None" = None

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.model = model
        self.eval()

    @property
    def spec(self) -> ModelSpec:
        """Description of the model."""
        return self.model.spec

    def train(self, mode: bool = True) -> Self:
        """Stay in ``eval`` mode: what predicts is never trained."""
        return super().train(False)

    def get_extra_state(self) -> Tensor:
        """Return the name of the runtime as bytes, so that the state identifies the runtime too."""
        return torch.tensor(list(self.runtime.encode()), dtype=torch.uint8)


DescribedNetwork = SegmentationModel | Backend
"""A network with a ``spec``: a model that PyTorch executes directly, or a backend."""


class TorchBackend(Backend):
    """PyTorch, with channels last and, on CUDA, in mixed precision.

    Args:
        model: model, moved to the device in place.
        device: device as in ``on_device``.
        mixed: whether to compute in float16 where that is safe; by default on CUDA.
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
        """Return logits on the device of the model."""
        images = images.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.mixed):
            logits: Tensor = self.model(images)
        if self.mixed and not logits.isfinite().all():
            # A value was too large for float16, but may fit into float32.
            logits = self.model(images)
        return logits.float()


class GraphBackend(Backend):
    """An engine for ONNX, on the CPU.

    The model is exported when the backend is created, and tested on images of another size. A
    quantised model was tested when it was calibrated.

    Args:
        model: model, moved to the CPU in place.
        runtime: name of the engine in ``RUNTIMES``.
        engine: function that opens the graph. It must be importable by name, because other
            processes call it again.
        quantization: ranges for computing with 8-bit integers; None for floating-point numbers.
        tested: function that opens the graph in float32 for the test, if ``engine`` computes in
            another precision, whose rounding would hide what was exported wrongly.

    Raises:
        ModelFileError: ONNX or the engine cannot express the model.
    """

    def __init__(
        self,
        model: SegmentationModel,
        runtime: str,
        engine: Engine,
        quantization: "Quantization | None" = None,
        tested: Engine | None = None,
    ) -> None:
        super().__init__(on_device(model, "cpu"))
        precision = PRECISIONS[0] if quantization is None else PRECISIONS[1]
        self.runtime = name_in_precision(runtime, precision)
        self.quantization = quantization
        self._made_of = (model, runtime, engine, quantization, tested)
        graph = float_graph(model)
        if quantization is not None:
            self._run = engine(quantized(graph, quantization.ranges))
            return
        self._run = engine(graph)
        bands = model.spec.bands
        images = torch.randn(2, bands, 96, 160, generator=torch.Generator().manual_seed(0))
        with one_thread():
            check_graph(self._run if tested is None else tested(graph), model, images, logits=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits on the CPU."""
        return self._run(images)

    def get_extra_state(self) -> Tensor:
        """Return the name of the runtime and what quantised the model, as bytes."""
        key = "" if self.quantization is None else self.quantization.key
        return torch.tensor(list((self.runtime + key).encode()), dtype=torch.uint8)

    def __reduce__(self) -> tuple[Any, ...]:
        # An engine cannot be sent to another process, which makes its own.
        return GraphBackend, self._made_of


def float_graph(model: SegmentationModel) -> bytes:
    """Return the ONNX graph of a model on the CPU, for images of any number and size.

    Raises:
        ModelFileError: ONNX cannot express the model.
    """
    axes = {0: "images", 2: "height", 3: "width"}
    with one_thread():
        return graph_of(model, torch.zeros(1, model.spec.bands, 64, 64), dynamic=axes)


class OnnxBackend(GraphBackend):
    """ONNX Runtime on the CPU, with as many threads as torch.

    Args:
        model: model, moved to the CPU in place.
        quantization: ranges for computing with 8-bit integers; None for float32.

    Raises:
        ModelFileError: ONNX cannot express the model.
    """

    def __init__(
        self, model: SegmentationModel, quantization: "Quantization | None" = None
    ) -> None:
        super().__init__(model, "onnx", _onnx_runtime, quantization)


class OpenVinoBackend(GraphBackend):
    """OpenVINO on the CPU, with as many threads as torch.

    Args:
        model: model, moved to the CPU in place.
        quantization: ranges for computing with 8-bit integers; None for floating-point numbers.
        bfloat16: whether to multiply bfloat16 numbers instead of float32.

    Raises:
        ModelFileError: ONNX or OpenVINO cannot express the model.
    """

    def __init__(
        self,
        model: SegmentationModel,
        quantization: "Quantization | None" = None,
        *,
        bfloat16: bool = False,
    ) -> None:
        if bfloat16:
            engine = partial(CompiledGraph, bfloat16=True)
            super().__init__(model, "openvino-bfloat16", engine, tested=CompiledGraph)
        else:
            super().__init__(model, "openvino", CompiledGraph, quantization)


def _onnx_runtime(graph: bytes) -> Callable[[Tensor], Tensor]:
    return partial(run, session_of(graph))


def on_device(model: SegmentationModel, device: str) -> SegmentationModel:
    """Return the model on a device, in the memory layout that is fastest for convolutions.

    Args:
        model: model, moved to the device in place.
        device: ``auto`` (CUDA if available), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: the device is unknown or does not exist.
    """
    place = torch.device(place_of(device))
    model.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def place_of(device: str) -> str:
    """Return the device that a user names, with ``auto`` resolved: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: the device is unknown or does not exist.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    named = re.fullmatch(r"cpu|cuda(?::(\d{1,3}))?", device)
    if named is None:
        raise ConfigError(f"unknown device '{device}': choose auto, cpu, cuda or cuda:N")
    if device != "cpu" and int(named[1] or 0) >= torch.cuda.device_count():
        raise ConfigError(f"this machine has no device '{device}': use --device cpu")
    return device
