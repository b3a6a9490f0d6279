"""Calibration for 8-bit integers. Oracle: networks whose masks and losses are known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rhm.errors import ConfigError, ModelFileError
from rhm.inference.many_scenes import samples_of_scenes
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.runtime.identity import identity_of
from rhm.inference.tiling.calibration import (
    CalibrationTile,
    calibrated,
    quantization_for,
)
from rhm.models.build import SegmentationModel
from rhm.models.model_file import save_model
from rhm.system import CACHE_VARIABLE
from tests.data.imagery import write_raster
from tests.inference.networks import built, needs_onnx

pytestmark = needs_onnx


def bright(steepness: float = 8.0, outlier: float = 0.0) -> SegmentationModel:
    """A network that finds what is bright; one channel with far larger values costs precision."""
    model = built()
    first, middle, last = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 1, 1)
    for parameter in (each for layer in (first, middle, last) for each in layer.parameters()):
        parameter.data.zero_()
    first.weight.data[0] = 1.0 / 3.0
    first.weight.data[1, 0] = outlier
    middle.weight.data = torch.eye(2)[..., None, None]
    last.weight.data[0, 0] = steepness
    model.network = nn.Sequential(first, middle, last)
    return model.eval()


def tile(seed: int, *, buildings: int = 12, truth: bool = False) -> CalibrationTile:
    """A dark tile with bright squares, in normalised values."""
    rng = np.random.default_rng(seed)
    values = rng.normal(-0.6, 0.05, (1, 3, 128, 128)).astype(np.float32)
    mask = np.zeros((128, 128), dtype=bool)
    for row, col in rng.integers(0, 112, (buildings, 2)):
        mask[row : row + 16, col : col + 16] = True
    values[:, :, mask] += 1.2
    valid = np.ones((128, 128), dtype=bool)
    return CalibrationTile(torch.from_numpy(values), valid, mask if truth else None)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    save_model(built(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("truth", [False, True])
def test_masks_that_eight_bits_do_not_change_lose_nothing(truth: bool) -> None:
    samples = [tile(seed, truth=truth) for seed in range(4)]
    found = calibrated(bright(), samples, "w", runtime="onnx")
    assert (found.tiles, found.measure) == (2, "validation" if truth else "expected")
    assert found.agreement == 1.0
    assert found.loss == pytest.approx(0.0, abs=1e-6)
    assert found.before == 1.0 if truth else 0.9 < found.before < 1.0


def test_a_calibration_is_made_once_and_told(path: Path) -> None:
    model, told = bright(), list[str]()

    def nothing() -> list[CalibrationTile]:
        raise AssertionError

    samples = [tile(seed) for seed in range(4)]
    found = quantization_for(model, path, lambda: samples, runtime="onnx", tell=told.append)
    again = quantization_for(model, path, nothing, runtime="onnx", tell=told.append)
    assert again == found
    (line,) = told
    assert f"{found.before:.4f} before and {found.after:.4f} after" in line
    (kept,) = path.parent.glob("*.json")
    assert str(kept) in line
    assert identity_of(model) == found.weights


def test_what_loses_too_much_is_refused_and_not_kept(path: Path) -> None:
    """With a channel that is 200 times as large, all buildings fall between two levels."""
    model, told = bright(outlier=400.0), list[str]()
    samples = [tile(seed, truth=True) for seed in range(4)]
    with pytest.raises(ModelFileError, match=r"a loss of more than 0\.01: use --precision"):
        quantization_for(model, path, lambda: samples, runtime="onnx", tell=told.append)
    assert not told
    assert not list(path.parent.rglob("*.json"))


@pytest.mark.parametrize("samples", [[], [tile(0, buildings=0), tile(1, buildings=0)]])
def test_without_buildings_nothing_can_be_told(path: Path, samples: list[CalibrationTile]) -> None:
    with pytest.raises(ConfigError, match=r"no tile|hardly any building"):
        quantization_for(bright(), path, lambda: samples, runtime="onnx", tell=print)


def test_tiles_are_those_that_are_predicted(tmp_path: Path) -> None:
    """Oracle: the table of the model, on windows of a scene that is nodata elsewhere."""
    model = built()
    values = np.random.default_rng(0).integers(1, 255, (200, 300, 3)).astype(np.uint8)
    values[:, 64:] = 0
    scene = write_raster(tmp_path / "x.tif", values, nodata=0)
    config = PredictionConfig(tile=64, overlap=0)
    paths = [str(tmp_path / "gone.tif"), str(scene)]
    samples = list(samples_of_scenes(model, paths, tmp_path, config))
    assert len(samples) == 4  # rows of tiles, of which only the first column is valid
    table = model.spec.input_table("uint8")
    expected = table.apply(np.ascontiguousarray(values[:64, :64]))
    assert samples[0].valid.all()
    np.testing.assert_array_equal(samples[0].image[0].numpy(), np.moveaxis(expected, -1, 0))
