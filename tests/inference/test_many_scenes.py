"""Many scenes; laws: results come in the order asked for, and one failure is one failure."""

import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rhm.inference.many_scenes import SceneResult, predict_scenes
from rhm.inference.prediction_config import PredictionConfig
from tests.data.imagery import noise, write_raster

CONFIG = PredictionConfig(tile=64, overlap=16)


class Half(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.zeros_like(images[:, :1])


@pytest.fixture
def scenes(tmp_path: Path) -> list[str]:
    """Five scenes, of which the second is no raster."""
    paths = [write_raster(tmp_path / f"{name}.tif", noise(70, 40)) for name in "abcde"]
    paths[1].write_text("not a raster")
    return [str(path) for path in paths]


@pytest.mark.parametrize("side_by_side", [1, 3])
def test_a_scene_that_fails_leaves_the_others(
    scenes: list[str], tmp_path: Path, side_by_side: int
) -> None:
    seen: list[SceneResult] = []
    pixels: list[int] = []
    lock = threading.Lock()

    def count(done: int) -> None:
        with lock:
            pixels.append(done)

    results = predict_scenes(
        Half(),
        scenes,
        tmp_path / "out",
        CONFIG,
        side_by_side=side_by_side,
        on_progress=count,
        on_result=seen.append,
    )
    assert [result.scene for result in results] == scenes
    assert [result.error is not None for result in results] == [False, True, False, False, False]
    assert [result.prediction is None for result in results] == [False, True, False, False, False]
    assert "b.tif" in str(results[1].error)
    assert sorted(each.scene for each in seen) == scenes
    if side_by_side == 1:
        assert seen == results
    assert sum(pixels) == 4 * 70 * 40
    assert len(list((tmp_path / "out").iterdir())) == 4 * 3


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_an_interruption_ends_everything(
    scenes: list[str], tmp_path: Path, side_by_side: int
) -> None:
    def interrupt(_: SceneResult) -> None:
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        predict_scenes(
            Half(),
            [scenes[0], *scenes[2:]],
            tmp_path / "out",
            CONFIG,
            side_by_side=side_by_side,
            on_result=interrupt,
        )
    assert threading.active_count() <= before + side_by_side
    finished = list((tmp_path / "out").glob("*_buildings.gpkg"))
    assert 1 <= len(finished) < 4


def test_nothing_to_predict_is_no_result(tmp_path: Path) -> None:
    assert predict_scenes(Half(), [], tmp_path, CONFIG) == []
