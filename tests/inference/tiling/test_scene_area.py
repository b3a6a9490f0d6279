"""Areas on the pixels of scenes, and results that are cut to them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC

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


def test_rational_polynomials_are_moved_to_the_cut(scene: Path) -> None:
    linear = [0.0, 1.0, *[0.0] * 18]
    rpcs = RPC(
        *(10.0, 500.0, 45.0, 0.1, linear, linear, 100.0, 100.0),
        *(15.0, 0.1, linear, linear, 150.0, 150.0),
    )
    info = replace(describe(scene), rpcs=rpcs)
    cut = scene_area(info, square(10.0, 5.0, 30.2, 20.3)).cut_info(info).rpcs
    assert cut is not None
    assert (cut.line_off, cut.samp_off) == (100.0 - 10, 150.0 - 20)
    same = {"line_off": rpcs.line_off, "samp_off": rpcs.samp_off}
    assert cut.to_dict() | same == rpcs.to_dict()


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


@pytest.mark.parametrize("count", [6, 9, 20])
@pytest.mark.parametrize("side_m", [400, 20_000, 200_000, 2_000_000])
def test_control_points_have_no_meaning_far_from_the_scene(
    tmp_path: Path, count: int, side_m: float
) -> None:
    path = write_scene(tmp_path / "a.tif", np.zeros((300, 400, 1), np.uint8), transform=None)
    rng = np.random.default_rng(5)
    places = [(r, c) for r in np.linspace(0, 300, 4) for c in np.linspace(0, 400, 5)]
    grid = GRID @ Affine.rotation(20)
    points = []
    for number in rng.permutation(20)[:count]:
        row, col = places[number]
        x, y = grid @ (col + rng.normal(0, 0.5), row + rng.normal(0, 0.5))
        points.append(GroundControlPoint(row, col, x, y, 0.0))
    with quiet_about_georeference(), rasterio.open(path, "r+") as raster:
        raster.gcps = points, UTM
    found = scene_area(describe(path), square(-side_m, -side_m, side_m, side_m))
    assert found.window == Window(0, 0, 300, 400)
    assert not found.outside(0, 300).any()


@pytest.mark.parametrize(
    ("crs", "left", "top", "pixel"),
    [
        ("EPSG:4326", 179.9995, -16.8, 4.5e-6),
        ("EPSG:4326", -180.0005, -16.8, 4.5e-6),
        ("EPSG:3857", 20_037_508.343 - 50, -1_900_000.0, 0.5),
        ("EPSG:32760", 819_739.0, 8_140_198.0, 0.5),
    ],
)
def test_a_box_across_the_meridian_covers_both_sides_of_a_scene(
    tmp_path: Path, crs: str, left: float, top: float, pixel: float
) -> None:
    transform = Affine(pixel, 0, left, 0, -pixel, top)
    pixels = np.zeros((200, 220, 1), np.uint8)
    scene = describe(write_scene(tmp_path / "fiji.tif", pixels, crs=crs, transform=transform))
    whole = scene_area(scene, read_area("179.99,-17,-179.99,-16"))
    assert whole.window == Window(0, 0, 200, 220)
    assert not whole.outside(0, 200).any()
    west = scene_area(scene, read_area("179.99,-17,180,-16")).window
    east = scene_area(scene, read_area("-180,-17,-179.99,-16")).window
    assert west.col == 0
    assert 0 < west.width < 220
    assert abs(west.width - east.col) <= 5  # the meridian is not a column of the UTM grid
    assert east.col + east.width == 220


@pytest.mark.parametrize("crs", [None, 'LOCAL_CS["site",UNIT["metre",1]]'])
def test_a_scene_without_a_place_is_refused(tmp_path: Path, crs: str | None) -> None:
    transform = None if crs is None else GRID
    pixels = np.zeros((9, 9, 1), np.uint8)
    path = write_scene(tmp_path / "a.tif", pixels, crs=crs, transform=transform)
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
