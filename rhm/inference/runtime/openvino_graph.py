"""Execution of ONNX graphs by OpenVINO, on the CPU.

Callers must check that the packages of the runtime ``openvino`` are installed.
"""

import threading
from collections import OrderedDict
from functools import cache
from typing import Any

import torch
from torch import Tensor

from rhm.errors import ModelFileError, one_line
from rhm.inference.runtime.runtimes import asking_nobody

_MOST_SHAPES = 4
"""Most shapes of batches that stay compiled: a full batch, the last one of a row, and those of a
scene that is smaller than a tile."""


class CompiledGraph:
    """A graph that OpenVINO compiles once for every shape of a batch that it is given.

    A graph that is compiled for one shape is faster than one for any shape, and its results depend
    on nothing but the images: not on the batches before.

    Args:
        graph: ONNX model file with one input and one output, both float32.
        bfloat16: whether to multiply bfloat16 numbers where that is faster, which only some
            processors can; see ``multiplies_bfloat16``.

    Raises:
        ModelFileError: OpenVINO cannot read the graph.
    """

    def __init__(self, graph: bytes, *, bfloat16: bool = False) -> None:
        self._core = _core()
        self._bfloat16 = bfloat16
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        # A request executes one batch at a time.
        self._lock = threading.Lock()
        try:
            self._model = self._core.read_model(graph)
        except RuntimeError as error:
            raise _cannot_run(error) from error

    def __call__(self, images: Tensor) -> Tensor:
        """Return the output (N, 1, H, W) for images (N, C, H, W), both float32.

        Raises:
            ModelFileError: OpenVINO cannot run the graph for this shape.
            MemoryError: the memory is too small for the images.
        """
        array = images.detach().cpu().contiguous().numpy()
        try:
            with self._lock:
                found = self._request(array.shape).infer({0: array}, share_inputs=True)[0]
        except RuntimeError as error:
            if "bad_alloc" in str(error):
                raise MemoryError from error
            raise _cannot_run(error) from error
        return torch.from_numpy(found)

    def _request(self, shape: tuple[int, ...]) -> Any:
        """Return the request for batches of a shape."""
        if shape not in self._requests:
            while len(self._requests) >= _MOST_SHAPES:
                self._requests.popitem(last=False)
            model = self._model.clone()
            model.reshape(list(shape))
            settings = _settings(bfloat16=self._bfloat16)
            compiled = self._core.compile_model(model, "CPU", settings)
            self._requests[shape] = compiled.create_infer_request()
        self._requests.move_to_end(shape)
        return self._requests[shape]


@cache
def _core() -> Any:
    """Return the core of this process, which is never destroyed.

    The first core gives its thread an alternate stack for the handlers of signals, and the last one
    that goes frees this stack, in whichever thread that happens. The next signal that Python
    handles, such as an interrupt or the end of a child, would then end the program.
    """
    with asking_nobody():
        import openvino

    return openvino.Core()


def multiplies_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 numbers, as OpenVINO sees it."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _settings(*, bfloat16: bool) -> dict[str, Any]:
    """Return the settings of OpenVINO, with as many threads as torch."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        # Where the processor can, it would otherwise compute in bfloat16 unasked.
        "EXECUTION_MODE_HINT": "PERFORMANCE" if bfloat16 else "ACCURACY",
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        # All processes of a prediction would be bound to the same cores.
        "ENABLE_CPU_PINNING": False,
    }


def _cannot_run(error: RuntimeError) -> ModelFileError:
    return ModelFileError(f"OpenVINO cannot run the model: {one_line(error, 160)}")
