"""What a scene shows, and how well it sees a building."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely

from rhm.errors import RasterError
from rhm.mapping.merging.valid_regions import CLEAR, CUT, NEAR, region_of
from tests.mapping.towns import GSD, ground, write_town_scene


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """A mask of 200 m x 150 m."""
    write_town_scene(tmp_path, "a", (0, 0, 200, 150), [])
    return tmp_path / "a_mask.tif"


def test_a_scene_without_nodata_is_its_rectangle(mask: Path) -> None:
    region = region_of(mask)
    assert shapely.equals(region.outline, shapely.MultiPolygon([ground(0, 0, 200, 150)]))
    assert region.pixel == pytest.approx(GSD)


def test_nodata_is_a_border_and_specks_are_not(mask: Path) -> None:
    with rasterio.open(mask, "r+") as raster:
        pixels = raster.read(1)
        pixels[:, 300:] = 255  # from 150 m on
        pixels[100:104, 100:104] = 255
        raster.write(pixels, 1)
    region = region_of(mask)
    assert shapely.equals(region.outline, shapely.MultiPolygon([ground(0, 0, 150, 150)]))


def test_the_border_cuts_what_touches_it(mask: Path) -> None:
    houses = [
        ground(60, 60, 70, 70),
        ground(10, 60, 20, 70),  # 10 m, 20 pixels
        ground(0.5, 60, 20, 70),
        ground(180, 60, 200, 70),
    ]
    assert region_of(mask).sight(np.array(houses)).tolist() == [CLEAR, NEAR, CUT, CUT]


def test_a_scene_of_nothing_but_nodata_shows_nothing(mask: Path) -> None:
    with rasterio.open(mask, "r+") as raster:
        raster.write(np.full(raster.shape, 255, np.uint8), 1)
    region = region_of(mask)
    assert region.outline.is_empty
    assert region.pixel == 0
    assert region.sight(np.array([ground(1, 1, 2, 2)])).tolist() == [CLEAR]


def test_a_damaged_mask_is_said(mask: Path) -> None:
    mask.write_bytes(mask.read_bytes()[:3000])
    with pytest.raises(RasterError, match="a_mask"):
        region_of(mask)
