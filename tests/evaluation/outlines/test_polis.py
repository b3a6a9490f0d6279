"""PoLiS on polygons whose distance follows from its definition by hand."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from rhm.evaluation.outlines.polis import polis_distances

SQUARE = shapely.box(0, 0, 4, 4)


def polis(one: shapely.Polygon, other: shapely.Polygon) -> float:
    return float(polis_distances(np.array([one]), np.array([other]))[0])


def test_equal_polygons_have_no_distance_whatever_their_vertices() -> None:
    assert polis(SQUARE, SQUARE) == 0
    assert polis(SQUARE, shapely.segmentize(SQUARE, 0.5)) == 0


def test_a_moved_square() -> None:
    """Moved by (1, 0): two corners lie on the other's edges, two are 1 away, in both directions."""
    assert polis(SQUARE, shapely.box(1, 0, 5, 4)) == pytest.approx(0.5)


def test_numbers_of_vertices_are_averaged_for_each_direction() -> None:
    """Three corners of the triangle lie on the square; (4, 4) is 2 sqrt 2 from the triangle."""
    triangle = shapely.Polygon([(0, 0), (4, 0), (0, 4)])
    assert polis(SQUARE, triangle) == pytest.approx((2 * 2**0.5 / 4 + 0.0) / 2)


def test_only_outer_outlines_count() -> None:
    court = shapely.Polygon(SQUARE.exterior, [shapely.box(1, 1, 2, 2).exterior])
    assert polis(court, SQUARE) == 0


def test_pairs_are_compared_one_by_one() -> None:
    moved = [shapely.box(d, 0, d + 4, 4) for d in (0, 1, 2)]
    assert polis_distances(np.array([SQUARE] * 3), np.array(moved)) == pytest.approx([0, 0.5, 1.0])
    assert len(polis_distances(np.empty(0, object), np.empty(0, object))) == 0


@given(st.floats(-9, 9), st.floats(-9, 9), st.floats(0.1, 9))
def test_it_is_symmetric_and_scales_with_lengths(x: float, y: float, factor: float) -> None:
    other = shapely.transform(shapely.box(0, 0, 3, 5), lambda points: points + np.array([x, y]))
    assert polis(SQUARE, other) == pytest.approx(polis(other, SQUARE))
    larger = [shapely.transform(each, lambda points: factor * points) for each in (SQUARE, other)]
    assert polis(*larger) == pytest.approx(factor * polis(SQUARE, other))
