"""Counting the pixels of a raster; oracle: the histogram of the pixels at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rhm.colour.histogram import Histogram
from rhm.data import radiometry
from rhm.data.radiometry import histogram_of
from rhm.data.rasters.raster import Raster
from rhm.errors import RasterError
from tests.data.imagery import noise, write_raster
from tests.data.scalings import imagery


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 256, "blockysize": 256}])
def test_every_pixel_of_a_raster_is_counted_once(
    tmp_path: Path, dtype: str, layout: dict[str, Any]
) -> None:
    # Larger than a block of counting in both directions, and not a multiple of one.
    pixels = imagery(dtype, 1100, 1057)
    pixels[:, 500:600] = 0
    path = write_raster(tmp_path / "image.tif", pixels, nodata=0, **layout)
    with Raster(path) as raster:
        counted = histogram_of(raster)
    expected = Histogram.of(pixels, nodata=0)
    assert counted.dtype == dtype
    np.testing.assert_array_equal(counted.counts, expected.counts)


def test_a_large_raster_is_counted_until_there_are_pixels_enough(tmp_path: Path) -> None:
    pixels = noise(4200, 1100, 1)
    pixels[:3200] = 0
    path = write_raster(tmp_path / "image.tif", pixels, nodata=0, compress="deflate", zlevel=1)
    with Raster(path) as raster:
        some = histogram_of(raster, max_pixels=10_000)
        everything = histogram_of(raster)
    # Whole blocks are counted: enough pixels, though the upper blocks have none, and not all.
    assert 10_000 <= some.pixels < everything.pixels == 1000 * 1100
    assert some.distance(everything)[0] < 2.0


def test_of_very_many_blocks_only_some_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = noise(6000, 5000, 1)
    path = write_raster(tmp_path / "image.tif", pixels)
    monkeypatch.setattr(radiometry, "_MOST_BLOCKS", 8)
    with Raster(path) as raster:
        some = histogram_of(raster, max_pixels=1 << 40)
    assert 4 * 1024**2 < some.pixels <= 8 * 1024**2
    assert some.distance(Histogram.of(pixels))[0] < 2.0


def test_an_image_without_data_counts_nothing(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "image.tif", np.zeros((5, 5, 3), np.uint16), nodata=0)
    with Raster(path) as raster:
        assert histogram_of(raster).pixels == 0


def test_other_types_are_not_counted(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "image.tif", np.ones((5, 5), np.float64))
    with Raster(path) as raster, pytest.raises(RasterError, match="is float64"):
        histogram_of(raster)


def test_floats_that_are_no_numbers_are_not_counted(tmp_path: Path) -> None:
    pixels = imagery("float32", bands=3)
    pixels[:20, :, 1] = np.nan
    pixels[20, 0] = np.inf
    path = write_raster(tmp_path / "image.tif", pixels)
    for decimated in (False, True):
        with Raster(path) as raster:
            counted = histogram_of(raster, decimated=decimated)
        assert counted.pixels == 40 * 70 - 1
        np.testing.assert_array_equal(counted.counts, Histogram.of(pixels).counts)


@pytest.mark.parametrize("decimated", [False, True])
def test_floats_beyond_the_bins_are_refused(tmp_path: Path, decimated: bool) -> None:
    pixels = imagery("float32", bands=3)
    pixels[7, 9, 1] = -70_000.0
    path = write_raster(tmp_path / "image.tif", pixels)
    with Raster(path) as raster, pytest.raises(RasterError, match="beyond 65504"):
        histogram_of(raster, decimated=decimated)
    path = write_raster(tmp_path / "nodata.tif", np.full_like(pixels, -99_999.0), nodata=-99_999.0)
    with Raster(path) as raster:
        assert histogram_of(raster, decimated=decimated).pixels == 0


@pytest.mark.parametrize("overviews", [(), (2, 4, 8)])
def test_few_pixels_of_a_decimated_raster_stand_for_all(
    tmp_path: Path, overviews: tuple[int, ...]
) -> None:
    rows, cols = np.mgrid[:1500, :1100]
    pixels = np.stack([rows // 8 + 10, cols // 8 + 20], axis=-1).astype(np.uint16)
    pixels[:, :256] = 0
    path = write_raster(tmp_path / "image.tif", pixels, nodata=0, overviews=overviews)
    with Raster(path) as raster:
        everything = histogram_of(raster)
        some = histogram_of(raster, max_pixels=40_000, decimated=True)
        all_the_same = histogram_of(raster, max_pixels=1500 * 1100, decimated=True)
    assert 20_000 < some.pixels < 40_000
    assert some.distance(everything).max() < 1.5
    np.testing.assert_array_equal(all_the_same.counts, everything.counts)
