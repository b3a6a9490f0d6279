"""Models that are built rather than trained, with results that depend on every pixel."""

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from rhm.inference.runtime.runtimes import RUNTIMES
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec

needs_onnx = pytest.mark.skipif(
    find_spec("onnx") is None or find_spec("onnxruntime") is None,
    reason="the extra onnx is not installed",
)

needs_openvino = pytest.mark.skipif(
    find_spec("onnx") is None or find_spec("openvino") is None,
    reason="the extra openvino is not installed",
)


GRAPH_RUNTIMES = [
    pytest.param("onnx", marks=needs_onnx),
    pytest.param("openvino", marks=needs_openvino),
]
"""The runtimes that execute ONNX graphs, for tests of what all of them do."""

BFLOAT16 = "openvino-bfloat16"
WITH_BFLOAT16 = [*GRAPH_RUNTIMES, pytest.param(BFLOAT16, marks=needs_openvino)]
"""The same with the one that rounds more, which tests ``skip_unless_usable``."""


def skip_unless_usable(runtime: str) -> None:
    """Skip a test of a runtime that this processor cannot execute.

    Not a mark, because only the runtime itself can tell, and most tests need not import it.
    """
    if not RUNTIMES[runtime].usable:
        pytest.skip(f"{RUNTIMES[runtime].about} does not run on this processor")


def built(
    architecture: str = "unet", encoder: str = "test_resnet", **spec: Any
) -> SegmentationModel:
    """A model with random weights, the same each time, of timm's small network for tests."""
    torch.manual_seed(0)
    values: dict[str, Any] = {"bands": 3} | spec
    model = SegmentationModel(ModelSpec(architecture, encoder, **values)).eval()
    for module in model.modules():
        # Running statistics as training leaves them, so that folding them away can go wrong.
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)
    return model
