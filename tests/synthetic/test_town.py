"""Boxes, buildings and the sun; oracle: shapely."""

import numpy as np
import pytest
import shapely
import shapely.affinity
from hypothesis import given
from hypothesis import strategies as st

from rhm.synthetic.town import TOWNS, Box, Building

SIZES = st.floats(1.0, 50.0)
TURNS = st.floats(-180.0, 180.0)


def turned(width: float, height: float, degrees: float) -> Box:
    rectangle = shapely.box(0.0, 0.0, width, height)
    return Box.around(shapely.affinity.rotate(rectangle, degrees, origin=(3.0, 4.0)))


@given(SIZES, SIZES, TURNS)
def test_a_box_around_a_rectangle_is_the_rectangle(
    width: float, height: float, degrees: float
) -> None:
    expected = shapely.affinity.rotate(
        shapely.box(0.0, 0.0, width, height), degrees, origin=(3.0, 4.0)
    )
    box = turned(width, height, degrees)
    found = shapely.Polygon(box.corners)
    assert found.symmetric_difference(expected).area < 1e-6 * expected.area
    assert np.hypot(*box.long) >= np.hypot(*box.short)
    assert box.long @ box.short == pytest.approx(0.0, abs=1e-6 * expected.area)
    np.testing.assert_allclose([np.hypot(*box.along), np.hypot(*box.across)], 1.0)


@given(SIZES, SIZES, TURNS, st.floats(-1.0, 0.9), st.floats(0.05, 1.0))
def test_a_part_covers_its_share_of_the_box(
    width: float, height: float, degrees: float, start: float, share: float
) -> None:
    box = turned(width, height, degrees)
    end = min(1.0, start + share)
    whole, part = shapely.Polygon(box.corners), shapely.Polygon(box.part((start, end), (-1, 1)))
    assert part.area == pytest.approx((end - start) / 2 * whole.area)
    assert whole.buffer(1e-6).contains(part)


def test_a_buildings_footprint_is_the_union_of_its_wings() -> None:
    wings = tuple(
        Box(np.array(centre), np.array([4.0, 0.0]), np.array([0.0, 2.0]))
        for centre in ([0.0, 0.0], [4.0, 2.0])
    )
    building = Building(wings, 5.0, flat=True, colour=(0.1, 0.1, 0.1))
    assert building.footprint.area == pytest.approx(2 * 8 * 4 - 4 * 2)


def test_the_sun_stands_where_its_azimuth_says() -> None:
    for town in TOWNS.values():
        east, south = town.sun_xy
        assert np.hypot(east, south) == pytest.approx(1.0)
        azimuth = np.degrees(np.arctan2(east, -south)) % 360
        assert azimuth == pytest.approx(town.sun_azimuth_deg)
