"""Runtimes: ONNX Runtime and OpenVINO give what PyTorch gives, or say that they cannot."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from torch import Tensor, nn

from rhm.errors import ConfigError, ModelFileError
from rhm.inference import network_for, predict_raster
from rhm.inference.runtime.backends import TorchBackend
from rhm.inference.runtime.onnx_graph import _pooled
from rhm.inference.runtime.runtimes import AUTO, RUNTIMES
from rhm.models.architectures import ARCHITECTURES
from rhm.models.build import SegmentationModel
from tests.inference.networks import (
    GRAPH_RUNTIMES,
    WITH_BFLOAT16,
    built,
    needs_onnx,
    skip_unless_usable,
)

KINDS = [
    *((architecture, "test_resnet", "linear") for architecture in ARCHITECTURES),
    ("unet", "resnet18", "linear"),
    ("unet", "tf_efficientnet_lite0", "cosine"),
    ("fpn", "mobilenetv3_small_100", "cosine"),
    ("unet", "convnext_atto", "linear"),
    # Its embeddings of positions are resampled to the size of the image.
    ("dpt", "test_vit", "linear"),
]


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# Every architecture is exported elsewhere, too, and compared with PyTorch.
EVERYDAY = [("unet", "test_resnet", "linear"), ("unet", "tf_efficientnet_lite0", "cosine")]


@pytest.mark.parametrize("runtime", GRAPH_RUNTIMES)
@pytest.mark.parametrize(("architecture", "encoder", "head"), KINDS)
def test_graphs_equal_torch(
    architecture: str, encoder: str, head: str, runtime: str, request: pytest.FixtureRequest
) -> None:
    if (architecture, encoder, head) not in EVERYDAY:
        request.getfixturevalue("thorough")
    model = built(architecture, encoder, head=head)
    runtimes = RUNTIMES[runtime].open(model, "cpu"), TorchBackend(model, "cpu")
    for shape in ((1, 3, 64, 64), (3, 3, 96, 128), (2, 3, 160, 224)):
        found, expected = (each(images(*shape)) for each in runtimes)
        assert found.dtype == expected.dtype == torch.float32
        assert found.shape == expected.shape == (shape[0], 1, *shape[2:])
        assert expected.std() > 0.0
        torch.testing.assert_close(found.sigmoid(), expected.sigmoid(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("runtime", ["torch", *GRAPH_RUNTIMES])
def test_any_layout_and_number_of_bands_is_taken(runtime: str) -> None:
    model = built(bands=5)
    network = RUNTIMES[runtime].open(model, "cpu")
    plain = images(2, 5, 64, 96)
    expected = network(plain)
    for layout in (
        plain.to(memory_format=torch.channels_last),
        plain.permute(2, 0, 3, 1).contiguous().permute(1, 3, 0, 2),
    ):
        torch.testing.assert_close(network(layout), expected)
    assert network.spec is model.spec


class Odd(nn.Module):
    """A network that a trace does not capture, or that ONNX has no operator for."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


def odd(function: Callable[[Tensor], Tensor]) -> SegmentationModel:
    model = built()
    model.network = nn.Sequential(model.network, Odd(function))
    return model


INEXPRESSIBLE: dict[str, Callable[[Tensor], Tensor]] = {
    "no operator": lambda logits: torch.linalg.pinv(logits),
    "a length that becomes a constant": lambda logits: logits * int(logits.shape[2]),
    "no such size": lambda logits: logits.reshape(-1, 1, 64, 64),
}


@pytest.mark.parametrize("runtime", WITH_BFLOAT16)
@pytest.mark.parametrize("kind", INEXPRESSIBLE)
def test_what_onnx_cannot_express_is_one_line_or_torch(
    kind: str, runtime: str, capfd: pytest.CaptureFixture[str]
) -> None:
    skip_unless_usable(runtime)
    model = odd(INEXPRESSIBLE[kind])
    with pytest.raises(ModelFileError, match=r"cannot be expressed|cannot run") as caught:
        network_for(model, device="cpu", runtime=runtime)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250
    assert network_for(model, device="cpu").runtime == "torch"
    assert capfd.readouterr() == ("", "")


@needs_onnx
def test_auto_opens_another_runtime_where_there_is_much_to_predict() -> None:
    model = built()
    much = RUNTIMES["onnx"].worthwhile_px * torch.get_num_threads()
    assert network_for(model, device="cpu", pixels=much - 1).runtime == "torch"
    chosen = {network_for(model, device="cpu", pixels=pixels).runtime for pixels in (None, much)}
    assert len(chosen) == 1  # of whichever trial, it is the same again
    assert chosen <= set(AUTO)
    assert network_for(model, device="cpu", runtime="torch").runtime == "torch"


@pytest.mark.parametrize(
    ("missing", "runtime"), [("onnx", "onnx"), ("onnxruntime", "onnx"), ("openvino", "openvino")]
)
def test_a_missing_extra_is_one_line_and_auto_does_without(
    missing: str, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    model = built()
    with pytest.raises(ConfigError, match=rf"pip install 'rhm\[{runtime}\]'") as caught:
        network_for(model, device="cpu", runtime=runtime)
    assert "\n" not in str(caught.value)
    assert network_for(model, device="cpu").runtime in set(AUTO) - {runtime}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"runtime": "tensorrt"}, "choose auto, torch, onnx"),
        ({"device": "gpu"}, "choose auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:99"}, "this machine has no device 'cuda:99'"),
    ],
)
def test_unknown_runtimes_and_devices_are_refused(options: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        network_for(built(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("runtime", WITH_BFLOAT16)
def test_a_backend_makes_its_session_again_in_another_process(runtime: str) -> None:
    skip_unless_usable(runtime)
    network = RUNTIMES[runtime].open(built(), "cpu")
    again = pickle.loads(pickle.dumps(network))  # noqa: S301 - our own
    assert torch.equal(again(images(1, 3, 64, 64)), network(images(1, 3, 64, 64)))


def test_what_float16_cannot_hold_is_calculated_in_float32() -> None:
    """Oracle: the same model without mixed precision."""
    model = built()
    model.network = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), Odd(lambda x: x - x.mean()))
    mixed, plain = TorchBackend(model, "cpu", mixed=True), TorchBackend(model, "cpu")
    assert (mixed.runtime, plain.runtime) == ("torch-float16", "torch")
    seen = images(1, 3, 64, 64)
    assert mixed(seen).dtype == torch.float32
    torch.testing.assert_close(mixed(seen), plain(seen), rtol=0, atol=1e-2)
    assert not torch.equal(mixed(seen), plain(seen))
    assert torch.equal(mixed(1e6 * seen), plain(1e6 * seen))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_mixed_precision_on_cuda_is_close_to_the_cpu() -> None:
    expected = TorchBackend(built(), "cpu")(images(2, 3, 128, 128)).sigmoid()
    network = network_for(built())
    assert network.runtime == "torch-float16"
    found = network(images(2, 3, 128, 128))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.sigmoid().cpu(), expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (6, 6), (2, 5), (None, 3), 4])
@pytest.mark.parametrize("shape", [(8, 8), (64, 64), (13, 9), (6, 20)])
def test_pools_in_other_words_are_pytorchs(size: Any, shape: tuple[int, int]) -> None:
    cells = images(2, 3, *shape)
    torch.testing.assert_close(_pooled(cells, size), nn.AdaptiveAvgPool2d(size)(cells))


@pytest.mark.parametrize("other", GRAPH_RUNTIMES)
@pytest.mark.parametrize("views", [False, True])
def test_a_scene_is_the_same_by_either_runtime_and_is_not_resumed_by_the_other(
    tmp_path: Path, views: bool, other: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 150, 170)).astype(np.uint8)
    scene = tmp_path / "x.tif"
    with rasterio.open(
        scene,
        "w",
        driver="GTiff",
        height=150,
        width=170,
        count=3,
        dtype="uint8",
        crs="EPSG:32633",
        transform=rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5e6),
    ) as raster:
        raster.write(pixels)
    model, found = built(gsd_m=0.5), {}
    for runtime in ("torch", other):
        network = network_for(model, device="cpu", runtime=runtime)
        options: dict[str, Any] = {"tile": 96, "overlap": 32, "views": views, "resume": True}
        for notes in ((), ("the results already existed",)):
            result = predict_raster(network, scene, tmp_path / "out", **options)
            assert result.notes == notes
        with rasterio.open(result.probability) as raster:
            found[runtime] = raster.read(1)
    assert found["torch"].std() > 0.0
    np.testing.assert_allclose(found[other], found["torch"], rtol=0, atol=1e-4)


def test_a_backend_evaluates_whatever_it_is_told() -> None:
    backend = TorchBackend(built(), "cpu")
    expected = backend(images(2, 3, 64, 64))
    backend.train()
    assert not any(module.training for module in backend.modules())
    assert torch.equal(backend(images(2, 3, 64, 64)), expected)
