"""Areas on the pixels of scenes, and results that are cut to them."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.control import GroundControlPoint

from rhm.data.rasters.gdal_options import quiet_about_georeference
from rhm.data.rasters.raster import describe
from rhm.data.rasters.windows import Window
from rhm.data.vectors.area_of_interest import AreaOfInterest, read_area
from rhm.errors import OutsideAreaError, RasterError
from rhm.inference.settings.tile_config import Tiling
from rhm.inference.tiling.scene_area import cut_rows, scene_area, wanted_tiles
from rhm.inference.tiling.stream import Grid
from tests.inference.scenes import GRID, UTM, write_scene

EAST, NORTH = 500_000.0, 5_000_000.0


def square(left: float, top: float, right: float, bottom: float) -> AreaOfInterest:
    """An area in metres from the corner of the scene."""
    box = f"{EAST + left},{NORTH - bottom},{EAST + right},{NORTH - top},{UTM}"
    return read_area(box)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A scene of 100 x 150 pixels of half a metre."""
    return write_scene(tmp_path / "scene.tif", np.zeros((100, 150, 1), np.uint8))


def test_pixels_belong_to_an_area_if_their_centres_do(scene: Path) -> None:
    info = describe(scene)
    area = scene_area(info, square(10.0, 5.0, 30.2, 20.3))
    assert area.window == Window(10, 20, 31, 40)
    cut = area.cut_info(info)
    assert (cut.height, cut.width) == (31, 40)
    assert cut.transform @ (0, 0) == (EAST + 10, NORTH - 5)
    assert not area.outside(0, 31).any()


def test_an_area_is_cut_at_the_edges_of_the_scene(scene: Path) -> None:
    assert scene_area(describe(scene), square(-9, -9, 999, 999)).window == Window(0, 0, 100, 150)


@pytest.mark.parametrize("box", [(-9, 0, -1, 9), (75, 0, 80, 9), (0.0, 0.0, 0.2, 0.2)])
def test_a_scene_without_a_pixel_of_the_area_lies_outside(
    scene: Path, box: tuple[float, float, float, float]
) -> None:
    with pytest.raises(OutsideAreaError, match="outside the area of interest"):
        scene_area(describe(scene), square(*box))


def test_ground_control_points_locate_areas_too(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", np.zeros((40, 40, 1), np.uint8), transform=None)
    corners = [(0, 0), (0, 40), (40, 0), (40, 40)]
    points = [GroundControlPoint(r, c, *(GRID @ (c, r)), 0.0) for r, c in corners]
    with quiet_about_georeference(), rasterio.open(path, "r+") as raster:
        raster.gcps = points, UTM
    info = describe(path)
    area = scene_area(info, square(5, 5, 15, 10))
    assert area.window == Window(10, 10, 10, 20)
    moved = area.cut_info(info).gcps
    assert [(point.row, point.col) for point in moved] == [(r - 10, c - 10) for r, c in corners]


def test_a_scene_without_a_place_is_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", np.zeros((9, 9, 1), np.uint8), crs=None, transform=None)
    with pytest.raises(RasterError, match="georeference it"):
        scene_area(describe(path), square(0, 0, 1, 1))


def test_rows_are_cut_to_the_area_however_they_come(scene: Path) -> None:
    area = scene_area(describe(scene), square(10.0, 5.0, 30.0, 20.0))
    whole = np.arange(100 * 150, dtype=np.float32).reshape(100, 150)
    part = whole[4:90, 8:120]
    for size in (1, 7, 100):
        rows = ((first, part[first : first + size]) for first in range(0, len(part), size))
        found = list(cut_rows(rows, area, (4, 8), -1.0, 16))
        assert [first for first, _ in found] == [0, 16]
        assert np.array_equal(np.concatenate([stored for _, stored in found]), whole[10:40, 20:60])


def test_only_tiles_that_an_area_touches_are_wanted() -> None:
    corner = shapely.Polygon([(0, 0), (100, 0), (0, 100)])
    found = set(wanted_tiles(shapely.to_wkb(corner), [0, 40, 80], [0, 40, 80], 40))
    assert found == {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)}
    grid = Grid(
        200, 200, Tiling(tile=64, overlap=16), shapely.to_wkb(shapely.box(70, 100, 80, 110))
    )
    assert grid.origin == (48, 48)
    assert grid.tiles == len(grid.rows) * len(grid.cols) == 2
    assert (grid.height, grid.width) == (112, 64)
    assert grid.in_image(grid.window(1, 0)) == Window(96, 48, 64, 64)
