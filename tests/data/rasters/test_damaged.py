"""A damaged block has no data; everything else is read as ever."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio

from rhm.data.rasters.damaged import SalvagedRaster
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import Window
from rhm.errors import RasterError
from tests.data.imagery import noise, write_raster


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Write a scene of 64-pixel blocks, of which the one at row 64, column 128 is noise."""
    layout: dict[str, Any] = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    path = write_raster(tmp_path / "x.tif", noise(500, 530), compress="deflate", **layout)
    with rasterio.open(path) as raster:
        offset, size = (
            int(raster.get_tag_item(f"BLOCK_{what}_2_1", "TIFF", bidx=1))
            for what in ("OFFSET", "SIZE")
        )
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = bytes(size)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "window", [None, Window(0, 0, 500, 530), Window(50, 100, 90, 60), Window(-9, -9, 600, 600)]
)
def test_only_the_damaged_block_has_no_data(damaged: Path, window: Window | None) -> None:
    with Raster(damaged) as raster, pytest.raises(RasterError, match="damaged or truncated"):
        raster.read(window)
    with SalvagedRaster(damaged) as raster:
        pixels, valid = raster.read(window)
        assert raster.damaged == {Window(64, 128, 64, 64)}
    window = window or Window(0, 0, 500, 530)
    rows, cols = (
        np.arange(first, first + count)[:, None] if axis == 0 else np.arange(first, first + count)
        for axis, (first, count) in enumerate(
            ((window.row, window.height), (window.col, window.width))
        )
    )
    inside = (rows >= 0) & (rows < 500) & (cols >= 0) & (cols < 530)
    lost = (rows // 64 == 1) & (cols // 64 == 2)
    np.testing.assert_array_equal(valid, inside & ~lost)
    whole = noise(500, 530)
    place = (np.clip(rows, 0, 499), np.clip(cols, 0, 529))
    np.testing.assert_array_equal(pixels[valid], whole[place][valid])


@pytest.mark.parametrize("scale", [0.25, 0.4, 0.5, 1.3])
def test_on_another_grid_only_the_ground_of_the_block_has_no_data(
    damaged: Path, scale: float
) -> None:
    with SalvagedRaster(damaged, scale=scale) as raster:
        pixels, valid = raster.read()
        part = Window(10, 20, 60, 50)
        again = raster.read(part)
        assert raster.damaged == {Window(64, 128, 64, 64)}
    rows, cols = np.indices(valid.shape)
    lost = np.floor((rows + 0.5) / scale) // 64 == 1
    lost &= np.floor((cols + 0.5) / scale) // 64 == 2
    # The grid has a whole number of pixels, so that its step is not quite 1 / scale.
    assert (valid != ~lost).sum() <= 4 * 64 * scale
    np.testing.assert_array_equal(again[1], valid[10:70, 20:70])
    both = valid[10:70, 20:70]
    # GDAL, which reads what is not damaged, rounds halves up.
    assert np.abs(again[0][both].astype(int) - pixels[10:70, 20:70][both]).max() <= 1
    whole = write_raster(damaged.with_name("whole.tif"), noise(500, 530))
    with Raster(whole, scale=scale) as raster:
        expected = raster.read()[0]
    reach = 1 + round(scale)
    far = ~cv2.dilate(lost.astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8)).astype(bool)
    difference = np.abs(pixels[far].astype(int) - expected[far])
    assert difference.max() <= 1


def test_a_type_that_cannot_be_read_is_no_damage(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.tif", np.zeros((8, 8, 1), np.float64))
    with SalvagedRaster(path) as raster, pytest.raises(RasterError, match="convert it first"):
        raster.read()
