"""A scene, a model, and the prediction by a single process."""

from pathlib import Path

import pytest

from rhm.inference import predict_raster
from rhm.models.build import SegmentationModel
from rhm.models.model_file import load_model, save_model
from rhm.models.spec import ModelSpec
from tests.data.imagery import noise, write_raster
from tests.inference.tiling.predicted import OPTIONS, files


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model of untrained weights."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(SegmentationModel(ModelSpec("unet", "mobilenetv3_small_050", bands=3)), path)
    return path


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a scene of eleven strips of three tiles."""
    return write_raster(tmp_path_factory.mktemp("scene") / "x.tif", noise(530, 150))


@pytest.fixture(scope="session")
def alone(model: Path, scene: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of a prediction in this process."""
    out = tmp_path_factory.mktemp("alone")
    predict_raster(load_model(model), scene, out, **OPTIONS)
    return files(out)
