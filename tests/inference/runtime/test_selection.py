"""One function decides which runtime executes a network. Oracle: the registry's own words."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rhm.errors import ConfigError, ModelFileError
from rhm.inference import network_for
from rhm.inference.runtime import runtimes, selection
from rhm.inference.runtime.backends import Backend, GraphBackend, TorchBackend
from rhm.inference.runtime.runtimes import RUNTIMES, Runtime
from rhm.models.build import SegmentationModel
from tests.inference.networks import built, needs_onnx


def abacus(graph: bytes) -> Callable[[Tensor], Tensor]:
    """An engine that reads ONNX: ONNX's own reference implementation, which is slow."""
    from onnx.reference import ReferenceEvaluator

    evaluator: Any = ReferenceEvaluator(graph)
    return lambda images: torch.from_numpy(evaluator.run(None, {"images": images.numpy()})[0])


def open_abacus(model: SegmentationModel, place: str) -> Backend:
    return GraphBackend(model, "abacus", abacus)


ABACUS = Runtime("Abacus", open_abacus, ("cpu",), packages=("onnx",), extra="onnx")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Runtime]:
    """The registry, with one runtime more that ``auto`` prefers."""
    monkeypatch.setitem(RUNTIMES, "abacus", ABACUS)
    monkeypatch.setattr(selection, "AUTO", ("abacus", runtimes.AUTO[-1]))
    return RUNTIMES


@needs_onnx
def test_a_runtime_that_is_added_can_be_chosen(counted: dict[str, Runtime]) -> None:
    model = built("linknet", "test_efficientnet")
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    network = network_for(model, device="cpu", runtime="abacus")
    assert network.runtime == "abacus"
    expected = TorchBackend(model, "cpu")(images)
    torch.testing.assert_close(network(images), expected, rtol=0, atol=1e-3)


def refuse(error: Exception) -> Callable[[SegmentationModel, str], Backend]:
    def refused(model: SegmentationModel, place: str) -> Backend:
        raise error

    return refused


@pytest.mark.parametrize(
    "changes",
    [
        {"open": refuse(ModelFileError("too large for the beads"))},
        {"packages": ("no_such_abacus",)},
        {"devices": ("cuda",)},
        {"worthwhile_px": 10**9},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_auto_goes_on_where_a_runtime_will_not_do(
    counted: dict[str, Runtime], changes: dict[str, Any]
) -> None:
    counted["abacus"] = replace(ABACUS, **changes)
    assert network_for(built(), device="cpu", pixels=1000).runtime == "torch"


def test_what_was_asked_for_is_not_replaced(counted: dict[str, Runtime]) -> None:
    error = ModelFileError("too large for the beads")
    counted["abacus"] = replace(ABACUS, open=refuse(error))
    with pytest.raises(ModelFileError, match="too large for the beads"):
        network_for(built(), device="cpu", runtime="abacus")
    counted["abacus"] = replace(ABACUS, packages=("no_such_abacus",))
    with pytest.raises(ConfigError, match=r"pip install 'rhm\[onnx\]'"):
        network_for(built(), device="cpu", runtime="abacus")


def test_mixed_precision_is_for_cuda() -> None:
    with pytest.raises(
        ConfigError, match="torch-float16 runs on cuda, not on cpu: use --runtime torch"
    ):
        network_for(built(), device="cpu", runtime="torch-float16")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_without_cuda_mixed_precision_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="torch-float16"):
        network_for(built(), runtime="torch-float16")


def test_a_recorded_runtime_is_usable_where_it_can_be_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Oracle: ``network_for`` refuses the others, such as that of a GPU on a machine without."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(RUNTIMES, "abacus", replace(ABACUS, packages=("no_such_abacus",)))
    for runtime in ("torch-float16", "abacus", "slide rule", ""):
        assert not selection.is_usable(runtime, "auto")
        with pytest.raises(ConfigError):
            network_for(built(), runtime=runtime)
    assert selection.is_usable("torch", "auto")
    assert selection.is_usable("torch", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert selection.is_usable("torch-float16", "auto")
    monkeypatch.setitem(RUNTIMES, "abacus", replace(ABACUS, packages=()))
    assert selection.is_usable("abacus", "auto")
    assert not selection.is_usable("abacus", "cuda")
