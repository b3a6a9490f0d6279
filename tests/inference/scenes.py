"""Scenes on disk, and a model that calls bright pixels building."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine, from_origin
from torch import nn

from rhm.data.radiometry import Scaling
from rhm.models.spec import ModelSpec

UTM = "EPSG:32633"
GRID = from_origin(500_000, 5_000_000, 0.5, 0.5)


def write_scene(
    path: Path,
    pixels: NDArray[Any],
    *,
    crs: str | None = UTM,
    transform: Affine | None = GRID,
    **profile: Any,
) -> Path:
    height, width, bands = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        dataset = rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=height,
            width=width,
            count=bands,
            dtype=pixels.dtype,
            crs=crs,
            transform=transform,
            **profile,
        )
    with dataset:
        dataset.write(np.moveaxis(pixels, -1, 0))
    return path


class Bright(nn.Module):
    """Calls bright pixels building; its spec says what imagery it takes."""

    def __init__(self, spec: ModelSpec | None = None) -> None:
        super().__init__()
        if spec is not None:
            self.spec = spec

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 20.0 * (images.mean(1, keepdim=True) - 0.5)


def spec(**changes: Any) -> ModelSpec:
    values: dict[str, Any] = {
        "architecture": "unet",
        "encoder": "resnet18",
        "bands": 3,
        "mean": (0.0,),
        "std": (1.0,),
        "scalings": {"uint8": Scaling("uint8", (0.0,) * 3, (255.0,) * 3)},
        "gsd_m": 0.5,
    }
    return ModelSpec(**(values | changes))
