"""Walls that meet; oracle: the corners of what was drawn."""

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import Polygon, box

from rhm.inference.regularization.junctions import corners, tidied
from rhm.inference.regularization.outlines import rings_of, split
from rhm.inference.regularization.walls import Pieces, Walls, cut_into_pieces, first_walls
from tests.inference.regularization.buildings import COURT, CUT_CORNER, L_SHAPE, U_SHAPE, array

SHAPES = {"box": box(0, 0, 12, 9), "L": L_SHAPE, "U": U_SHAPE, "court": COURT, "cut": CUT_CORNER}


def walls_of(*polygons: Any) -> tuple[Walls, Pieces]:
    """The first walls of polygons that lie along the axes, in tolerances of 1 m."""
    rings = rings_of(array(*polygons), np.zeros((len(polygons), 2)), np.ones(len(polygons)))
    pieces = cut_into_pieces(rings, split(rings))
    return first_walls(pieces, 5.0), pieces


def polygon_of(between: NDArray[np.float64], walls: Walls) -> Any:
    """The polygon of the first ring's corners, less the other rings'."""
    rings = [Polygon(between[walls.ring == ring]) for ring in range(walls.ring.max() + 1)]
    return shapely.difference(rings[0], shapely.union_all(rings[1:]))


@pytest.mark.parametrize("name", SHAPES)
def test_walls_of_a_clean_outline_meet_at_its_corners(name: str) -> None:
    walls, pieces = walls_of(SHAPES[name])
    found = polygon_of(corners(walls, pieces), walls)
    assert found.symmetric_difference(SHAPES[name]).area < 1e-6
    kept = tidied(walls, pieces)
    assert len(kept) == len(walls)
    np.testing.assert_allclose(corners(kept, pieces), corners(walls, pieces), atol=1e-9)


@pytest.mark.parametrize(("depth", "walls_left"), [(0.3, 4), (0.9, 4), (3.0, 6)])
def test_a_step_is_kept_if_it_is_worth_a_wall(depth: float, walls_left: int) -> None:
    stepped = Polygon([(0, 0), (20, 0), (20, 8), (12, 8), (12, 8 + depth), (0, 8 + depth)])
    walls, pieces = walls_of(stepped)
    kept = tidied(walls, pieces)
    assert len(kept) == walls_left
    # What is taken off on one side of a wall is added on the other.
    found = Polygon(corners(kept, pieces))
    assert found.area == pytest.approx(stepped.area, rel=2e-3)


@given(st.floats(2.5, 9.0), st.floats(0.2, 0.9))
def test_a_bay_less_deep_than_the_tolerance_goes(width: float, depth: float) -> None:
    bay = box(0, 0, 30, 12) - box(10, 12 - depth, 10 + width, 12)
    walls, pieces = walls_of(bay)
    kept = tidied(walls, pieces)
    found = Polygon(corners(kept, pieces))
    assert len(kept) == 4
    assert found.area == pytest.approx(bay.area, rel=5e-3)


@given(st.floats(0.1, 0.6))
def test_a_corner_that_is_cut_by_little_is_a_corner(cut: float) -> None:
    chamfered = Polygon([(0, 0), (20, 0), (20, 12 - cut), (20 - cut, 12), (0, 12)])
    walls, pieces = walls_of(chamfered)
    found = Polygon(corners(tidied(walls, pieces), pieces))
    assert shapely.get_num_coordinates(found) == 5
    assert found.area == pytest.approx(240.0, rel=0.01)


def test_buildings_are_tidied_as_if_each_were_alone() -> None:
    stepped = Polygon([(0, 0), (20, 0), (20, 8), (12, 8), (12, 8.5), (0, 8.5)])
    polygons = [L_SHAPE, stepped, U_SHAPE]
    walls, pieces = walls_of(*polygons)
    together, between = tidied(walls, pieces), corners(tidied(walls, pieces), pieces)
    for number, polygon in enumerate(polygons):
        alone, own = walls_of(polygon)
        expected = corners(tidied(alone, own), own)
        np.testing.assert_allclose(between[together.ring == number], expected, atol=1e-9)
