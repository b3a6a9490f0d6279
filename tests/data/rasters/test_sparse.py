"""Sparse rasters; law: what is said to be unstored is nodata when it is read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from rhm.data.radiometry import histogram_of
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import Window, partition

SIDE, BLOCK = 700, 128


def written(
    path: Path, pixels: NDArray[Any], places: list[tuple[int, int]], **options: Any
) -> Path:
    profile = {
        "driver": "GTiff",
        "height": SIDE,
        "width": SIDE,
        "count": 3,
        "dtype": "uint8",
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "sparse_ok": True,
        "compress": "deflate",
        "transform": rasterio.Affine(0.5, 0, 0, 0, -0.5, 0),
    }
    with rasterio.open(path, "w", **profile | options) as target:
        for row, col in places:
            window = ((row, row + BLOCK), (col, col + BLOCK))
            target.write(pixels, window=window)
    return path


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(1, 255, (3, BLOCK, BLOCK)).astype(np.uint8)


def test_what_is_unstored_is_nodata(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    path = written(tmp_path / "a.tif", pixels, [(128, 256), (512, 0)], nodata=0)
    with Raster(path) as raster:
        unstored = [raster.is_unstored(window) for window in partition(SIDE, SIDE, 100)]
        valid = [raster.read(window).valid.any() for window in partition(SIDE, SIDE, 100)]
    assert sum(unstored) > 30
    assert not any(known and there for known, there in zip(unstored, valid, strict=True))


def test_a_band_that_is_stored_apart_is_stored(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    options = {"nodata": 0, "interleave": "band", "compress": None}
    path = written(tmp_path / "a.tif", np.zeros_like(pixels), [], **options)
    with rasterio.open(path, "r+") as target:
        target.write(pixels[1], 2, window=((128, 256), (256, 384)))
    with Raster(path) as raster:
        assert raster.read(Window(128, 256, BLOCK, BLOCK)).valid.all()
        assert not raster.is_unstored(Window(128, 256, BLOCK, BLOCK))
        assert raster.is_unstored(Window(0, 0, BLOCK, BLOCK))
        assert histogram_of(raster).pixels == BLOCK * BLOCK


def test_without_a_nodata_value_zeros_are_pixels(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    path = written(tmp_path / "a.tif", pixels, [(0, 0)])
    with Raster(path) as raster:
        assert not raster.is_unstored(Window(400, 400, 100, 100))
        assert histogram_of(raster).pixels == SIDE * SIDE


def test_counting_reads_only_what_is_stored(
    tmp_path: Path, pixels: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 40_000
    path = written(
        tmp_path / "large.tif", pixels, [(20_480, 30_720)], nodata=0, height=side, width=side
    )
    seen = 0
    read = Raster.read

    def counting(raster: Raster, window: Window | None = None) -> Any:
        nonlocal seen
        seen += 1
        return read(raster, window)

    monkeypatch.setattr(Raster, "read", counting)
    with Raster(path) as raster:
        assert histogram_of(raster).pixels == BLOCK * BLOCK
    assert seen <= 3
