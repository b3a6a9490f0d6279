"""Segmentation networks, by the names that configurations use. To add one, add an entry here.

A network takes images (N, bands, H, W) float32, whose H and W are multiples of 32, and returns
logits (N, classes, H, W). Pretrained weights, heads, adapters and the analysis of features rely on
three of its modules, which every ``segmentation_models_pytorch.base.SegmentationModel`` has:

    encoder             returns the features of each stage; its ``model`` is the network of timm
    decoder             combines them into one map
    segmentation_head   a sequence that begins with the convolution that classifies
"""

from collections.abc import Callable

import segmentation_models_pytorch as smp
from torch import nn

from rhm.models.encoders.backbones import options_of, padded
from rhm.models.prediction_transformer import PredictionTransformer
from rhm.models.spec import ModelSpec

Architecture = Callable[[ModelSpec], nn.Module]
"""Function that builds the network of a description, with random weights."""


def _of_smp(network: Callable[..., nn.Module]) -> Architecture:
    def build(spec: ModelSpec) -> nn.Module:
        built = network(
            encoder_name=f"tu-{spec.encoder}",
            encoder_weights=None,
            in_channels=spec.bands,
            classes=len(spec.classes),
            **options_of(spec.encoder),
        )
        built.encoder = padded(built.get_submodule("encoder"))
        return built

    return build


def _prediction_transformer(spec: ModelSpec) -> nn.Module:
    return PredictionTransformer(spec.encoder, spec.bands, len(spec.classes))


ARCHITECTURES: dict[str, Architecture] = {
    "unet": _of_smp(smp.Unet),
    "unetplusplus": _of_smp(smp.UnetPlusPlus),
    "fpn": _of_smp(smp.FPN),
    "linknet": _of_smp(smp.Linknet),
    "deeplabv3plus": _of_smp(smp.DeepLabV3Plus),
    "pspnet": _of_smp(smp.PSPNet),
    "segformer": _of_smp(smp.Segformer),
    "upernet": _of_smp(smp.UPerNet),
    "dpt": _prediction_transformer,
}
"""Segmentation networks, by the names that configurations use."""
