"""Encoders of many families, with weights that timm has saved.

    python benchmarks/encoders.py [ENCODER ...]

Each encoder is built by timm as a whole, with random weights that differ in every tensor, and saved
as timm saves its models. A segmentation network loads the file. The table shows the tensors that
found their places, and the largest difference between the features of the network's encoder and
those of timm's whole network, as a share of the largest value of their map, at the size of images
that the encoder was designed for. The last column shows the sizes of images, in pixels, of which
the segmentation network has returned logits.

Encoders that cannot be used are refused when a configuration is read, and the table shows why.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import timm
import torch
from machine import machine
from safetensors.torch import save_file
from torch import Tensor, nn

from rhm.models.build import ModelConfig, SegmentationModel, load_encoder_weights
from rhm.models.encoders.backbones import is_plain
from rhm.models.spec import ModelSpec

ENCODERS = (
    *("resnet18", "resnext26ts", "resnest14d", "seresnext26t_32x4d", "densenet121", "vgg11"),
    *("efficientnet_b0", "tf_efficientnetv2_b0", "mobilenetv3_small_100", "mobilenetv4_conv_small"),
    *("regnetx_002", "ghostnet_100", "hrnet_w18_small", "convnext_atto", "convnextv2_atto"),
    *("convnext_tiny", "pvt_v2_b0", "mixnet_s", "dla34", "cspdarknet53", "rexnet_100", "nfnet_f0"),
    *("repvgg_a0", "edgenext_xx_small", "efficientformerv2_s0", "fastvit_t8"),
    *("inception_next_atto", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"),
    *("maxvit_tiny_tf_224", "vit_small_patch16_dinov3", "vit_base_patch16_224.mae"),
    *("tiny_vit_5m_224", "poolformer_s12", "mambaout_femto", "starnet_s1", "hgnetv2_b0"),
    *("xcit_nano_12_p16_224", "levit_128s"),
)
SIZES = (96, 224)


def varied(network: nn.Module) -> None:
    """Change every tensor of a network, so that none could stand in another's place unnoticed."""
    randomness = torch.Generator().manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(torch.rand(tensor.shape, generator=randomness) * 0.2 + 0.9)
            tensor.add_(torch.rand(tensor.shape, generator=randomness) * 0.02 - 0.01)
        else:
            tensor.add_(int(torch.randint(1, 100, (), generator=randomness)))


def difference(encoder: nn.Module, whole: Any, images: Tensor) -> float:
    """Return the largest difference between the features of an encoder and a whole network."""
    inside: Any = encoder.get_submodule("model")
    indices = getattr(encoder, "indices", None) or list(inside.feature_info.out_indices)
    with torch.no_grad():
        found = [each for each in encoder(images) if each is not images]
        expected = whole.forward_intermediates(images, indices=indices, intermediates_only=True)
    maps = [each for each in found if each.ndim == 4 and each.shape[1]]
    pairs = zip(maps, expected, strict=True)
    return max(float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in pairs)


def row(name: str, folder: Path) -> tuple[str, ...]:
    """Return a row of the table."""
    architecture = "dpt" if is_plain(name) else "unet"
    try:
        ModelConfig(architecture, name, "none")
    except ValueError as error:
        return name, architecture, "refused", str(error), ""
    torch.manual_seed(0)
    whole: Any = timm.create_model(name).eval()
    varied(whole)
    save_file(whole.state_dict(), folder / "whole.safetensors")
    model = SegmentationModel(ModelSpec(architecture, name, 3)).eval()
    loaded = load_encoder_weights(model, str(folder / "whole.safetensors"))
    assert loaded is not None
    assert not loaded.surplus, str(loaded)
    count = f"{loaded.wanted - len(loaded.missing)} of {loaded.wanted}"
    side = whole.pretrained_cfg["input_size"][-1]
    apart = difference(model.encoder, whole, torch.randn(1, 3, side, side))
    predicted = []
    for size in SIZES:
        with torch.no_grad():
            logits = model(torch.randn(1, 3, size, size))
        assert logits.shape == (1, 1, size, size)
        assert logits.isfinite().all()
        predicted.append(str(size))
    return name, architecture, count, f"{apart:.0e} at {side} px", ", ".join(predicted)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(f"    {machine('torch', 'timm', 'segmentation-models-pytorch')}\n")
    print("| encoder | architecture | tensors loaded | difference of features | predicted, px |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or ENCODERS:
            print(f"| {' | '.join(row(name, Path(folder)))} |", flush=True)


if __name__ == "__main__":
    main()
