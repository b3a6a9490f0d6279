"""Strips as the unit of work; oracle: the whole scene predicted at once."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rhm.data.radiometry import Scaling
from rhm.data.rasters.damaged import SalvagedRaster
from rhm.data.rasters.georeference import GridScale
from rhm.errors import RasterError
from rhm.inference.tiling.storage import STORAGES
from rhm.inference.tiling.stream import Grid, Tiling
from rhm.inference.tiling.strips import Strip, StripSource, Task, ThisProcess, predict_strips
from tests.data.imagery import noise, write_raster

TILING = Tiling(tile=64, overlap=16)
HEIGHT, WIDTH = 230, 150


class Mean(nn.Module):
    """Gives the mean of the bands at each pixel: every pixel is seen alone."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=1, keepdim=True)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = noise(HEIGHT, WIDTH)
    pixels[:20, :30] = 0
    return write_raster(tmp_path_factory.mktemp("scene") / "x.tif", pixels, nodata=0)


def task_of(scene: Path, **source: object) -> Task:
    scaling = Scaling("uint8", (0.0,) * 3, (255.0,) * 3)
    return Task(StripSource(str(scene), **source), scaling.table(), TILING, "uint8")  # type: ignore[arg-type]


def unpacked(strips: Iterator[Strip] | Sequence[Strip], grid: Grid) -> np.ndarray:
    """Lay strips out on the scene; what is of none is 7."""
    values = np.full((HEIGHT, WIDTH), 7, np.uint8)
    for strip in strips:
        top, bottom = grid.strip(strip.index)
        stored = np.frombuffer(zlib.decompress(strip.packed), np.uint8)
        values[top:bottom] = stored.reshape(bottom - top, WIDTH)
        assert strip.pixels == stored.size
    return values


def expected_of(scene: Path) -> np.ndarray:
    with StripSource(str(scene)).open() as raster:
        pixels, valid = raster.read()
    logits = (pixels / np.float32(255.0)).mean(axis=-1, dtype=np.float32)
    probability = torch.from_numpy(logits).sigmoid().numpy()
    return STORAGES["uint8"].encode(probability, valid)


def test_strips_are_the_whole_scene(scene: Path) -> None:
    grid = Grid(HEIGHT, WIDTH, TILING)
    strips = predict_strips(Mean(), task_of(scene), range(len(grid.rows)))
    found = unpacked(strips, grid)
    expected = expected_of(scene)
    np.testing.assert_array_equal(found == 255, expected == 255)
    np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=1)


@given(st.data())
def test_any_run_of_strips_is_predicted_as_in_the_whole(scene: Path, data: st.DataObject) -> None:
    grid = Grid(HEIGHT, WIDTH, TILING)
    first = data.draw(st.integers(0, len(grid.rows) - 1))
    last = data.draw(st.integers(first, len(grid.rows) - 1))
    task = task_of(scene)
    some = list(predict_strips(Mean(), task, range(first, last + 1)))
    assert [strip.index for strip in some] == list(range(first, last + 1))
    whole = list(predict_strips(Mean(), task, range(len(grid.rows))))
    assert some == whole[first : last + 1]


def test_this_process_predicts_the_missing_runs_in_order(scene: Path) -> None:
    missing = [range(1), range(2, 4)]
    found = list(ThisProcess(Mean()).predict(task_of(scene), missing))
    assert [strip.index for strip in found] == [0, 2, 3]


@pytest.mark.parametrize("training", [True, False])
def test_a_network_is_evaluated_and_stays_so(scene: Path, training: bool) -> None:
    class Moody(Mean):
        def forward(self, images: Tensor) -> Tensor:
            assert not self.training
            return super().forward(images)

    network = Moody().train(training)
    list(predict_strips(network, task_of(scene), range(1)))
    assert not network.training


def test_a_source_opens_what_it_says(scene: Path) -> None:
    source = StripSource(str(scene), bands=(3, 1), scale=GridScale(0.5, 0.5), skip_errors=True)
    with source.open() as raster:
        assert isinstance(raster, SalvagedRaster)
        assert (raster.info.height, raster.info.width) == (HEIGHT // 2, WIDTH // 2)
        assert len(raster.info.bands) == 2
    with source.on_own_grid().open() as raster:
        assert (raster.info.height, raster.info.width) == (HEIGHT, WIDTH)


def test_damage_is_told_or_ends_it_all(scene: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tif"
    damaged.write_bytes(scene.read_bytes()[: scene.stat().st_size // 2])
    rows = range(len(Grid(HEIGHT, WIDTH, TILING).rows))
    with pytest.raises(RasterError, match=r"damaged\.tif"):
        list(predict_strips(Mean(), task_of(damaged), rows))
    strips = list(predict_strips(Mean(), task_of(damaged, skip_errors=True), rows))
    assert [strip.index for strip in strips] == list(rows)
    assert strips[-1].damaged
