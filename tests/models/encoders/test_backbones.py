"""Encoders at any size; oracle: timm's own networks at the sizes that these accept."""

import pytest
import timm
import torch
from timm.layers.patch_embed import resample_patch_embed
from torch import Tensor
from torch.nn import functional

from rhm.models.build import SegmentationModel
from rhm.models.encoders.backbones import (
    PaddedEncoder,
    PlainEncoder,
    is_encoder,
    is_plain,
    options_of,
    settings_of,
    similar_encoders,
    strides,
)
from rhm.models.spec import ModelSpec
from tests.models.encoders.checkpoints import largest_difference, maps_of, whole_network

WINDOWED = "maxvit_rmlp_pico_rw_256"
DISTILLED = "deit_tiny_distilled_patch16_224"


def test_scales_are_known_before_anything_is_built() -> None:
    assert strides("resnet18") == (2, 4, 8, 16, 32)
    assert strides("levit_128s") == (16, 32, 64)
    assert [is_plain(name) for name in ("test_vit", "pvt_v2_b0", "xcit_nano_12_p8_224")] == [
        *(True, False, True)
    ]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet19", "resnet18"),
        ("dinov2", "vit_base_patch14_dinov2"),
        ("timm/vit_base_patch14_dinov3.lvd1689m", "vit_base_patch14_dinov2"),
        ("hf-hub:timm/convnext-tiny", "convnext_tiny"),
        ("EfficientNet-B0", "efficientnet_b0"),
        ("swin_t", "swin_tiny_patch4_window7_224"),
    ],
)
def test_names_that_do_not_exist_have_similar_ones(name: str, near: str) -> None:
    assert not is_encoder(name)
    assert near in similar_encoders(name)
    assert len(similar_encoders(name)) <= 4


def test_an_encoder_without_weights_in_timm_has_settings() -> None:
    assert settings_of("resnet18").mean == (0.485, 0.456, 0.406)
    assert settings_of("resnet18.no_such_weights").mean == ()


@pytest.mark.parametrize(("height", "width"), [(32, 256), (288, 96)])
def test_whole_windows_are_predicted_and_cut(height: int, width: int) -> None:
    encoder = SegmentationModel(ModelSpec("unet", WINDOWED, 3)).eval().encoder
    assert isinstance(encoder, PaddedEncoder)
    assert encoder.multiple == 256
    images = torch.randn(1, 3, height, width)
    whole = functional.pad(images, (0, -width % 256, 0, -height % 256), mode="replicate")
    with torch.no_grad():
        found, expected = encoder(images)[1:], encoder.model(whole)
    for ours, theirs, stride in zip(found, expected, (2, 4, 8, 16, 32), strict=True):
        assert ours.shape[2:] == (height // stride, width // stride)
        assert torch.equal(ours, theirs[:, :, : height // stride, : width // stride])


def test_windows_that_shift_accept_any_size() -> None:
    name = "swin_tiny_patch4_window7_224"
    encoder = SegmentationModel(ModelSpec("upernet", name, 3)).eval().encoder
    strict = timm.create_model(name, features_only=True).eval()
    strict.load_state_dict(encoder.get_submodule("model").state_dict())
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = [each.permute(0, 3, 1, 2) for each in strict(images)]
    assert all(map(torch.equal, maps_of(encoder, images), expected))
    shapes = [tuple(each.shape[2:]) for each in maps_of(encoder, torch.randn(1, 3, 64, 160))]
    assert shapes == [(16, 40), (8, 20), (4, 10), (2, 5)]


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("test_vit", 1), ("xcit_nano_12_p16_224", 0), ("deit_tiny_distilled_patch16_224", 2)],
)
def test_plain_encoders_return_maps_and_tokens_of_four_blocks(name: str, tokens: int) -> None:
    encoder = PlainEncoder(name, 3).eval()
    side = settings_of(name).input_size[-1]
    whole = whole_network(name)
    encoder.model.load_state_dict(whole.state_dict(), strict=False)
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        found = encoder(images)
        maps = whole.forward_intermediates(images, indices=encoder.indices, intermediates_only=True)
    assert found[0] is images
    assert encoder.indices[-1] == len(whole.feature_info) - 1
    assert largest_difference(found[1:5], maps) < 1e-5
    assert encoder.out_channels == [3, *(each.shape[1] for each in maps)]
    assert [tuple(each.shape[:2]) for each in found[5:]] == [(2, tokens)] * (4 if tokens else 0)
    with torch.no_grad():
        assert [each.shape[2:] for each in encoder(torch.randn(1, 3, 64, 96))[1:5]] == [(4, 6)] * 4


def test_no_parameter_of_a_plain_encoder_is_without_use() -> None:
    # Processes that train together wait for the gradient of every parameter.
    model = SegmentationModel(ModelSpec("dpt", "test_vit", 3)).train()
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert [name for name, each in model.named_parameters() if each.grad is None] == []


def patches(image: Tensor, side: int) -> Tensor:
    """The patches of an image (1, C, H, W), as (patches, C, side, side)."""
    rows = image.unfold(2, side, side).unfold(3, side, side)
    return rows.permute(0, 2, 3, 1, 4, 5).reshape(-1, image.shape[1], side, side)


def test_patches_of_14_pixels_become_patches_of_16() -> None:
    name = "vit_small_patch14_dinov2.lvd142m"
    assert options_of(name) == {"dynamic_img_size": True, "patch_size": 16, "img_size": 592}
    # What timm does with the weights: the embedding of a patch and that of the larger patch agree.
    weight = torch.randn(8, 3, 14, 14)
    resized = resample_patch_embed(weight, [16, 16])
    small = patches(torch.randn(1, 3, 56, 56), 14)
    large = functional.interpolate(small, (16, 16), mode="bicubic", antialias=True)
    expected, found = (each.flatten(1) for each in (small, large))
    torch.testing.assert_close(
        found @ resized.flatten(1).T, expected @ weight.flatten(1).T, rtol=1e-3, atol=1e-3
    )


def test_patches_that_do_not_divide_images_are_refused() -> None:
    with pytest.raises(ValueError, match="patches of 7 px do not divide images of 32 px"):
        PlainEncoder("convmixer_768_32", 3)
