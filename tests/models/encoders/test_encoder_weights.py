"""Weights saved by timm in encoders; oracle: the features of timm's own, whole network."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from rhm.errors import ConfigError
from rhm.models.build import SegmentationModel, load_encoder_weights
from rhm.models.encoders.backbones import PlainEncoder, is_plain
from rhm.models.encoders.encoder_weights import check_weights, input_statistics
from rhm.models.model_file import save_model
from rhm.models.spec import ModelSpec
from tests.models.encoders.checkpoints import (
    features_of,
    largest_difference,
    maps_of,
    whole_network,
)

FAMILIES = (
    *("resnet18", "mobilenetv3_small_100", "test_convnext", "test_byobnet", "test_nfnet"),
    *("pvt_v2_b0", "test_mambaout", "test_vit", "xcit_nano_12_p16_224"),
)
"""Networks of each kind that timm wraps or whose tensors it renames."""

OTHERS = (
    *("resnext26ts", "resnest14d", "seresnext26t_32x4d", "densenet121", "vgg11", "efficientnet_b0"),
    *("tf_efficientnetv2_b0", "mobilenetv4_conv_small", "regnetx_002", "ghostnet_100"),
    *("hrnet_w18_small", "convnext_atto", "convnextv2_atto", "convnext_tiny", "mixnet_s", "dla34"),
    *("cspdarknet53", "rexnet_100", "nfnet_f0", "repvgg_a0", "edgenext_xx_small", "fastvit_t8"),
    *("inception_next_atto", "swinv2_tiny_window8_256", "maxvit_tiny_tf_224", "tiny_vit_5m_224"),
    *("vit_small_patch16_dinov3", "vit_base_patch16_224.mae", "poolformer_s12", "mambaout_femto"),
    *("starnet_s1", "hgnetv2_b0", "swin_tiny_patch4_window7_224", "vit_small_patch14_dinov2"),
)
"""Networks that are tried with `--hypothesis-profile=thorough`."""

SMALL = "test_convnext"


def built(encoder: str, bands: int = 3) -> SegmentationModel:
    architecture = "dpt" if is_plain(encoder) else "fpn"
    return SegmentationModel(ModelSpec(architecture, encoder, bands)).eval()


def check_features(name: str, path: Path) -> None:
    """Check that an encoder has the features of the whole network whose weights it loads."""
    whole = whole_network(name)
    save_file(whole.state_dict(), path / "whole.safetensors")
    model = built(name)
    loaded = load_encoder_weights(model, str(path / "whole.safetensors"))
    assert loaded is not None
    assert loaded.complete, str(loaded)
    assert "(100 %)" in str(loaded)
    settings = whole.pretrained_cfg
    side = settings["input_size"][-1] if settings["fixed_input_size"] else 96
    images = torch.randn(1, 3, side, side)
    ours = maps_of(model.encoder, images)
    assert largest_difference(ours, features_of(whole, model.encoder, images)) < 1e-5
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 64, 96)).shape == (1, 1, 64, 96)


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_those_of_the_whole_network(name: str, tmp_path: Path) -> None:
    check_features(name, tmp_path)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.usefixtures("thorough")
def test_features_of_the_other_families(name: str, tmp_path: Path) -> None:
    check_features(name, tmp_path)


def test_a_model_file_gives_its_encoder_to_another_architecture(tmp_path: Path) -> None:
    first = built(SMALL)
    save_model(first, tmp_path / "model.safetensors")
    second = SegmentationModel(ModelSpec("unet", SMALL, 3))
    loaded = load_encoder_weights(second, str(tmp_path / "model.safetensors"))
    assert loaded is not None
    assert not loaded.missing
    state = second.encoder.state_dict()
    assert all(torch.equal(each, state[name]) for name, each in first.encoder.state_dict().items())


def test_what_is_missing_and_left_over_is_said_in_one_line(tmp_path: Path) -> None:
    state = dict(whole_network(SMALL).state_dict())
    count = len(built(SMALL).encoder.get_submodule("model").state_dict())
    del state["stem.1.bias"]
    save_file(state | {"decoder.x": torch.zeros(1)}, tmp_path / "partial.safetensors")
    model = built(SMALL)
    kept = model.encoder.get_submodule("model").state_dict()["stem_1.bias"].clone()
    loaded = str(load_encoder_weights(model, str(tmp_path / "partial.safetensors")))
    assert f"loaded {count - 1} of {count} tensors (9" in loaded
    assert loaded.endswith("; 1 missing: stem_1.bias; 1 left over: decoder.x")
    assert torch.equal(model.encoder.get_submodule("model").state_dict()["stem_1.bias"], kept)


def test_counters_of_batches_may_be_missing(tmp_path: Path) -> None:
    # PyTorch counts batches since version 0.4.1, and weights are older.
    state = whole_network("test_resnet").state_dict()
    old = {name: each for name, each in state.items() if "num_batches" not in name}
    assert len(old) < len(state)
    save_file(old, tmp_path / "old.safetensors")
    loaded = load_encoder_weights(built("test_resnet"), str(tmp_path / "old.safetensors"))
    assert loaded is not None
    assert loaded.complete


def refuse(encoder: str, path: Path, told: str) -> None:
    model = built(encoder)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    with pytest.raises(ConfigError, match=told) as refused:
        load_encoder_weights(model, str(path))
    assert "\n" not in str(refused.value)
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    refuse("resnet18", tmp_path / "other.safetensors", "are not those of resnet18")
    state = dict(whole_network(SMALL).state_dict())
    first = {name: each for name, each in state.items() if not name.startswith("stages.3")}
    save_file(first, tmp_path / "part.safetensors")
    refuse(SMALL, tmp_path / "part.safetensors", r"are missing, such as stages_3\.")
    save_file(state | {"stem.1.bias": torch.zeros(7)}, tmp_path / "shape.safetensors")
    refuse(SMALL, tmp_path / "shape.safetensors", "do not fit test_convnext: .*size mismatch")
    torch.save(state | {"stem.1.bias": state["stem.1.bias"] * torch.nan}, tmp_path / "nan.pth")
    refuse(SMALL, tmp_path / "nan.pth", "stem_1.bias is not finite")


@pytest.mark.parametrize(
    ("name", "bands"),
    # The last one has two convolutions that see the image.
    [("test_convnext", 1), ("test_convnext", 5), ("test_vit", 2), ("fastvit_t8", 4)],
)
def test_the_number_of_bands_is_adapted_as_timm_does_it(
    name: str, bands: int, tmp_path: Path
) -> None:
    whole = whole_network(name)
    save_file(whole.state_dict(), tmp_path / "whole.safetensors")
    model = built(name, bands)
    load_encoder_weights(model, str(tmp_path / "whole.safetensors"))
    options: dict[str, Any] = {"num_classes": 0}
    if not isinstance(model.encoder, PlainEncoder):
        options = {"features_only": True}
    theirs = timm.create_model(
        name,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "whole.safetensors")},
        in_chans=bands,
        **options,
    ).state_dict()
    ours = model.encoder.get_submodule("model").state_dict()
    assert all(torch.equal(each, theirs[name]) for name, each in ours.items())


def test_weights_for_other_bands_than_three(tmp_path: Path) -> None:
    whole = whole_network(SMALL, in_chans=4)
    save_file(whole.state_dict(), tmp_path / "four.safetensors")
    model = built(SMALL, 4)
    load_encoder_weights(model, str(tmp_path / "four.safetensors"))
    images = torch.randn(1, 4, 64, 64)
    ours = maps_of(model.encoder, images)
    assert largest_difference(ours, features_of(whole, model.encoder, images)) < 1e-5
    refuse(SMALL, tmp_path / "four.safetensors", "for 4 bands cannot be adapted to 3 bands")


def test_position_embeddings_are_resampled(tmp_path: Path) -> None:
    whole = whole_network("test_vit", img_size=64)
    save_file(whole.state_dict(), tmp_path / "small.safetensors")
    model = built("test_vit")
    loaded = load_encoder_weights(model, str(tmp_path / "small.safetensors"))
    assert loaded is not None
    assert loaded.complete
    found = model.encoder.get_submodule("model").state_dict()["pos_embed"]
    expected = timm.layers.resample_abs_pos_embed(  # type: ignore[attr-defined]
        whole.pos_embed.detach(), new_size=(10, 10), num_prefix_tokens=1
    )
    torch.testing.assert_close(found, expected)


def test_input_statistics_are_timms() -> None:
    assert input_statistics("resnet18", 3)[0] == pytest.approx((0.485, 0.456, 0.406))
    assert input_statistics("tf_efficientnet_lite0", 3) == ((0.5,) * 3, (0.5,) * 3)
    assert input_statistics("resnet18", 5) == ((0.5,) * 5, (0.5,) * 5)


def test_input_statistics_come_with_the_weights() -> None:
    plain = "vit_base_patch16_224"
    assert input_statistics(plain, 3)[0] == (0.5, 0.5, 0.5)
    expected = pytest.approx((0.485, 0.456, 0.406))
    for encoder, weights in (
        (plain, "mae"),
        (plain, "vit_base_patch16_224.mae"),
        (plain, "timm/vit_base_patch16_224.mae"),
        (f"{plain}.mae", "none"),
        (f"{plain}.augreg_in21k", "mae"),
    ):
        assert input_statistics(encoder, 3, weights)[0] == expected


def test_weights_are_downloaded_only_if_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, asked = whole_network("resnet18"), []
    create = timm.create_model

    def pretend(name: str, pretrained: bool = False, **options: Any) -> Any:
        if not pretrained or "pretrained_cfg_overlay" in options:
            return create(name, pretrained=pretrained, **options)
        asked.append(name)
        return whole

    monkeypatch.setattr(timm, "create_model", pretend)
    model = built("resnet18")
    load_encoder_weights(model, "none")
    assert asked == []
    load_encoder_weights(model, "a1_in1k")
    assert asked == ["resnet18.a1_in1k"]
    loaded = model.encoder.get_submodule("model").state_dict()
    assert torch.equal(loaded["conv1.weight"], whole.conv1.weight)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ("bundled", "only tf_efficientnet_lite0 has bundled weights"),
        ("b7_in1k", r"'b7_in1k' is neither .* weights in timm of resnet18: timm has a1_in1k, "),
        ("no/such.pth", "'no/such.pth' is neither a file or folder nor weights in timm"),
        ("hf-hub:timm/resnet18.a1_in1k", "is neither a file or folder nor weights in timm"),
        ("resnet34.a1_in1k", "is neither a file or folder nor weights in timm of resnet18"),
    ],
)
def test_weights_that_are_nowhere_are_refused(weights: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_weights("resnet18", weights)


@pytest.mark.parametrize("weights", ["~nobody-of-this-name/x", "a" * 300, "a\0b"])
def test_words_that_are_no_path_are_no_weights(weights: str) -> None:
    with pytest.raises(ConfigError, match="neither a file or folder nor weights in timm"):
        check_weights("resnet18", weights)
