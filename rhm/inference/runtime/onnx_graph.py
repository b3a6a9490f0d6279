"""A network as an ONNX graph, and ONNX Runtime that runs it.

Needs the packages of the runtime ``onnx``: whoever comes here has asked whether they are there.
"""

import inspect
import io
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from rhm.errors import ModelFileError

OPSET = 17
"""Version of the operators: known to ONNX Runtime since 1.12, and so to older plug-ins."""

TOLERANCE = 1e-4
"""The largest difference in probability at which a graph is what it was made of."""

# Of the exporter by tracing. torch.export's successor (dynamo=True) was tried with torch 2.14 and
# onnxscript 0.7: its results are as exact and as fast to run, but it takes 25 to 50 times as long
# (half a minute for a network that is traced in one second), and leaves operators of version 18
# where it cannot turn them into 17, which older plug-ins do not run.
_EXPECTED_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    ("You are using the legacy TorchScript-based ONNX export", DeprecationWarning),
    ("Setting `operator_export_type`", DeprecationWarning),
    ("The feature will be removed", DeprecationWarning),  # the exporter's, of its own parts
    # What a trace could miss is found when the graph's results are compared with the network's.
    ("", torch.jit.TracerWarning),  # type: ignore[attr-defined]  # public, but not in __all__
    ("Constant folding", UserWarning),  # a step that is left to ONNX Runtime
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
        network: takes one tensor and gives one of the same batch, height and width; in ``eval``
            mode and on the CPU.
        images: (N, C, H, W) float32 that it is traced with.
        dynamic: the axes whose length may differ from that of ``images``, and their names.
        names: of the input and the output.
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
                # What has no ONNX operator stays in the graph as PyTorch's, and ONNX Runtime names
                # it. Refusing it, the exporter would print the whole network to standard output.
                operator_export_type=torch.onnx.OperatorExportTypes.ONNX_FALLTHROUGH,
                **_by_tracing(),
            )
    except Exception as error:
        raise ModelFileError(f"the model cannot be expressed in ONNX: {_reason(error)}") from error
    return _with_true_shapes(file.getvalue(), images.shape, dynamic)


def session_of(graph: bytes) -> Any:
    """Return ONNX Runtime's session of a model file, on the CPU with as many threads as torch.

    Raises:
        ModelFileError: ONNX Runtime cannot run it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # as fast without, in half of the memory
    options.log_severity_level = 4  # what goes wrong is raised, and need not be printed too
    # Threads that wait busily take their time from torch's, and from whoever else is there.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelFileError(f"ONNX Runtime cannot run the model: {_reason(error)}") from error


def run(session: Any, images: Tensor) -> Tensor:
    """Return a session's only output (N, 1, H, W) for images (N, C, H, W), both float32.

    Raises:
        ModelFileError: ONNX Runtime cannot run it.
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
    """Check that a network's graph gives what the network gives.

    Probabilities may differ by ``TOLERANCE``, and logits, of which the probabilities are compared
    too, by ten times that share of the largest.

    Args:
        execute: returns what the graph gives for images.
        network: in ``eval`` mode and on the CPU.
        images: (N, C, H, W) float32, preferably of another shape than the trace's.
        logits: whether the results are logits, and otherwise probabilities.

    Raises:
        ModelFileError: they differ by more, or one of the two does not take the images.
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
    except RuntimeError as error:  # shapes that a network refuses, or that do not match
        raise ModelFileError(f"the model cannot be expressed in ONNX: {_reason(error)}") from error
    if wrong:
        raise ModelFileError(
            f"the model cannot be expressed in ONNX: its results differ by {float(difference):.2g}"
        )


def _with_true_shapes(graph: bytes, shape: torch.Size, dynamic: Mapping[int, str]) -> bytes:
    """Return a model file whose result is as long as its images where the exporter guessed."""
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
    """Return the option that asks for the exporter that traces, where there is a choice."""
    known = inspect.signature(torch.onnx.export).parameters
    return {"dynamo": False} if "dynamo" in known else {}


@contextmanager
def _expected_warnings() -> Iterator[None]:
    """Keep quiet about what the exporter by tracing warns of, and rhm knows."""
    with warnings.catch_warnings():
        for message, category in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message, category)
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work on one thread: on images as small as a trace's, more only wait for another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Expressible(TorchFunctionMode):
    """Says what the exporter does not know in words that it knows: uneven average pools."""

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
        return func(*args, **named)


def _pooled(images: Tensor, output_size: int | tuple[int | None, ...]) -> Tensor:
    """Return ``adaptive_avg_pool2d`` of images of any size, as differences of running sums."""
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
