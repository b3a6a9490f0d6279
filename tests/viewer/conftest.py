"""A folder of results, with a scene of bright houses."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rhm.inference import predict_raster
from rhm.inference.polygons import PolygonConfig
from tests.data.imagery import write_raster


class Brightness(nn.Module):
    """Calls bright pixels building, the surer the brighter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(8.0))

    def forward(self, images: Tensor) -> Tensor:
        return (images[:, :1] - 0.5) * self.weight


def write_scene(path: Path) -> Path:
    """Houses of 40 by 30 pixels: one sure, at (200, 100), and one unsure, at (200, 300)."""
    pixels = np.full((600, 900, 3), 20, dtype=np.uint8)
    pixels[200:230, 100:140] = 250
    pixels[200:230, 300:340] = 150
    pixels[:, 880:] = 0
    return write_raster(path, pixels, nodata=0)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "imagery" / "town.tif")


@pytest.fixture(scope="session")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene's prediction, made once."""
    folder = tmp_path_factory.mktemp("predicted")
    scene = write_scene(folder / "imagery" / "town.tif")
    predict_raster(
        Brightness(), scene, folder / "out", tile=256, dtype="uint8", polygons=PolygonConfig(0.4)
    )
    return folder / "out"


@pytest.fixture
def results(predicted: Path, tmp_path: Path) -> Path:
    """A copy of the prediction, which a test may damage."""
    return Path(shutil.copytree(predicted, tmp_path / "results"))
