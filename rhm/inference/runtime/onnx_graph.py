"""Networks as ONNX graphs, and their execution by ONNX Runtime.

Callers must check that the packages of the runtime ``onnx`` are installed.
"""

import inspect
import io
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from rhm.errors import ModelFileError

OPSET = 17
"""Version of the operators; ONNX Runtime supports it since 1.12, and so do older plug-ins."""

TOLERANCE = 1e-4
"""Largest difference in probability between a network and its graph."""

# Warnings of the tracing exporter. Its successor (dynamo=True) was tried with torch 2.14 and
# onnxscript 0.7. The graphs are as accurate and as fast, but the export takes 25 to 50 times as
# long (half a minute for a network that is traced in one second), and operators that cannot be
# converted from version 18 to 17 remain, which older plug-ins do not support.
_EXPECTED_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    ("You are using the legacy TorchScript-based ONNX export", DeprecationWarning),
    ("Setting `operator_export_type`", DeprecationWarning),
    ("The feature will be removed", DeprecationWarning),  # about parts of the exporter itself
    # Errors of a trace are found by comparing the results of the graph with those of the network.
    ("", torch.jit.TracerWarning),  # type: ignore[attr-defined]  # public, but not in __all__
    ("Constant folding", UserWarning),  # ONNX Runtime folds constants instead
)


def graph_of(
    network: nn.Module,
    images: Tensor,
    *,
    dynamic: Mapping[int, str],
    names: tuple[str, str] = ("images", "logits"),
    opset: int = OPSET,
) -> bytes:
    """Return a network as an ONNX model file.

    Args:
        network: network from one tensor to one tensor of the same batch size, height and width; in
            ``eval`` mode and on the CPU.
        images: (N, C, H, W) float32 images for tracing.
        dynamic: names of the axes whose length may differ from that of ``images``, by index.
        names: names of the input and the output.
        opset: version of the operators.

    Raises:
        ModelFileError: ONNX cannot express the network.
    """
    file = io.BytesIO()
    try:
        with _expected_warnings(), torch.no_grad(), _Expressible():
            torch.onnx.export(
                network,
                (images,),
                file,  # type: ignore[arg-type]  # a path or a file
                input_names=names[:1],
                output_names=names[1:],
                dynamic_axes={name: dict(dynamic) for name in names},
                opset_version=opset,
                # Operators without counterpart in ONNX remain in the graph, and ONNX Runtime names
                # them in its error. If the exporter refused them, it would print the whole network.
                operator_export_type=torch.onnx.OperatorExportTypes.ONNX_FALLTHROUGH,
                **_by_tracing(),
            )
    except Exception as error:
        raise ModelFileError(f"the model cannot be expressed in ONNX: {_reason(error)}") from error
    return _with_true_shapes(file.getvalue(), images.shape, dynamic)


def session_of(graph: bytes) -> Any:
    """Return a session of ONNX Runtime for a graph, on the CPU with as many threads as torch.

    Raises:
        ModelFileError: ONNX Runtime cannot run the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # half of the memory, at the same speed
    options.log_severity_level = 4  # errors are raised, and need not be printed as well
    # Threads that wait by spinning would take time from those of torch and of other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelFileError(f"ONNX Runtime cannot run the model: {_reason(error)}") from error


def run(session: Any, images: Tensor) -> Tensor:
    """Return the only output (N, 1, H, W) of a session for images (N, C, H, W), both float32.

    Raises:
        ModelFileError: ONNX Runtime cannot run the graph.
    """
    (given,), (wanted,) = session.get_inputs(), session.get_outputs()
    array = images.detach().cpu().contiguous().numpy()
    try:
        (result,) = session.run([wanted.name], {given.name: array})
    except Exception as error:
        raise ModelFileError(f"ONNX Runtime cannot run the model: {_reason(error)}") from error
    return torch.from_numpy(result)


def check_graph(
    execute: Callable[[Tensor], Tensor], network: nn.Module, images: Tensor, *, logits: bool
) -> None:
    """Check that a graph gives the same results as its network.

    Probabilities may differ by ``TOLERANCE``, and logits by ten times that fraction of the largest
    logit. Logits are compared as probabilities as well.

    Args:
        execute: function from images to the output of the graph.
        network: network in ``eval`` mode and on the CPU.
        images: (N, C, H, W) float32 images, preferably of another shape than those for tracing.
        logits: whether the output consists of logits rather than probabilities.

    Raises:
        ModelFileError: the results differ by more, or the graph or the network does not accept the
            images.
    """
    found = execute(images)
    try:
        with torch.inference_mode():
            expected: Tensor = network(images)
        difference = (found - expected).abs().max()
        scale = 10.0 * expected.abs().max().clamp_min(1.0) if logits else 1.0
        wrong = not difference <= TOLERANCE * scale
        if logits and not wrong:
            difference = (found.sigmoid() - expected.sigmoid()).abs().max()
            wrong = not difference <= TOLERANCE
    except RuntimeError as error:  # the network refuses the shape, or the results differ in shape
        raise ModelFileError(f"the model cannot be expressed in ONNX: {_reason(error)}") from error
    if wrong:
        raise ModelFileError(
            f"the model cannot be expressed in ONNX: its results differ by {float(difference):.2g}"
        )


def _with_true_shapes(graph: bytes, shape: torch.Size, dynamic: Mapping[int, str]) -> bytes:
    """Return the graph with the true shape of its output where the exporter guessed."""
    import onnx

    file = onnx.load_from_string(graph)
    for axis, length in enumerate(file.graph.output[0].type.tensor_type.shape.dim):
        if axis in dynamic:
            length.dim_param = dynamic[axis]
        elif axis != 1:
            length.dim_value = shape[axis]
    del file.graph.value_info[:]
    serialized: bytes = file.SerializeToString()
    return serialized


def _reason(error: Exception) -> str:
    return textwrap.shorten(str(error) or type(error).__name__, 160, placeholder=" ...")


def _by_tracing() -> dict[str, Any]:
    """Return the option that selects the tracing exporter, if torch offers a choice."""
    known = inspect.signature(torch.onnx.export).parameters
    return {"dynamo": False} if "dynamo" in known else {}


@contextmanager
def _expected_warnings() -> Iterator[None]:
    """Suppress the expected warnings of the tracing exporter."""
    with warnings.catch_warnings():
        for message, category in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message, category)
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Restrict torch to one thread, because more only slow it down on images for tracing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Expressible(TorchFunctionMode):
    """Replaces what the exporter cannot express: pooling with uneven cells, smooth resampling."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func is functional.adaptive_avg_pool2d:
            return _pooled(*args, **named)
        if func is functional.interpolate and named.get("mode") == "area":
            return _pooled(args[0], named["size"])
        if func is functional.interpolate and named.get("antialias") and "size" in named:
            return _resampled(args[0], named["size"])
        return func(*args, **named)


def _pooled(images: Tensor, output_size: int | tuple[int | None, ...]) -> Tensor:
    """Return ``adaptive_avg_pool2d`` of images of any size, computed from cumulative sums."""
    sizes = (output_size,) * 2 if isinstance(output_size, int) else output_size
    for dim, count in zip((2, 3), sizes, strict=True):
        if count is None:
            continue
        if count == 1:
            images = images.mean(dim, keepdim=True)
            continue
        length = images.shape[dim]
        cells = torch.arange(count)
        first = torch.div(cells * length, count, rounding_mode="floor")
        end = torch.div((cells + 1) * length + count - 1, count, rounding_mode="floor")
        sums = functional.pad(images, (0, 0, 1, 0) if dim == 2 else (1, 0)).cumsum(dim)
        total = sums.index_select(dim, end) - sums.index_select(dim, first)
        images = total / (end - first).reshape(-1, *[1] * (3 - dim))
    return images


def _resampled(images: Tensor, size: Sequence[int]) -> Tensor:
    """Return ``interpolate`` of images (N, C, H, W) in the mode ``bicubic`` with ``antialias``.

    Vision transformers resample the embeddings of positions in this way, and no other.
    """
    rows, cols = (_cubic_weights(images.shape[axis + 2], size[axis]) for axis in (0, 1))
    return rows @ images @ cols.transpose(0, 1)


def _cubic_weights(length: int, wanted: int) -> Tensor:
    """Return the share (wanted, length) of each value in each resampled value."""
    # Sizes are tensors in a trace, so that they may differ when the graph is executed.
    scale = torch.as_tensor(length, dtype=torch.float32) / wanted
    centres = (torch.arange(wanted) + 0.5) * scale
    offsets = torch.arange(length) + 0.5 - centres[:, None]
    d = (offsets / scale.clamp_min(1.0)).abs()
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    weights = torch.where(d < 1.0, near, torch.where(d < 2.0, far, torch.zeros_like(d)))
    return weights / weights.sum(1, keepdim=True)
