"""Pasting of labelled buildings into unlabelled chips."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rhm.augmentation.geometry import some_of

PASTES = ("none", "instances", "class")
"""What is pasted: nothing, a random half of a chip's buildings, or all of them (ClassMix)."""


def chosen_pixels(mask: Tensor, paste: str, margin_px: int) -> Tensor:
    """Return the pixels of labelled chips that are pasted, (N, 1, H, W) bool.

    Random choices come from torch's generator.

    Args:
        mask: (N, 1, H, W) int64 truth, 1 on buildings.
        paste: one of ``PASTES``.
        margin_px: width of the surroundings that are pasted with a building, in pixels of
            chessboard distance. Without them, the edge of what is pasted gives buildings away.

    Raises:
        ValueError: ``paste`` is unknown.
    """
    buildings = mask == 1
    if paste == "none":
        return torch.zeros_like(buildings)
    if paste == "instances":
        rng = np.random.default_rng(int(torch.randint(1 << 31, ())))
        kept = [some_of(np.ascontiguousarray(chip[0]), rng=rng) for chip in buildings.cpu().numpy()]
        buildings = torch.from_numpy(np.stack(kept))[:, None].to(mask.device)
    elif paste != "class":
        raise ValueError(f"unknown paste '{paste}': choose {', '.join(PASTES)}")
    side = 2 * margin_px + 1
    return functional.max_pool2d(buildings.float(), side, stride=1, padding=margin_px) > 0
