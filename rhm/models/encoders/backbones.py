"""Encoders: the backbones of timm, at any image size whose sides are multiples of 32.

Most encoders of timm return features at 1/2 or 1/4 to 1/32 of the size of the image, and
``segmentation_models_pytorch`` wraps them. Three kinds need more:

    windows       Swin and its kin accept one image size unless told otherwise (``options_of``).
    partitions    MaxViT divides maps into whole windows: images are padded (``PaddedEncoder``).
    plain         A ViT has one scale; dense prediction takes the maps of four of its blocks
                  (``PlainEncoder``).

The position embeddings of a ViT are resampled to the size of the image. Patches of 14 pixels do not
divide multiples of 32, so they become patches of 16 pixels; timm resamples the weights (Beyer et
al., FlexiViT, CVPR 2023).
"""

import difflib
import inspect
import math
import re
from functools import lru_cache
from typing import Any

import timm
import torch
from segmentation_models_pytorch.encoders import TimmUniversalEncoder
from timm.models import PretrainedCfg, model_entrypoint
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 32
"""Sides of images are multiples of this number of pixels."""

_BLOCKS = 4
_PREFIX = "return_prefix_tokens"
_ANY_SIZE: dict[str, dict[str, Any]] = {
    "deit": {"dynamic_img_size": True},
    "eva": {"dynamic_img_size": True},
    "swin_transformer": {"strict_img_size": False},
    "swin_transformer_v2": {"strict_img_size": False},
    "swin_transformer_v2_cr": {"strict_img_size": False},
    "vision_transformer": {"dynamic_img_size": True},
    "vision_transformer_hybrid": {"dynamic_img_size": True},
    "vitamin": {"dynamic_img_size": True},
}
"""Options by which the networks in modules of timm accept images of any size."""


def is_encoder(name: str) -> bool:
    """Return whether timm itself has a backbone of this name.

    timm also takes the addresses of models on the network (``hf-hub:...``) and in folders
    (``local-dir:...``) for names. These would be fetched, and are no encoders here.
    """
    return re.fullmatch(r"\w[\w.-]*", name) is not None and bool(timm.is_model(name))


def similar_encoders(name: str) -> list[str]:
    """Return up to four names of backbones that resemble one that timm does not have."""
    wanted = name.rpartition("/")[2].rpartition(":")[2].partition(".")[0].lower()
    known: list[str] = timm.list_models()
    within = [each for each in known if wanted and wanted.replace("-", "_") in each]
    near = difflib.get_close_matches(wanted, known, n=4, cutoff=0.5)
    family = timm.list_models(f"*{re.split('[^a-z0-9]', wanted)[0]}*")
    return list(dict.fromkeys([*within[:4], *near, *family]))[:4]


@lru_cache(maxsize=64)
def is_plain(name: str) -> bool:
    """Return whether all features of an encoder have one scale, as those of a ViT have."""
    return len(set(strides(name))) == 1


@lru_cache(maxsize=64)
def strides(name: str) -> tuple[int, ...]:
    """Return the number of pixels per cell for each stage or block of an encoder."""
    with torch.device("meta"):
        info: Any = timm.create_model(name).feature_info
    return tuple(int(each["reduction"]) for each in info)


def settings_of(name: str) -> PretrainedCfg:
    """Return what timm knows of an encoder, such as the images that it was pretrained with."""
    try:
        found = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        found = None
    # timm has encoders without weights.
    return found or PretrainedCfg(mean=(), std=())


def options_of(name: str) -> dict[str, Any]:
    """Return the options with which timm builds an encoder for images of any size."""
    module = model_entrypoint(name.partition(".")[0]).__module__.rpartition(".")[2]
    options = dict(_ANY_SIZE.get(module, {}))
    if "patch14" in name:
        # As many patches as before, so that timm keeps the embeddings of their positions.
        side = settings_of(name).input_size[-1]
        options |= {"patch_size": 16, "img_size": side // 14 * 16}
    return options


def timm_model(encoder: nn.Module, name: str, **options: Any) -> nn.Module:
    """Build the network of timm inside an encoder once more, with other options.

    Args:
        encoder: encoder of a segmentation network.
        name: its name in timm.
        options: options of ``timm.create_model``.
    """
    kind: dict[str, Any] = {"num_classes": 0}
    if not isinstance(encoder, PlainEncoder):
        info: Any = encoder.get_submodule("model").feature_info
        kind = {"features_only": True, "out_indices": tuple(info.out_indices)}
    built: nn.Module = timm.create_model(name, **kind, **options_of(name), **options)
    return built


def padded(encoder: nn.Module) -> nn.Module:
    """Return an encoder of segmentation_models_pytorch that accepts images of any size."""
    sides = {
        side
        for module in encoder.modules()
        for side in getattr(module, "partition_size", ())
        if isinstance(side, int)
    }
    return PaddedEncoder(encoder, STRIDE * math.lcm(*sides)) if sides else encoder


class PaddedEncoder(nn.Module):
    """An encoder of whole windows, whose images are padded at the bottom and on the right.

    Args:
        encoder: encoder with features in the layout (N, C, H, W), at 1/2 to 1/32 of the size of the
            image.
        multiple: sides of padded images in pixels are multiples of this.

    Attributes:
        model: the network of timm.
        out_channels: channels of the image and of each stage.
        output_stride: pixels per cell of the last stage.
    """

    def __init__(self, encoder: TimmUniversalEncoder, multiple: int) -> None:
        super().__init__()
        self.model = encoder.model
        self.out_channels = list(encoder.out_channels)
        self.output_stride = int(encoder.output_stride)
        self.multiple = multiple

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the images (N, bands, H, W) and the features of each stage."""
        height, width = images.shape[2:]
        below, right = -height % self.multiple, -width % self.multiple
        whole = functional.pad(images, (0, right, 0, below), mode="replicate")
        found = [images]
        for features in self.model(whole):
            stride = whole.shape[2] // features.shape[2]
            found.append(features[:, :, : height // stride, : width // stride])
        return found


class PlainEncoder(nn.Module):
    """The maps of four blocks of a ViT, evenly spread over its depth, and its prefix tokens.

    Args:
        name: name in timm.
        bands: number of bands of the images.

    Attributes:
        model: the network of timm, without its head and without what follows the last block.
        out_channels: channels of the image and of each map.
        output_stride: sides of images are multiples of this number of pixels.
        patch: side of a cell in pixels.
        prefixed: whether the network has prefix tokens, such as that of the class.

    Raises:
        ValueError: the encoder does not return the maps of at least four blocks, or its patches do
            not divide multiples of 32 pixels.
    """

    def __init__(self, name: str, bands: int) -> None:
        super().__init__()
        model: Any = timm.create_model(
            name, pretrained=False, in_chans=bands, num_classes=0, **options_of(name)
        )
        info = model.feature_info
        if len(info) < _BLOCKS or not hasattr(model, "prune_intermediate_layers"):
            raise ValueError(f"it does not return the features of {_BLOCKS} blocks")
        self.indices = [len(info) * (part + 1) // _BLOCKS - 1 for part in range(_BLOCKS)]
        self.patch = int(info[-1]["reduction"])
        if STRIDE % self.patch:
            raise ValueError(f"patches of {self.patch} px do not divide images of {STRIDE} px")
        self.out_channels = [bands, *(int(info[index]["num_chs"]) for index in self.indices)]
        self.output_stride = STRIDE
        parameters = inspect.signature(model.forward_intermediates).parameters
        self.prefixed = _PREFIX in parameters and bool(model.num_prefix_tokens)
        model.prune_intermediate_layers(self.indices, prune_norm=True, prune_head=True)
        self.model = model

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of images (N, bands, H, W), and after them the prefix tokens.

        Returns:
            The images, four maps (N, C, H / patch, W / patch), and, if the network has prefix
            tokens, those of the same blocks (N, tokens, C).
        """
        options = {_PREFIX: True} if self.prefixed else {}
        found: list[Any] = self.model.forward_intermediates(
            images, indices=self.indices, intermediates_only=True, **options
        )
        if not self.prefixed:
            return [images, *found]
        return [images, *(maps for maps, _ in found), *(tokens for _, tokens in found)]
