"""Places and ground distances; oracles: pyproj's geodesics, and coordinates that are known."""

from math import sqrt

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine

from rhm.data.rasters.georeference import (
    extent,
    ground_sampling_distance,
    is_square,
    offset_px,
    outline,
    pixel_aspect,
    scale_between,
    scaled_gcps,
    to_degrees,
    to_pixels,
)
from rhm.data.rasters.raster_info import RasterInfo

DEGREES, MERCATOR, UTM = (CRS.from_epsg(code) for code in (4326, 3857, 32633))
LOCAL = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]')
GEOD = Geod(ellps="WGS84")


def placed(crs: CRS | None, transform: Affine, size: int = 10) -> RasterInfo:
    place = {"crs": crs, "transform": transform, "nodata": None, "masked": False}
    return RasterInfo("a", size, size, (1,), "uint8", **place, block_shape=(1, 1), overviews=())


def test_the_offset_of_a_raster_is_that_of_its_farthest_corner() -> None:
    here = Affine(0.5, 0.0, 500_000.0, 0.0, -0.5, 5_000_000.0)
    image = placed(UTM, here)
    assert offset_px(image, image) == 0.0
    aside = placed(UTM, Affine.translation(3.0, 4.0) @ here)
    assert offset_px(aside, image) == pytest.approx(10.0)
    # Twice the pixels of half the size cover the same ground, and the same number covers half.
    finer = here @ Affine.scale(0.5)
    assert offset_px(placed(UTM, finer, 20), image) == pytest.approx(0.0)
    assert offset_px(placed(UTM, finer), image) == pytest.approx(np.hypot(5.0, 5.0))


def test_a_raster_without_georeference_has_no_offset() -> None:
    image = placed(UTM, Affine(0.5, 0.0, 500_000.0, 0.0, -0.5, 5_000_000.0))
    for transform in (Affine.identity(), Affine.scale(2.0)):
        assert offset_px(placed(None, transform), image) is None
        assert offset_px(image, placed(None, transform)) is None
    assert offset_px(placed(None, image.transform), image) == 0.0
    assert offset_px(placed(LOCAL, image.transform), image) is None


def test_degrees_come_as_longitude_and_latitude() -> None:
    for crs, x, y, expected in ((UTM, 5e5, 0.0, [15.0, 0.0]), (DEGREES, 7.5, 51.0, [7.5, 51.0])):
        found = to_degrees(crs, [x], [y])
        assert found is not None
        np.testing.assert_allclose(found[0], expected, atol=1e-9)


@pytest.mark.parametrize(
    ("crs", "x", "y"), [(LOCAL, 1.0, 1.0), (DEGREES, 0.0, 95.0), (UTM, 1e30, 1e30)]
)
def test_what_is_not_on_earth_has_no_place(crs: CRS, x: float, y: float) -> None:
    assert to_degrees(crs, [x], [y]) is None
    transform = Affine(1.0, 0.0, x, 0.0, -1.0, y)
    assert ground_sampling_distance(crs, transform, 1, 1) is None
    assert outline(crs, transform, 1, 1).is_empty


@given(st.floats(-75.0, 75.0), st.floats(-179.0, 178.0), st.floats(1e-6, 1e-4))
def test_a_pixel_of_degrees_is_as_large_as_its_geodesic_square(
    lat: float, lon: float, side: float
) -> None:
    found = ground_sampling_distance(DEGREES, Affine(side, 0, lon, 0, -side, lat), 2, 2)
    ring = shapely.box(lon + side, lat - 2 * side, lon + 2 * side, lat - side)
    area, _ = GEOD.geometry_area_perimeter(ring)
    assert found == pytest.approx(abs(area) ** 0.5, rel=1e-3)


@given(st.floats(-70.0, 70.0))
def test_mercators_pixels_shrink_with_the_cosine_of_the_latitude(lat: float) -> None:
    x, y = 0.0, float(np.log(np.tan(np.pi / 4 + np.radians(lat) / 2)) * 6378137.0)
    found = ground_sampling_distance(MERCATOR, Affine(0.5, 0, x, 0, -0.5, y), 2, 2)
    # On a sphere; the ellipsoid differs by less than its flattening.
    assert found == pytest.approx(0.5 * np.cos(np.radians(lat)), rel=7e-3)


@given(st.floats(0.0, 360.0), st.floats(0.1, 10.0), st.floats(-0.5, 0.5))
def test_turned_and_sheared_pixels_keep_their_area(angle: float, side: float, shear: float) -> None:
    place = Affine.translation(500_000, 5_000_000)
    plain = place @ Affine.scale(side, -side)
    sheared = Affine(1, shear, 0, 0, 1, 0)
    turned = place @ Affine.rotation(angle) @ Affine.scale(side, -side) @ sheared
    one, other = (ground_sampling_distance(UTM, each, 4, 4) for each in (plain, turned))
    assert one == pytest.approx(other, rel=1e-4)
    # UTM's scale on its central meridian is 0.9996.
    assert one == pytest.approx(side / 0.9996, rel=1e-4)


@pytest.mark.parametrize(
    ("gsd_m", "wanted_m", "scale"),
    [
        (0.5, 0.25, 2.0),
        (0.3, 0.6, 0.5),
        (0.5, 0.502, 1.0),
        (None, 0.5, 1.0),
        (0.5, None, 1.0),
    ],
)
def test_an_image_is_scaled_by_the_ratio_of_its_pixels(
    gsd_m: float | None, wanted_m: float | None, scale: float
) -> None:
    assert scale_between(gsd_m, wanted_m) == pytest.approx((scale, scale))


@given(st.floats(-179.0, 179.0), st.floats(-80.0, 80.0), st.floats(1e-6, 1e-4))
def test_degrees_narrow_with_the_cosine_of_the_latitude(
    lon: float, lat: float, side: float
) -> None:
    aspect = pixel_aspect(DEGREES, Affine(side, 0, lon, 0, -side, lat), 10, 10)
    # On a sphere; the ellipsoid differs by less than its flattening.
    assert aspect == pytest.approx(np.cos(np.radians(lat)), rel=7e-3)


@given(st.floats(-180.0, 180.0), st.floats(-80.0, 80.0))
def test_pixels_of_maps_count_as_square(lon: float, lat: float) -> None:
    x, y = Transformer.from_crs("EPSG:4326", MERCATOR, always_xy=True).transform(lon, lat)
    assert is_square(pixel_aspect(MERCATOR, Affine(0.5, 0, x, 0, -0.5, y), 10, 10))
    zone = CRS.from_epsg((32600 if lat >= 0 else 32700) + min(60, int(lon // 6) + 31))
    x, y = Transformer.from_crs("EPSG:4326", zone, always_xy=True).transform(lon, lat)
    assert is_square(pixel_aspect(zone, Affine(0.5, 0, x, 0, -0.5, y), 10, 10))


def test_only_what_has_a_place_is_known_not_to_be_square() -> None:

    assert pixel_aspect(LOCAL, Affine(1.0, 0, 0, 0, -2.0, 0), 10, 10) == 1.0


@given(st.floats(0.1, 10.0), st.floats(0.1, 10.0), st.floats(0.1, 10.0))
def test_scaled_pixels_are_squares_of_the_wanted_size(
    height_m: float, width_m: float, wanted_m: float
) -> None:
    scale = scale_between(sqrt(height_m * width_m), wanted_m, width_m / height_m)
    assert height_m / scale.down == pytest.approx(wanted_m, rel=0.0101)
    assert width_m / scale.across == pytest.approx(wanted_m, rel=0.0101)


def test_an_outline_holds_every_corner_and_every_edge_between() -> None:
    transform = Affine(100.0, 0.0, 300_000.0, 0.0, -100.0, 7_000_000.0)
    found = outline(UTM, transform, 2000, 3000)
    rows, cols = np.meshgrid([0, 1000, 2000], [0, 1500, 3000])
    x, y = transform @ (cols.ravel(), rows.ravel())
    places = to_degrees(UTM, x, y)
    assert places is not None
    away = shapely.distance(shapely.points(places), found)
    # Edges bend on the way to degrees: in pieces of 37 km they are off by less than 500 m.
    assert away.max() < 0.005
    assert found.is_valid
    assert outline(None, transform, 2, 2).is_empty


@pytest.mark.parametrize(("crs", "left"), [("EPSG:32760", 815_000.0), ("EPSG:32701", 175_000.0)])
def test_an_outline_goes_on_beyond_the_180th_meridian(crs: str, left: float) -> None:
    transform = Affine(100.0, 0.0, left, 0.0, -100.0, 8_030_000.0)
    found = outline(CRS.from_string(crs), transform, 128, 128)
    west, _, east, _ = found.bounds
    assert found.is_valid
    assert 0.1 < east - west < 0.2
    assert min(abs(abs(side) - 180.0) for side in (west, east)) < 0.2
    whole = outline(DEGREES, Affine(3.6, 0.0, -180.0, 0.0, -1.8, 90.0), 100, 100)
    assert whole.bounds == (-180.0, -90.0, 180.0, 90.0)


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 90.0), ("EPSG:3031", -90.0)])
@pytest.mark.parametrize("left", [-30_000.0, -8_000.0])
def test_an_outline_round_a_pole_holds_the_pole(crs: str, pole: float, left: float) -> None:
    transform = Affine(1000.0, 0.0, left, 0.0, -1000.0, 20_000.0)
    found = outline(CRS.from_string(crs), transform, 64, 64)
    west, south, east, north = found.bounds
    assert found.is_valid
    assert east - west == pytest.approx(360.0)
    assert pole in (south, north)
    rows, cols = np.mgrid[8:64:16, 8:64:16] + 0.5
    places = to_degrees(CRS.from_string(crs), *(transform @ (cols.ravel(), rows.ravel())))
    assert places is not None
    turns = [shapely.points(np.add(places, (turn, 0.0))) for turn in (-360.0, 0.0, 360.0)]
    assert shapely.covers(found, turns).any(axis=0).all()


TURNED = (
    Affine.translation(500_000.0, 5_000_000.0) @ Affine.rotation(30.0) @ Affine.scale(0.5, -0.4)
)
CORNERS = [(0, 0), (0, 90), (60, 0), (60, 90)]
GCPS = [GroundControlPoint(row, col, *(TURNED @ (col, row))) for row, col in CORNERS]


@pytest.mark.parametrize("gcps", [[], GCPS], ids=["transform", "control points"])
def test_places_return_to_their_pixels(gcps: list[GroundControlPoint]) -> None:
    shape = shapely.Polygon([(10, 5), (40, 5), (40.5, 25.25)], [[(30, 10), (31, 10), (31, 11)]])
    points = shapely.get_coordinates(shape)
    placed = shapely.transform(shape, lambda _: np.column_stack(TURNED @ tuple(points.T)))
    # Control points take precedence over a transform.
    transform = Affine.identity() if gcps else TURNED
    (found,) = to_pixels(np.array([placed]), transform, gcps)
    assert shapely.get_coordinates(found) == pytest.approx(points, abs=1e-6)
    assert len(found.interiors) == 1
    x, y = TURNED @ tuple(np.array([(0, 0), (0, 60), (90, 0), (90, 60)]).T)
    expected = (x.min(), y.min(), x.max(), y.max())
    assert extent(60, 90, transform, gcps) == pytest.approx(expected, abs=1e-6)
    assert to_pixels(np.empty(0, dtype=object), transform, gcps).shape == (0,)


@given(st.floats(0.1, 10.0), st.floats(0.1, 10.0))
def test_control_points_go_with_their_grid(down: float, across: float) -> None:
    moved = scaled_gcps(GCPS, (1 / down, 1 / across))
    shape = np.array([shapely.box(500_000, 4_999_990, 500_010, 5_000_000)])
    (there,), (here,) = (to_pixels(shape, Affine.identity(), gcps) for gcps in (moved, GCPS))
    expected = shapely.get_coordinates(here) * (across, down)
    assert shapely.get_coordinates(there) == pytest.approx(expected, abs=1e-4)
