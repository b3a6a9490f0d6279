"""Pixels and their validity as they were written, whatever the layout; oracle of validity: GDAL."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rhm.data.rasters.raster import Raster, describe
from rhm.data.rasters.windows import Window
from rhm.errors import RasterError
from tests.data.imagery import noise, write_raster

HOLE = np.s_[3:9, 2:7]


def _with_hole(dtype: str = "uint8") -> tuple[Any, Any]:
    pixels = noise(20, 30, dtype=dtype)
    valid = np.ones((20, 30), dtype=bool)
    pixels[HOLE], valid[HOLE] = 0, False
    return pixels, valid


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("declared", ["nodata", "mask", "alpha", "black", "nothing"])
def test_pixels_and_validity_come_back(tmp_path: Path, dtype: str, declared: str) -> None:
    pixels, valid = _with_hole(dtype)
    path = tmp_path / "image.tif"
    if declared == "alpha":
        opaque = np.where(valid, np.iinfo(dtype).max, 0).astype(dtype)
        write_raster(path, np.dstack([pixels, opaque]), alpha=True)
    elif declared == "mask":
        write_raster(path, pixels, mask=valid)
    else:
        write_raster(path, pixels, nodata=0 if declared == "nodata" else None)
    with Raster(path, black_is_nodata=declared == "black") as raster:
        read, found = raster.read()
        assert raster.info.masked == (declared != "nothing")
        assert raster.info.bands == (1, 2, 3)
        assert raster.info.nodata == (0 if declared == "nodata" else None)
    np.testing.assert_array_equal(read, pixels)
    assert read.dtype == dtype
    np.testing.assert_array_equal(found, True if declared == "nothing" else valid)


def test_a_zero_in_some_bands_is_data(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 3), dtype=np.uint8)
    pixels[0, 0, 1] = 7
    expected = [[True, False], [False, False]]
    path = write_raster(tmp_path / "a.tif", pixels, nodata=0)
    with Raster(path) as raster:
        np.testing.assert_array_equal(raster.read()[1], expected)
    with Raster(write_raster(tmp_path / "b.tif", pixels), black_is_nodata=True) as raster:
        np.testing.assert_array_equal(raster.read()[1], expected)


def test_bands_are_read_in_the_order_asked_for(tmp_path: Path) -> None:
    pixels = noise(6, 5, 4)
    path = write_raster(tmp_path / "image.tif", pixels)
    with Raster(path, bands=[3, 1]) as raster:
        assert raster.info.bands == (3, 1)
        np.testing.assert_array_equal(raster.read()[0], pixels[..., [2, 0]])
    for band in (0, 5):
        with pytest.raises(RasterError, match=f"has 4 bands, so no band {band}"):
            Raster(path, bands=[1, band])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    row=st.integers(-12, 25), col=st.integers(-12, 35), height=st.integers(1, 40), width=st.just(9)
)
def test_beyond_the_edges_there_is_no_data(
    tmp_path: Path, row: int, col: int, height: int, width: int
) -> None:
    pixels = noise(20, 30)
    path = tmp_path / "image.tif"
    if not path.exists():
        write_raster(path, pixels)
    with Raster(path) as raster:
        read, valid = raster.read(Window(row, col, height, width))
    rows, cols = np.mgrid[row : row + height, col : col + width]
    inside = (rows >= 0) & (rows < 20) & (cols >= 0) & (cols < 30)
    np.testing.assert_array_equal(valid, inside)
    expected = pixels[rows.clip(0, 19), cols.clip(0, 29)] * inside[..., None]
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("compress", [None, "deflate"])
@pytest.mark.parametrize("nodata", [None, -9999.0, np.nan])
def test_what_is_not_finite_in_some_band_has_no_data(
    tmp_path: Path, nodata: float | None, compress: str | None
) -> None:
    pixels = np.random.default_rng(0).normal(0, 1e3, (20, 30, 3)).astype(np.float32)
    valid = np.ones((20, 30), dtype=bool)
    for place, value in (((3, 4, 0), np.nan), ((5, 6, 1), np.inf), ((7, 8, 2), -np.inf)):
        pixels[place], valid[place[:2]] = value, False
    if nodata is not None:
        pixels[HOLE], valid[HOLE] = nodata, False
    path = write_raster(tmp_path / "x.tif", pixels, nodata=nodata, compress=compress)
    with Raster(path) as raster:
        read, found = raster.read()
    np.testing.assert_array_equal(read, pixels)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(found, valid)


@pytest.mark.parametrize("nodata", [-32768, -1, 0])
def test_signed_imagery_has_negative_values_and_nodata(tmp_path: Path, nodata: int) -> None:
    pixels = np.random.default_rng(0).integers(-900, 900, (20, 30, 3)).astype(np.int16)
    pixels[pixels == nodata] = 5
    valid = np.ones((20, 30), dtype=bool)
    pixels[HOLE], valid[HOLE] = nodata, False
    # In one band only it is data.
    pixels[12, 12, 1] = nodata
    with Raster(write_raster(tmp_path / "x.tif", pixels, nodata=nodata)) as raster:
        read, found = raster.read()
    np.testing.assert_array_equal(read, pixels)
    assert read.dtype == np.int16
    np.testing.assert_array_equal(found, valid)


@pytest.mark.parametrize("bands", [None, (3, 1, 2), (2,), (1, 3)])
@pytest.mark.parametrize("nodata", [0, 1, 255])
def test_validity_is_gdals(tmp_path: Path, nodata: int, bands: tuple[int, ...] | None) -> None:
    pixels = np.random.default_rng(0).choice([0, 1, 255], (40, 50, 3)).astype(np.uint8)
    path = write_raster(tmp_path / "x.tif", pixels, nodata=nodata)
    window = Window(5, 7, 20, 30)
    with rasterio.open(path) as dataset:
        expected = dataset.dataset_mask(window=((5, 25), (7, 37))) > 0
    with Raster(path, bands=bands) as raster:
        np.testing.assert_array_equal(raster.read(window)[1], expected)


LAYOUTS = [
    {"interleave": interleave, "compress": compress, **tiles}
    for interleave in ("pixel", "band")
    for compress in (None, "lzw", "deflate")
    for tiles in ({}, {"tiled": True, "blockxsize": 32, "blockysize": 16})
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: " ".join(map(str, layout.values())))
@pytest.mark.parametrize("bands", [1, 3, 5])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_every_layout_is_read_alike(
    tmp_path: Path, dtype: str, bands: int, layout: dict[str, Any]
) -> None:
    pixels = noise(90, 110, bands, dtype=dtype)
    path = write_raster(tmp_path / "x.tif", pixels, **layout)
    with Raster(path) as raster:
        for window in (Window(0, 0, 90, 110), Window(13, 29, 40, 50), Window(89, 3, 1, 1)):
            read, _ = raster.read(window)
            place = np.s_[window.row :, window.col :]
            expected = pixels[place][: window.height, : window.width]
            np.testing.assert_array_equal(read, expected)
            assert read.flags.c_contiguous
            assert read.flags.writeable


def test_more_bands_than_opencv_has_channels(tmp_path: Path) -> None:
    pixels = noise(9, 8, 140)
    with Raster(write_raster(tmp_path / "x.tif", pixels, compress="lzw")) as raster:
        np.testing.assert_array_equal(raster.read()[0], pixels)


def test_opening_from_threads_leaves_no_warning_filter(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.tif", noise(8, 8), crs=None)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        infos = list(pool.map(describe, [path] * 200))
    assert len(set(infos)) == 1
    assert warnings.filters == before
