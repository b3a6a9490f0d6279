"""The dense prediction transformer; oracle: that of segmentation_models_pytorch."""

import pytest
import segmentation_models_pytorch as smp
import torch

from rhm.models.build import SegmentationModel
from rhm.models.prediction_transformer import PredictionTransformer
from rhm.models.spec import ModelSpec

PARTS = {
    "decoder.readouts": "decoder.projection_blocks",
    "decoder.reassembly": "decoder.reassemble_blocks",
    "decoder.blocks": "decoder.fusion_blocks",
    "encoder.model": "encoder.model",
}


def test_a_plain_encoder_gives_the_logits_of_smp() -> None:
    ours = SegmentationModel(ModelSpec("dpt", "test_vit", 4, classes=("a", "b"))).network.eval()
    assert isinstance(ours, PredictionTransformer)
    theirs = smp.DPT(
        "tu-test_vit", encoder_weights=None, in_channels=4, classes=2, dynamic_img_size=True
    ).eval()
    for mine, name in PARTS.items():
        kept = ours.get_submodule(mine).state_dict()
        theirs.get_submodule(name).load_state_dict(kept, strict=mine != "encoder.model")
    head = [*ours.decoder.refine, ours.segmentation_head[0]]
    for layer, other in zip(head, theirs.segmentation_head.head, strict=True):
        other.load_state_dict(layer.state_dict())
    images = torch.randn(2, 4, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize("encoder", ["resnet18", "test_convnext", "test_mambaout", "vgg11"])
def test_encoders_with_scales_are_read_at_a_quarter_and_below(encoder: str) -> None:
    with torch.device("meta"):
        model = SegmentationModel(ModelSpec("dpt", encoder, 3))
        features = model.encoder(torch.zeros(1, 3, 64, 96))
        logits = model(torch.zeros(1, 3, 64, 96))
    assert [tuple(each.shape[2:]) for each in features[-4:]] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert logits.shape == (1, 1, 64, 96)
