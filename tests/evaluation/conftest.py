"""A model with known predictions."""

import pytest
import torch
from torch import nn

from rhm.data.radiometry import Scaling
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec


class Bright(nn.Module):
    """Calls bright pixels building."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 6.0 * images.mean(1, keepdim=True)


@pytest.fixture(scope="session")
def bright() -> SegmentationModel:
    """A model whose network is one line, so that what it should answer is known."""
    scalings = {"uint8": Scaling("uint8", (0.0,) * 3, (255.0,) * 3)}
    built = SegmentationModel(ModelSpec("unet", "test_efficientnet", 3, scalings=scalings))
    built.network = Bright()
    return built.eval()
