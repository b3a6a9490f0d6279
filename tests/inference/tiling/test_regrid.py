"""Back to the scene's grid; oracle: repeated pixels, means of blocks, and the scene's mask."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rhm.data.rasters.raster import Raster
from rhm.errors import OutputError
from rhm.inference.tiling.regrid import on_scene_grid
from rhm.inference.tiling.storage import STORAGES
from tests.data.imagery import write_raster

STORAGE = STORAGES["float32"]


def rows_of(values: np.ndarray, count: int) -> Iterator[tuple[int, np.ndarray]]:
    for first in range(0, len(values), count):
        yield first, values[first : first + count]


def regridded(scene: Path, values: np.ndarray, folder: Path, *, count: int = 7) -> np.ndarray:
    with Raster(scene) as raster:
        bands = list(
            on_scene_grid(
                rows_of(values, 5),
                raster,
                STORAGE,
                folder / "copy.tif",
                shape=(values.shape[0], values.shape[1]),
                count=count,
            )
        )
    assert [first for first, _ in bands] == list(range(0, raster.info.height, count))
    return np.concatenate([rows for _, rows in bands])


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A scene of 24 x 20 pixels, with a corner without data."""
    pixels = np.full((24, 20), 9, np.uint8)
    pixels[:4, :6] = 0
    return write_raster(tmp_path / "scene.tif", pixels, nodata=0)


def test_on_its_own_grid_a_prediction_stays_as_it_is(scene: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((24, 20), dtype=np.float32)
    found = regridded(scene, values, tmp_path)
    expected = values.copy()
    expected[:4, :6] = STORAGE.nodata
    np.testing.assert_array_equal(found, expected)


def test_finer_predictions_are_averaged(scene: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((48, 40), dtype=np.float32)
    found = regridded(scene, values, tmp_path)
    means = values.reshape(24, 2, 20, 2).mean(axis=(1, 3))
    known = found != STORAGE.nodata
    np.testing.assert_allclose(found[known], means[known], atol=1e-6)
    assert known.sum() == 24 * 20 - 4 * 6


def test_coarser_predictions_are_interpolated_between_their_pixels(
    scene: Path, tmp_path: Path
) -> None:
    slope = np.tile(np.linspace(0.1, 0.9, 10, dtype=np.float32), (12, 1))
    found = regridded(scene, slope, tmp_path)[4:]
    # Pixels lie where their centres are, and a straight slope stays one up to the edge pixels.
    places = (np.arange(20) + 0.5) / 2 - 0.5
    expected = np.interp(places, np.arange(10), slope[0])
    np.testing.assert_allclose(found[:, 1:-1], np.tile(expected[1:-1], (20, 1)), atol=1e-5)


def test_a_copy_that_cannot_be_written_is_one_line(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    values = np.zeros((24, 20), np.float32)
    with pytest.raises(OutputError, match="cannot write"):
        regridded(scene, values, tmp_path / "file")


@pytest.mark.parametrize(("scene_m", "model_m"), [(0.3, 0.8), (0.2, 0.33), (0.5, 0.3)])
def test_what_the_scene_shows_beside_nodata_is_not_lost(
    tmp_path: Path, scene_m: float, model_m: float
) -> None:
    """Law: nodata of the scene is nodata, and nothing else is."""
    pixels = np.full((230, 140), 9, np.uint8)
    pixels[:, :7] = pixels[60:95, 50:83] = 0
    path = write_raster(tmp_path / "scene.tif", pixels, nodata=0)
    with Raster(path, scale=scene_m / model_m) as coarse:
        valid = coarse.read().valid
    rows = np.arange(valid.shape[0])[:, None] / valid.shape[0]
    values = np.where(valid, rows, STORAGE.nodata).astype(np.float32)
    found = regridded(path, values, tmp_path)
    np.testing.assert_array_equal(found == STORAGE.nodata, pixels == 0)
    expected = (np.arange(230) + 0.5) / 230 - 0.5 / valid.shape[0]
    assert np.abs(found - expected[:, None])[pixels > 0].max() < 2.5 / valid.shape[0]
    np.testing.assert_array_equal(regridded(path, values, tmp_path, count=50), found)
