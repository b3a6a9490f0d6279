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


@pytest.fixture
def thorough(request: pytest.FixtureRequest) -> None:
    """Skip a test that takes long, unless the tests run with `--hypothesis-profile=thorough`."""
    if request.config.getoption("--hypothesis-profile") != "thorough":
        pytest.skip("takes long: run with --hypothesis-profile=thorough")
