"""Geometries across the 180th meridian stay whole, and find their neighbours beyond it."""

from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from numpy.typing import NDArray
from shapely.affinity import translate

from rhm.data.vectors.antimeridian import (
    contiguous,
    cut_at_meridian,
    placed_near,
    turn_of,
    whole_in,
)

MERCATOR = 40_075_016.685_578_49
ON = shapely.box(179.9999, -17.0, 180.0002, -16.9998)
EAST = shapely.box(-179.999, -17.0, -179.998, -16.9998)


def array(*geometries: Any) -> NDArray[Any]:
    return np.array(geometries, dtype=object)


@pytest.mark.parametrize(
    ("crs", "length", "middle"),
    [
        ("EPSG:4326", 360.0, 0.0),
        ("EPSG:4807", 400.0, 0.0),  # in gradians
        ("EPSG:3857", MERCATOR, 0.0),
        ("+proj=merc +towgs84=0,0,0", MERCATOR, 0.0),
        ("+proj=merc +lon_0=150 +x_0=1000", MERCATOR, 1000.0),
        ("+proj=eqc +lat_ts=60 +units=km", MERCATOR / 2000, 0.0),
    ],
)
def test_coordinates_repeat_after_a_full_turn(crs: str, length: float, middle: float) -> None:
    turn = turn_of(pyproj.CRS(crs))
    assert turn is not None
    assert turn.length == pytest.approx(length, rel=1e-12)
    assert turn.middle == pytest.approx(middle, abs=1e-6)


@pytest.mark.parametrize(
    "crs",
    ["EPSG:32660", "EPSG:3035", "EPSG:2154", "EPSG:5041", "ESRI:54009", "EPSG:4978",
     'LOCAL_CS["x",UNIT["metre",1]]', "+proj=omerc +lat_0=4 +lonc=115 +alpha=53"],
)  # fmt: skip
def test_other_systems_have_no_turn(crs: str) -> None:
    assert turn_of(pyproj.CRS(crs)) is None


def test_the_jump_is_undone_beside_any_place() -> None:
    torn = array(shapely.Polygon([(179.9, 0), (-179.9, 0), (-179.9, 1), (179.9, 1)]))
    (east,), (west,) = (contiguous(torn, near, 360.0) for near in (180.0, -170.0))
    assert shapely.equals(east, shapely.box(179.9, 0, 180.1, 1).normalize())
    assert west.bounds == pytest.approx((-180.1, 0, -179.9, 1))
    each = contiguous(np.repeat(torn, 2), np.array([180.0, -170.0]), 360.0)
    assert [one.bounds for one in each] == [east.bounds, west.bounds]


def test_whole_geometries_are_moved_beside_a_place() -> None:
    assert placed_near(array(ON, EAST), 0.0, 360.0)[0].bounds[2] == pytest.approx(-179.9998)
    beside = placed_near(array(ON, EAST), 180.0, 360.0)
    assert shapely.equals_identical(beside[0], ON)
    assert beside[1].bounds == pytest.approx((180.001, -17.0, 180.002, -16.9998))
    assert len(placed_near(array(), 0.0, 360.0)) == 0


@pytest.mark.parametrize("own", ["EPSG:32760", "EPSG:32701", "+proj=laea +lon_0=180 +lat_0=-17"])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:4269", "EPSG:3857"])
def test_no_polygon_reaches_round_the_earth(own: str, crs: str) -> None:
    there = gpd.GeoSeries([ON, EAST, shapely.Polygon()], crs="EPSG:4326").to_crs(own).to_numpy()
    turn = turn_of(pyproj.CRS(crs))
    assert turn is not None
    on, _, nothing = whole_in(there, own, crs)
    assert nothing.is_empty
    assert on.is_valid
    assert on.bounds[2] - on.bounds[0] == pytest.approx(3e-4 / 360 * turn.length, rel=0.1)
    assert on.bounds[0] < -turn.length / 2 < on.bounds[2]
    beyond = whole_in(there[:2], own, crs, near=turn.length / 2)
    gap = beyond[1].bounds[0] - beyond[0].bounds[2]
    assert gap == pytest.approx(8e-4 / 360 * turn.length, rel=0.1)
    assert whole_in(there, own, own).tolist() == there.tolist()


def test_a_region_wider_than_its_distance_to_the_meridian_stays_whole() -> None:
    wide = shapely.box(5e6, 1e6, 1.9e7, 2e6).segmentize(5e5)  # across the cut of the other system
    (moved,) = whole_in(array(wide), "EPSG:3857", "+proj=merc +lon_0=-80 +R=6378137")
    assert moved.bounds[2] - moved.bounds[0] == pytest.approx(1.4e7, rel=1e-6)
    assert moved.area == pytest.approx(1.4e13, rel=0.02)


def test_what_has_no_place_is_not_finite() -> None:
    far = array(shapely.box(1e30, 1e30, 2e30, 2e30), ON)
    lost, kept = whole_in(far, "EPSG:32760", "EPSG:4326")
    assert not np.isfinite(lost.bounds).all()
    assert np.isfinite(kept.bounds).all()


def test_what_crosses_the_meridian_is_cut_there() -> None:
    for turns in (-360.0, 0.0):
        found = cut_at_meridian(translate(ON, turns))
        west, east = sorted(found.geoms, key=lambda part: part.bounds[0])
        assert west.bounds == pytest.approx((-180.0, -17.0, -179.9998, -16.9998))
        assert east.bounds == pytest.approx((179.9999, -17.0, 180.0, -16.9998))
    assert cut_at_meridian(EAST) is EAST
    beyond = cut_at_meridian(shapely.box(180.5, 0.0, 181.0, 1.0))
    assert beyond.bounds == (-179.5, 0.0, -179.0, 1.0)
    assert cut_at_meridian(shapely.Polygon()).is_empty
