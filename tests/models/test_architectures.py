"""Every network has the modules by which weights, heads, adapters and analysis find their way."""

import pytest
import torch
from torch import nn

from rhm.analysis.taps import stages
from rhm.models.architectures import ARCHITECTURES
from rhm.models.build import SegmentationModel, load_encoder_weights
from rhm.models.heads import classifier
from rhm.models.spec import ModelSpec


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_others_look_for_in_a_network_is_there(architecture: str) -> None:
    spec = ModelSpec(architecture, "tf_efficientnet_lite0", 4, classes=("building", "road"))
    model = SegmentationModel(spec).eval()
    load_encoder_weights(model, "bundled")
    first = classifier(model.network)
    assert isinstance(first, nn.Conv2d)
    assert first.out_channels == 2
    names = stages(model.network, bands=4)
    assert names[0] == "encoder[0]"
    assert names[-1] == "decoder"
    with torch.inference_mode():
        logits = model(torch.zeros(2, 4, 64, 96))
    assert logits.shape == (2, 2, 64, 96)
