"""Walls; oracle: lines that were drawn, and least squares by numpy."""

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely import Polygon, affinity, box

from rhm.inference.regularization.outlines import rings_of, split
from rhm.inference.regularization.walls import (
    AXES,
    FREE,
    Pieces,
    align,
    cut_into_pieces,
    dominant_directions,
    first_walls,
    fit,
)
from tests.inference.regularization.buildings import COURT, CUT_CORNER, L_SHAPE, U_SHAPE, array


def pieces_of(*polygons: Any) -> tuple[Pieces, Any]:
    """Polygons cut into pieces, and the polygon that each ring is of."""
    rings = rings_of(array(*polygons), np.zeros((len(polygons), 2)), np.ones(len(polygons)))
    return cut_into_pieces(rings, split(rings)), rings.polygon


@pytest.mark.parametrize("polygon", [box(0, 0, 12, 9), L_SHAPE, U_SHAPE, COURT])
def test_pieces_go_around_each_ring(polygon: Any) -> None:
    pieces, _ = pieces_of(shapely.segmentize(polygon, 0.5), box(0, 0, 5, 4))
    edges = pieces.points[pieces.following] - pieces.points
    for piece in range(len(pieces.ring)):
        along = edges[pieces.piece == piece].sum(axis=0)
        np.testing.assert_allclose(pieces.end[piece] - pieces.begin[piece], along, atol=1e-9)
    for ring in range(pieces.ring.max() + 1):
        begin, end = (each[pieces.ring == ring] for each in (pieces.begin, pieces.end))
        np.testing.assert_array_equal(np.roll(begin, -1, axis=0), end)


@given(st.floats(-0.25, 0.25), st.floats(-2.0, 2.0), st.integers(0, 1 << 20))
def test_a_line_is_fitted_by_least_squares_and_balances_area(
    slope: float, offset: float, seed: int
) -> None:
    """One piece of an outline, about a line of known slope and offset to the first axis."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0.0, 20.0, 81)
    y = offset + slope * x + rng.uniform(-0.1, 0.1, 81)
    points = np.stack([x, y], axis=1)
    around = np.concatenate([points, [[20.0, 50.0], [0.0, 50.0]]])
    following = np.roll(np.arange(len(around)), -1)
    piece = np.array([0] * 80 + [1] * 3)
    ends = np.array([points[-1], points[0]])
    pieces = Pieces(around, following, piece, np.array([0, 0]), ends[::-1], ends)
    begin = np.array([[0.0, 0.0]])
    found = fit(pieces, np.array([0, -1]), begin, ends[:1] * [1.0, 0.0], AXES[:1])
    middle = offset + slope * 10.0
    assert found.offset[0] == pytest.approx(middle, abs=0.05)
    trimmed = (x >= 0.25) & (x <= 19.75)
    expected = np.polyfit(x[trimmed], y[trimmed], 1)[0]
    assert found.covariance[0] / found.variance[0] == pytest.approx(expected, abs=2e-3)
    assert found.spread[0] < 0.02


@given(st.floats(0.0, 90.0), st.sampled_from([box(0, 0, 12, 9), L_SHAPE, U_SHAPE, COURT]))
def test_the_dominant_direction_is_that_of_the_walls(angle: float, polygon: Any) -> None:
    turned = affinity.rotate(polygon, angle)
    pieces, _ = pieces_of(turned)
    chords = pieces.end - pieces.begin
    (found,) = np.degrees(dominant_directions(chords, np.zeros(len(chords), np.intp), 1))
    assert abs((found - angle + 45.0) % 90.0 - 45.0) < 0.05


@given(st.lists(st.floats(0.0, 90.0), min_size=1, max_size=3))
def test_every_building_is_aligned_with_its_own_axes(angles: list[float]) -> None:
    polygons = [affinity.rotate(L_SHAPE, angle) for angle in angles]
    pieces, building = pieces_of(*polygons)
    aligned, turns = align(pieces, building, len(angles), 5.0)
    away = (np.degrees(turns) - angles + 45.0) % 90.0 - 45.0
    np.testing.assert_allclose(away, 0.0, atol=0.01)
    chords = aligned.end - aligned.begin
    np.testing.assert_allclose(np.abs(chords).min(axis=1), 0.0, atol=0.01)


def test_walls_near_an_axis_follow_it_and_others_are_free() -> None:
    pieces, building = pieces_of(CUT_CORNER)
    aligned, _ = align(pieces, building, 1, 5.0)
    walls = first_walls(aligned, 5.0)
    free = walls.kind == FREE
    assert free.sum() == 1
    np.testing.assert_array_equal(walls.direction[~free], AXES[walls.kind[~free]])
    np.testing.assert_allclose(np.abs(walls.direction[free]), np.sqrt(0.5), atol=1e-6)
    assert (first_walls(aligned, 45.0).kind != FREE).all()


@given(st.integers(1, 5), st.integers(0, 4))
def test_a_wall_owns_the_pieces_it_stands_for(count: int, first: int) -> None:
    octagon = shapely.Point(0, 0).buffer(20.0, quad_segs=2)
    pieces, _ = pieces_of(Polygon(octagon.exterior))
    assert len(pieces.ring) == 8
    walls = first_walls(pieces, 0.0)[np.array([first])]
    walls.last[:] = (first + count - 1) % 8
    owners = walls.owners(pieces)
    assert set(np.flatnonzero(owners == 0)) == {(first + step) % 8 for step in range(count)}
    begin, end = walls.ends(pieces)
    np.testing.assert_array_equal(begin[0], pieces.begin[first])
    np.testing.assert_array_equal(end[0], pieces.end[(first + count - 1) % 8])
