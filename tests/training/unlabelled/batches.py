"""A small network, and batches of random chips for it."""

import torch

from rhm.data.chips import TargetSample, UnlabelledChip
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec


def small_model(seed: int = 0) -> SegmentationModel:
    """A network of timm's for tests, in training."""
    torch.manual_seed(seed)
    return SegmentationModel(ModelSpec("unet", "test_efficientnet", 3)).train()


def batch_of(seed: int = 0, chips: int = 4, size: int = 64) -> TargetSample:
    """Chips with a building each, and unlabelled ones that are brighter."""
    generator = torch.Generator().manual_seed(seed)

    def images() -> torch.Tensor:
        return torch.randn(chips, 3, size, size, generator=generator)

    mask = torch.zeros(chips, 1, size, size, dtype=torch.int64)
    mask[:, :, 8:24, 16:40] = 1
    valid = torch.ones(chips, 1, size, size, dtype=torch.bool)
    target = UnlabelledChip(image=images() + 1.0, valid=valid, strong=images())
    return TargetSample(image=images(), mask=mask, target=target)
