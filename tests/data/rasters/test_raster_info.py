"""Bands by the colours that files name; law: red, green, blue, and then the others."""

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from rhm.data.rasters.raster import Raster, describe
from tests.data.imagery import noise, write_raster

RED, GREEN, BLUE, NIR, ALPHA = (
    ColorInterp.red,
    ColorInterp.green,
    ColorInterp.blue,
    ColorInterp.undefined,
    ColorInterp.alpha,
)


@pytest.mark.parametrize(
    ("colours", "order"),
    [
        ((RED, GREEN, BLUE), (1, 2, 3)),
        ((BLUE, GREEN, RED), (3, 2, 1)),
        ((BLUE, GREEN, RED, NIR), (3, 2, 1, 4)),
        ((NIR, BLUE, GREEN, RED), (4, 3, 2, 1)),
        ((BLUE, GREEN, RED, ALPHA), (3, 2, 1)),
        # The file does not say enough, or contradicts itself.
        ((BLUE, GREEN, NIR), (1, 2, 3)),
        ((BLUE, BLUE, GREEN, RED), (1, 2, 3, 4)),
        ((NIR, NIR, NIR), (1, 2, 3)),
    ],
)
def test_named_colours_are_read_in_their_order(
    tmp_path: Path, colours: tuple[ColorInterp, ...], order: tuple[int, ...]
) -> None:
    pixels = noise(12, 14, len(colours))
    pixels[..., [colour is ALPHA for colour in colours]] = 255
    path = write_raster(tmp_path / "a.tif", pixels, photometric="MINISBLACK")
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = colours
    assert describe(path).bands == order
    for mapped in (False, True):
        with Raster(path, mapped=mapped) as raster:
            expected = pixels[..., [band - 1 for band in order]]
            np.testing.assert_array_equal(raster.read().values, expected)
            np.testing.assert_array_equal(raster.read_decimated(12 * 14).values, expected)
        with Raster(path, bands=(1, 2), mapped=mapped) as raster:
            np.testing.assert_array_equal(raster.read().values, pixels[..., :2])


@pytest.mark.parametrize(
    "transform",
    [
        Affine(0.5, 0, 5e5, 0, 0, 5e6),  # no height
        Affine(0.5, 0.5, 5e5, 0.5, 0.5, 5e6),  # a line
        Affine(math.nan, 0, 5e5, 0, -0.5, 5e6),
    ],
)
def test_pixels_without_an_area_have_no_place(tmp_path: Path, transform: Affine) -> None:
    path = write_raster(tmp_path / "a.tif", noise(8, 9), transform=transform)
    with rasterio.open(path) as dataset:
        assert not dataset.transform.is_identity
    info = describe(path)
    assert (info.crs, info.transform) == (None, Affine.identity())
    assert info.gsd_m is None
