"""Graphs that compute with 8-bit integers, quantised after training by ONNX Runtime.

Callers must check that the packages of the runtime ``onnx`` are installed.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import Tensor

from rhm.errors import ModelFileError, one_line

_PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_BETWEEN = ("Relu", "Clip", "Add", "Concat", "Resize", "MaxPool")
"""Operators that are quantised: those that multiply by weights, and those between them, so that
results need not become floating-point numbers on the way."""

_LEAST_AXES = 3
"""Fewest axes of features; what has fewer computes lengths and sizes, which must be exact."""


def ranges_of(graph: bytes, batches: Iterable[Tensor]) -> dict[str, tuple[float, float]]:
    """Return the smallest and the largest value of every intermediate result, by its name.

    Args:
        graph: ONNX model file with one input, ``images``.
        batches: normalised images (N, C, H, W) float32 that are typical.

    Raises:
        ModelFileError: ONNX Runtime cannot run the graph, or a result is not finite.
    """
    from onnxruntime.quantization import MinMaxCalibrater

    with TemporaryDirectory() as folder:
        plain, augmented = (Path(folder) / name for name in ("plain.onnx", "augmented.onnx"))
        plain.write_bytes(_typed(graph).SerializeToString())
        try:
            calibrater = MinMaxCalibrater(plain, augmented_model_path=str(augmented))
            calibrater.augment_graph()
            calibrater.create_inference_session()
            calibrater.collect_data(_Reader(batches))
            found = calibrater.compute_data()
        except Exception as error:
            raise _cannot_quantize(error) from error
    ranges = {
        name: (float(np.min(each.range_value[0])), float(np.max(each.range_value[1])))
        for name, each in found.items()
    }
    for name, bounds in ranges.items():
        if bounds == (np.inf, -np.inf):
            # No value at all: the channels of a stage that the encoder does not have.
            ranges[name] = (0.0, 0.0)
    if not np.isfinite(list(ranges.values())).all():
        raise ModelFileError("the model cannot be quantised to 8 bits: its results are not finite")
    return ranges


def quantized(graph: bytes, ranges: Mapping[str, tuple[float, float]]) -> bytes:
    """Return a graph whose convolutions multiply 8-bit integers.

    Weights have a scale per channel and seven bits, because the sums of eight would overflow on
    processors without instructions for them (VNNI); results have one scale, from their range. The
    last convolution, which gives the logits, keeps its floating-point numbers.

    Args:
        graph: ONNX model file.
        ranges: ranges of the intermediate results, from ``ranges_of`` for the same graph.

    Raises:
        ModelFileError: a range is missing or empty, or the graph cannot be quantised.
    """
    from onnxruntime.quantization import QDQQuantizer, QuantType, TensorData

    file = _typed(graph)
    bounds = {}
    for name, (low, high) in ranges.items():
        if not low <= high:
            raise ModelFileError(f"the range of {name} is empty: calibrate again")
        bounds[name] = TensorData(lowest=np.float32(low), highest=np.float32(high))
    try:
        quantizer = QDQQuantizer(
            file,
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=bounds,
            nodes_to_quantize=[],
            nodes_to_exclude=_exact(file),
            op_types_to_quantize=[*_PRODUCTS, *_BETWEEN],
            extra_options={"QuantizeBias": False},
        )
        with _quietly():
            quantizer.quantize_model()
        serialized: bytes = quantizer.model.model.SerializeToString()
    except Exception as error:
        raise _cannot_quantize(error) from error
    return serialized


@contextmanager
def _quietly() -> Iterator[None]:
    """Hide what ONNX Runtime tells the root logger: notes on the graph, of no use to a user.

    With the first such note, Python would also set up logging for the whole program.
    """
    root, nowhere = logging.getLogger(), logging.NullHandler()
    root.addHandler(nowhere)
    root.addFilter(_nothing)
    try:
        yield
    finally:
        root.removeFilter(_nothing)
        root.removeHandler(nowhere)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def _exact(file: Any) -> list[str]:
    """Return the names of the operators that keep their floating-point numbers."""
    known = (*file.graph.value_info, *file.graph.output)
    axes = {each.name: len(each.type.tensor_type.shape.dim) for each in known}
    lengths = [
        node.name
        for node in file.graph.node
        if max((axes.get(name, 0) for name in node.output), default=0) < _LEAST_AXES
    ]
    products = [node.name for node in file.graph.node if node.op_type in _PRODUCTS]
    return [*lengths, *products[-1:]]


class _Reader:
    """Batches in the form in which ONNX Runtime asks for them."""

    def __init__(self, batches: Iterable[Tensor]) -> None:
        self._batches: Iterator[Tensor] = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch by the name of the input; None after the last one."""
        images = next(self._batches, None)
        return None if images is None else {"images": images.contiguous().numpy()}


def _typed(graph: bytes) -> Any:
    """Return a graph as ONNX's object, with the types of its intermediate results."""
    import onnx

    return onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))


def _cannot_quantize(error: Exception) -> ModelFileError:
    return ModelFileError(f"the model cannot be quantised to 8 bits: {one_line(error, 160)}")
