"""A folder of results, with a scene of bright houses."""

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


@pytest.fixture
def results(scene: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    predict_raster(
        Brightness(), scene, folder, tile=256, dtype="uint8", polygons=PolygonConfig(0.4)
    )
    return folder
