"""Which part of a raster another one has, by their places on Earth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio.shutil
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from rhm.data.rasters.raster import describe
from rhm.inference.pixel_grid import PixelGrid
from tests.data.imagery import noise, write_raster

UTM = CRS.from_epsg(32633)
SCENE = PixelGrid(600, 900, UTM, Affine(0.3, 0.02, 5e5, 0.02, -0.3, 5e6), ())


def cut(grid: PixelGrid, row: float, col: float, height: int, width: int) -> PixelGrid:
    transform = grid.transform @ Affine.translation(col, row)
    gcps = tuple(
        GroundControlPoint(gcp.row - row, gcp.col - col, gcp.x, gcp.y) for gcp in grid.gcps
    )
    return PixelGrid(height, width, grid.crs, transform, gcps)


@pytest.mark.parametrize("corner", [(0, 0), (17, 400), (599, 899)])
def test_a_part_is_found(corner: tuple[int, int]) -> None:
    row, col = corner
    assert SCENE.corner_of(cut(SCENE, row, col, 600 - row, 900 - col)) == corner


def test_a_part_of_a_scene_with_control_points_is_found() -> None:
    points = tuple(
        GroundControlPoint(row, col, 16 + 1e-5 * col, 48 - 1e-5 * row)
        for row, col in ((0, 0), (0, 900), (600, 0))
    )
    scene = PixelGrid(600, 900, CRS.from_epsg(4326), Affine.identity(), points)
    part = replace(cut(scene, 30, 200, 100, 100), transform=Affine.identity())
    assert scene.corner_of(part) == (30, 200)
    assert scene.corner_of(replace(part, gcps=())) is None


@pytest.mark.parametrize(
    "other",
    [
        cut(SCENE, 10.5, 10, 100, 100),
        cut(SCENE, 550, 10, 100, 100),
        cut(SCENE, -1, 10, 100, 100),
        replace(cut(SCENE, 10, 10, 100, 100), crs=CRS.from_epsg(32634)),
        replace(cut(SCENE, 10, 10, 100, 100), crs=None),
        replace(SCENE, height=100, transform=SCENE.transform @ Affine.scale(2.0)),
        replace(SCENE, height=100, transform=Affine.identity()),
    ],
)
def test_what_is_not_a_part_is_told_from_one(other: PixelGrid) -> None:
    assert SCENE.corner_of(other) is None


def test_scenes_without_a_place_on_earth_are_compared_by_size() -> None:
    plain = PixelGrid(600, 900, None, Affine.identity(), ())
    assert SCENE.corner_of(plain) == (0, 0)
    assert SCENE.corner_of(replace(plain, height=10)) is None


def test_a_transform_takes_precedence_over_control_points(tmp_path: Path) -> None:
    """As it does in what prediction writes."""
    path = write_raster(tmp_path / "x.tif", noise(20, 30))
    points = [GroundControlPoint(row, col, col, -row) for row, col in ((0, 0), (0, 9), (9, 0))]
    with rasterio.open(path) as raster:
        both = rasterio.shutil.copy(raster, tmp_path / "x.vrt", driver="VRT")
        assert both is None
    text = (tmp_path / "x.vrt").read_text()
    listed = "".join(
        f'<GCP Id="{n}" Pixel="{p.col}" Line="{p.row}" X="{p.x}" Y="{p.y}"/>'
        for n, p in enumerate(points)
    )
    gcps = f'<GCPList Projection="EPSG:4326">{listed}</GCPList>'
    (tmp_path / "x.vrt").write_text(text.replace("<VRTRasterBand", gcps + "<VRTRasterBand", 1))
    with rasterio.open(tmp_path / "x.vrt") as raster:
        assert raster.gcps[0]
        assert PixelGrid.of(raster) == PixelGrid.of_info(describe(tmp_path / "x.vrt"))


def test_scenes_of_one_size_in_different_places_are_told_apart() -> None:
    """Chips of a dataset often have the same size and the same names in different folders."""
    moved = replace(SCENE, transform=Affine.translation(5e3, 0) @ SCENE.transform)
    assert SCENE.corner_of(moved) is None
    assert SCENE.corner_of(replace(SCENE)) == (0, 0)
    # Not every format gives a CRS back as it was.
    reworded = CRS.from_wkt(CRS.from_epsg(32633).to_wkt().replace("WGS_1984", "WGS_84_G"))
    compound = CRS.from_user_input("EPSG:32633+5773")
    for crs in (reworded, compound):
        assert SCENE.corner_of(replace(SCENE, crs=crs)) == (0, 0)
    # Zones of one projection have the same coordinates for different places.
    assert SCENE.corner_of(replace(SCENE, crs=CRS.from_epsg(32632))) is None
    local = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    assert SCENE.corner_of(replace(SCENE, crs=local)) is None


def test_a_grid_contains_what_lies_in_it() -> None:
    part = cut(SCENE, 17, 400, 300, 200)
    assert SCENE.contains(part)
    assert part.contains(part)
    assert not part.contains(SCENE)
    assert not part.contains(cut(SCENE, 16, 400, 300, 200))
    assert not cut(SCENE, 0, 0, 300, 200).contains(part)


def test_corners_of_pixels_have_the_same_place_by_transform_or_control_points() -> None:
    corners = [(0.0, 0.0), (0.0, 900.0), (600.0, 0.0), (600.0, 900.0)]
    gcps = tuple(GroundControlPoint(r, c, *(SCENE.transform @ (c, r))) for r, c in corners)
    points = np.array([(0.0, 0.0), (900.0, 600.0), (10.25, 500.5)])
    expected = np.column_stack(SCENE.transform @ points.T)
    np.testing.assert_allclose(SCENE.to_coordinates(points), expected, rtol=0, atol=1e-9)
    by_gcps = replace(SCENE, transform=Affine.identity(), gcps=gcps).to_coordinates(points)
    np.testing.assert_allclose(by_gcps, expected, rtol=0, atol=1e-6)
