"""Estimates; oracle: the tiles, bytes and files of the prediction itself."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rhm.inference.cost_estimate import TileClock, estimate
from rhm.inference.plan import plan_prediction
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.scenes import predict_scene
from tests.data.imagery import noise, write_raster


class Counting(nn.Module):
    """Counts the tiles that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.tiles = 0

    def forward(self, images: Tensor) -> Tensor:
        self.tiles += len(images)
        return torch.zeros_like(images[:, :1])


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("views", [False, True])
def test_the_tiles_are_those_that_will_be_predicted(
    tmp_path: Path, dtype: str, views: bool
) -> None:
    scene = write_raster(tmp_path / "scene.tif", noise(210, 150))
    config = PredictionConfig(tile=64, overlap=16, views=views, dtype=dtype)
    model = Counting()
    cost = estimate(TileClock(model), plan_prediction(model, scene, tmp_path / "out", config))
    assert not (tmp_path / "out").exists()
    model.tiles = 0
    predict_scene(model, str(scene), tmp_path / "out", config)
    assert cost.tiles * (8 if views else 1) == model.tiles
    assert cost.seconds > 0.0
    written = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.tif"))
    assert cost.disk_bytes > 0.5 * written
    if cost.memory_bytes is not None:
        assert 50e6 < cost.memory_bytes < 1e12


def test_wide_scenes_take_memory_for_the_rows_that_are_kept(tmp_path: Path) -> None:
    found = []
    for width in (64, 64 * 500):
        scene = write_raster(tmp_path / f"{width}.tif", noise(64, width))
        config = PredictionConfig(tile=64, overlap=0, dtype="float32")
        model = Counting()
        cost = estimate(TileClock(model), plan_prediction(model, scene, tmp_path, config))
        found.append(cost.memory_bytes or 0)
    # At the least a strip and the rows of both results, and the decoded scene.
    assert found[1] - found[0] > 64 * 64 * 499 * (4 + 4 + 1 + 3)


def test_larger_scenes_cost_in_proportion(tmp_path: Path) -> None:
    found = []
    for height in (64, 640):
        scene = write_raster(tmp_path / f"{height}.tif", noise(height, 64))
        config = PredictionConfig(tile=64, overlap=0)
        model = Counting()
        found.append(estimate(TileClock(model), plan_prediction(model, scene, tmp_path, config)))
    small, large = found
    assert large.tiles == 10 * small.tiles
    assert large.disk_bytes == pytest.approx(10 * small.disk_bytes, rel=1e-3)


def test_tiles_of_one_kind_are_measured_once(tmp_path: Path) -> None:
    model = Counting()
    clock = TileClock(model)
    seen = []
    for name, side, tile in (("a", 210, 64), ("b", 150, 64), ("c", 150, 96)):
        scene = write_raster(tmp_path / f"{name}.tif", noise(side, side))
        config = PredictionConfig(tile=tile, overlap=16)
        estimate(clock, plan_prediction(model, scene, tmp_path / "out", config))
        seen.append(model.tiles)
    assert seen == [2, 2, 4]
