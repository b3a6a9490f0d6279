"""A network that is built rather than trained."""

import pytest
import torch

from rhm.models.build import SegmentationModel
from tests.models.networks import SPEC


@pytest.fixture(scope="session")
def model() -> SegmentationModel:
    """The network of ``SPEC`` with random weights; tests read it only."""
    torch.manual_seed(0)
    return SegmentationModel(SPEC).eval()
