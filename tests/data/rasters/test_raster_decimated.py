"""Few pixels of a raster, evenly spread: its own where they can be, and those of its overviews."""

from pathlib import Path

import numpy as np
import pytest

from rhm.data.rasters.raster import Raster
from tests.data.imagery import noise, write_raster


@pytest.mark.parametrize("overviews", [(), (2, 4, 8)])
@pytest.mark.parametrize("wanted", [1, 100, 2_000, 30_000])
def test_few_pixels_of_a_raster_are_its_own(
    tmp_path: Path, wanted: int, overviews: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(0).choice([7, 90, 200], (400, 300, 3)).astype(np.uint8)
    pixels[:, 200:] = 0
    path = write_raster(
        tmp_path / "x.tif", pixels, nodata=0, overviews=overviews, resampling="nearest"
    )
    with Raster(path) as raster:
        few, valid = raster.read_decimated(wanted)
    assert few.dtype == np.uint8
    assert 0.9 * wanted <= valid.size <= wanted
    assert few.shape == (*valid.shape, 3)
    assert set(np.unique(few[valid])) <= {7, 90, 200}
    np.testing.assert_array_equal(valid, few.any(axis=-1))
    if wanted > 1:
        assert valid.shape[0] / valid.shape[1] == pytest.approx(4 / 3, rel=0.15)
        assert valid.mean() == pytest.approx(2 / 3, abs=0.05)


def test_no_more_pixels_than_there_are(tmp_path: Path) -> None:
    pixels = noise(40, 30)
    with Raster(write_raster(tmp_path / "x.tif", pixels)) as raster:
        np.testing.assert_array_equal(raster.read_decimated(10**9)[0], pixels)


def test_few_pixels_come_from_the_overviews(tmp_path: Path) -> None:
    # A checkerboard whose averages are none of its values tells the two apart.
    rows, cols = np.mgrid[:512, :512]
    board = ((rows + cols) % 2 * 200).astype(np.uint8)
    path = write_raster(tmp_path / "x.tif", board, overviews=(2, 4, 8, 16))
    # Neither the scale of the grid nor its way around overviews matters.
    for scale in (1.0, 0.3):
        with Raster(path, scale=scale) as raster:
            few, _ = raster.read_decimated(1100)
        assert few.shape == (33, 33, 1)
        assert set(np.unique(few)) == {100}


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (3, 2000)])
def test_few_pixels_of_a_thin_raster(tmp_path: Path, shape: tuple[int, int]) -> None:
    with Raster(write_raster(tmp_path / "x.tif", noise(*shape))) as raster:
        few, valid = raster.read_decimated(300)
    assert 100 <= valid.size <= 300
    assert valid.all()
    assert few.shape[:2] == valid.shape
