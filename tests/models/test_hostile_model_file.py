"""Model files of unknown origin; law: a small file takes little memory, and nothing is fetched."""

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rhm.errors import ModelFileError
from rhm.models import model_file as files
from rhm.models.build import ModelConfig, SegmentationModel
from rhm.models.encoders.backbones import is_encoder
from rhm.models.model_file import load_model, save_model
from rhm.models.spec import ModelSpec, load_spec
from tests.models.networks import SPEC

LIES: list[tuple[dict[str, Any], str]] = [
    ({"bands": 3_600_000, "scalings": {}, "source_histograms": {}}, "bands must be an integer"),
    ({"bands": True}, "bands must be an integer"),
    ({"bands": 3.0}, "bands must be an integer"),
    ({"classes": ["a"] * 100_000}, "classes must be between 1 and 256"),
    ({"classes": []}, "classes must be between 1 and 256"),
    ({"encoder": "r" * 10_000}, "more than 1000 characters"),
    ({"encoder": 5}, "5 must be a text"),
    ({"mean": [1e300]}, "mean must be one number"),
    ({"std": [1e-300]}, "std must be above 0"),
    ({"gsd_m": 1e-9}, "gsd_m must be a positive number of plausible size"),
    ({"gsd_m": 1e300}, "gsd_m must be a positive number of plausible size"),
    ({"seed": 10**25}, "26 digits"),
    ({"training_images": -1}, "training_images must be an integer"),
    ({"threshold": None}, "threshold must be in"),
    ({"format": "4"}, "later version"),
    ({"source_histograms": {"here": [[-1.0] * 256] * 3}}, "shares of pixels"),
]


def described(path: Path, change: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Path:
    text = json.dumps(json.loads(SPEC.to_json()) | change)
    save_file(tensors, path, metadata={"rhm": text})
    return path


@pytest.mark.parametrize(("change", "told"), LIES)
def test_every_number_of_a_description_has_bounds(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    path = described(tmp_path / "a.safetensors", change, {"a": torch.zeros(1)})
    for read in (load_spec, load_model):
        with pytest.raises(ModelFileError, match=told) as refused:
            read(path)
        assert len(str(refused.value)) < 700


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Attempts to use the network, each of which fails."""
    attempts: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> Any:
        attempts.append(arguments)
        raise OSError("no network")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return attempts


@pytest.mark.parametrize(
    "encoder",
    [
        "hf-hub:timm/resnet18.a1_in1k",
        "hf_hub:timm/resnet18.a1_in1k",
        "local-dir:/tmp",
        "https://example.org/resnet18",
        "resnet18.hf-hub:timm/x",
        "../resnet18",
        "resnet18/..",
        "",
    ],
)
def test_only_the_encoders_that_timm_lists_are_built(
    tmp_path: Path, encoder: str, offline: list[Any]
) -> None:
    assert not is_encoder(encoder)
    path = described(tmp_path / "a.safetensors", {"encoder": encoder}, {"a": torch.zeros(1)})
    with pytest.raises(ModelFileError, match="timm has none of this name"):
        load_model(path)
    with pytest.raises(ValueError, match="timm knows no encoder"):
        ModelConfig(encoder=encoder)
    assert offline == []


def test_known_encoders_are_encoders() -> None:
    names = ("resnet18", "resnet18.a1_in1k", "tf_efficientnet_lite0", "convnext_base")
    assert all(map(is_encoder, names))


def test_a_network_takes_no_memory_before_the_file_is_known_to_fill_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: set[str] = set()

    class Watched(SegmentationModel):
        def __init__(self, spec: ModelSpec) -> None:
            super().__init__(spec)
            devices.update(parameter.device.type for parameter in self.parameters())

    monkeypatch.setattr(files, "SegmentationModel", Watched)
    lie = {"encoder": "convnext_xxlarge", "bands": 1024, "scalings": {}, "source_histograms": {}}
    path = described(tmp_path / "a.safetensors", lie, {"a": torch.zeros(1)})
    assert path.stat().st_size < 10_000
    with pytest.raises(ModelFileError, match=r"do not fit its description: .* are missing"):
        load_model(path)
    assert devices == {"meta"}


@pytest.mark.parametrize("change", ["shape", "type", "surplus"])
def test_tensors_that_differ_from_the_description_are_named(
    model: SegmentationModel, tmp_path: Path, change: str
) -> None:
    tensors = dict(model.state_dict())
    name = "network.segmentation_head.0.bias"
    if change == "shape":
        tensors[name] = torch.zeros(7)
    elif change == "type":
        tensors[name] = torch.zeros(1, dtype=torch.int64)
    else:
        name = "extra"
        tensors[name] = torch.zeros(1)
    path = described(tmp_path / "a.safetensors", {}, tensors)
    with pytest.raises(ModelFileError, match=f"do not fit its description: .*{name}"):
        load_model(path)


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [
        ("unet", "tf_efficientnet_lite0"),
        ("fpn", "mobilenetv3_small_050"),
        # Their buffers are in no file: they are computed by building.
        ("fpn", "swinv2_cr_tiny_224"),
        ("unet", "maxvit_rmlp_pico_rw_256"),
        ("dpt", "vit_tiny_patch16_dinov3_qkvb"),
        ("dpt", "test_vit"),
    ],
)
def test_loaded_networks_have_every_value_of_saved_ones(
    tmp_path: Path, architecture: str, encoder: str
) -> None:
    torch.manual_seed(3)
    built = SegmentationModel(replace(SPEC, architecture=architecture, encoder=encoder)).eval()
    save_model(built, tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors")
    assert {each.device.type for each in (*loaded.parameters(), *loaded.buffers())} == {"cpu"}
    for ours, theirs in zip(loaded.named_buffers(), built.named_buffers(), strict=True):
        assert ours[0] == theirs[0]
        torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=0, equal_nan=True)
    stored = load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(stored[name], each) for name, each in loaded.state_dict().items())
    assert all(parameter.requires_grad for parameter in loaded.parameters())
