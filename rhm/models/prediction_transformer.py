"""The dense prediction transformer (DPT), on any encoder.

Ranftl, Bochkovskiy, Koltun, Vision Transformers for Dense Prediction, ICCV 2021. Its parts are
those of ``segmentation_models_pytorch``. There, the network takes only encoders whose blocks all
have one scale, such as a ViT; here, it also takes those whose stages have 1/4 to 1/32 of the size
of the image, as MiDaS 3.1 does (Birkl, Wofk, Müller, 2023).
"""

from collections.abc import Sequence

from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder, DPTSegmentationHead
from segmentation_models_pytorch.encoders import TimmUniversalEncoder
from torch import Tensor, nn

from rhm.models.encoders.backbones import PlainEncoder, is_plain, options_of, padded

_MAPS = 4
_CHANNELS = 256


class PredictionTransformer(nn.Module):
    """A DPT whose head is like those of other networks, a sequence that begins with the classifier.

    Args:
        encoder: name of the encoder in timm.
        bands: number of bands of the images.
        classes: number of classes.

    Raises:
        ValueError: the encoder has other scales.
    """

    def __init__(self, encoder: str, bands: int, classes: int) -> None:
        super().__init__()
        if is_plain(encoder):
            plain = PlainEncoder(encoder, bands)
            self.encoder: nn.Module = plain
            widths, prefixed = plain.out_channels, bool(plain.prefixed)
            strides = [plain.patch] * _MAPS
        else:
            wrapped = TimmUniversalEncoder(
                encoder, pretrained=False, in_channels=bands, **options_of(encoder)
            )
            self.encoder = padded(wrapped)
            widths, prefixed = wrapped.out_channels[-_MAPS:], False
            strides = [4, 8, 16, 32]
        *refine, classify = DPTSegmentationHead(_CHANNELS, classes).head
        self.decoder = ReassemblingDecoder(widths[-_MAPS:], strides, refine, prefixed=prefixed)
        self.segmentation_head = nn.Sequential(
            classify, nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        )
        initialize_decoder(self.decoder)
        initialize_head(self.segmentation_head)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of images (N, bands, H, W)."""
        logits: Tensor = self.segmentation_head(self.decoder(self.encoder(images)))
        return logits


class ReassemblingDecoder(nn.Module):
    """Brings four maps to 1/4 to 1/32 of the size of the image, and fuses them from the coarsest.

    Args:
        widths: channels of the maps.
        strides: side in pixels of the cells of each map.
        refine: layers after the last fusion.
        prefixed: whether prefix tokens follow the maps; the first one is read into each cell.

    Attributes:
        blocks: fusions, the coarsest first.
    """

    def __init__(
        self,
        widths: Sequence[int],
        strides: Sequence[int],
        refine: Sequence[nn.Module],
        *,
        prefixed: bool,
    ) -> None:
        super().__init__()
        parts = DPTDecoder(
            widths, strides, prefixed, "cat" if prefixed else "ignore", fusion_channels=_CHANNELS
        )
        self.readouts = parts.projection_blocks
        self.reassembly = parts.reassemble_blocks
        self.blocks = parts.fusion_blocks
        self.refine = nn.Sequential(*refine)
        self.prefixed = prefixed

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return a map (N, 256, H / 2, W / 2) of the features that an encoder returns."""
        maps = features[-2 * _MAPS : -_MAPS] if self.prefixed else features[-_MAPS:]
        tokens = features[-_MAPS:] if self.prefixed else [None] * _MAPS
        reassembled = [
            reassemble(read(each.contiguous(), token))
            for read, reassemble, each, token in zip(
                self.readouts, self.reassembly, maps, tokens, strict=True
            )
        ]
        fused: Tensor | None = None
        for block, each in zip(self.blocks, reversed(reassembled), strict=True):
            fused = block(each, fused)
        result: Tensor = self.refine(fused)
        return result
