"""Outlines cut into pieces; oracle: shapely, and the corners of what was drawn."""

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import Polygon, affinity, box

from rhm.inference.regularization.outlines import Rings, rings_of, split
from tests.inference.regularization.buildings import COURT, CUT_CORNER, L_SHAPE, U_SHAPE, array

SHAPES = [box(0, 0, 12, 9), L_SHAPE, U_SHAPE, COURT, CUT_CORNER]


def laid(*polygons: Any, unit: float = 1.0) -> Rings:
    """The rings of polygons in the plane's own frame."""
    found = array(*polygons)
    return rings_of(found, np.zeros((len(found), 2)), np.full(len(found), unit))


def dense(polygon: Any) -> Any:
    """The same outline with a point every half a metre."""
    return shapely.segmentize(polygon, 0.5)


def ring_points(rings: Rings) -> list[NDArray[np.float64]]:
    return [rings.points[rings.ring == number] for number in range(len(rings.polygon))]


@given(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=4), st.floats(0, 360))
def test_rings_are_those_of_the_polygons_and_turn_the_right_way(
    polygons: list[Any], angle: float
) -> None:
    placed = [affinity.rotate(each, angle) for each in polygons]
    rings = laid(*placed)
    expected = [
        (number, Polygon(ring), ring is polygon.exterior)
        for number, polygon in enumerate(placed)
        for ring in [polygon.exterior, *polygon.interiors]
    ]
    assert rings.polygon.tolist() == [number for number, _, _ in expected]
    for points, (_, ring, _) in zip(ring_points(rings), expected, strict=True):
        assert (
            Polygon(points).equals_exact(ring.normalize(), 1e-9)
            or Polygon(points).symmetric_difference(ring).area < 1e-9
        )
    signs = [shapely.is_ccw(shapely.LinearRing(points)) for points in ring_points(rings)]
    shells = [int(np.flatnonzero(rings.polygon == number)[0]) for number in range(len(placed))]
    assert [number for number, sign in enumerate(signs) if sign] == shells


def test_points_are_told_in_tolerances_from_the_middle() -> None:
    rings = rings_of(array(box(10, 20, 14, 22)), np.array([[12.0, 21.0]]), np.array([2.0]))
    assert np.abs(rings.points).tolist() == [[1.0, 0.5]] * 4


@given(st.sampled_from([L_SHAPE, CUT_CORNER]), st.integers(0, 40), st.booleans())
def test_the_order_of_points_depends_on_the_shape_alone(
    polygon: Any, roll: int, backwards: bool
) -> None:
    """Of a shape without symmetry: two points of a box are equally far from its centre."""
    outline = dense(affinity.rotate(polygon, 17.0))
    points = np.roll(shapely.get_coordinates(outline.exterior)[:-1], roll, axis=0)
    other = Polygon(points[::-1] if backwards else points, outline.interiors)
    np.testing.assert_allclose(laid(other).points, laid(outline).points)


def test_small_holes_are_dropped_and_their_area_is_told() -> None:
    pierced = box(0, 0, 20, 16) - box(5, 5, 9, 10) - box(14, 3, 15.9, 5)
    rings = laid(pierced, box(0, 0, 5, 5))
    assert rings.polygon.tolist() == [0, 0, 1]
    np.testing.assert_allclose(rings.dropped, [1.9 * 2.0, 0.0])


@pytest.mark.parametrize("polygon", SHAPES, ids=["box", "L", "U", "court", "cut corner"])
@pytest.mark.parametrize("angle", [0.0, 31.0])
def test_clean_outlines_are_cut_at_their_corners(polygon: Any, angle: float) -> None:
    turned = affinity.rotate(polygon, angle)
    rings = laid(dense(turned))
    cuts = rings.points[split(rings)]
    corners = shapely.get_coordinates(turned)
    nearest = np.linalg.norm(cuts[:, None] - corners, axis=-1).min(axis=1)
    assert nearest.max() < 1e-6
    assert len(cuts) == shapely.get_num_coordinates(turned) - len(rings.polygon)


@given(st.integers(0, 1 << 20))
def test_noise_below_the_tolerance_makes_no_pieces(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = shapely.get_coordinates(dense(box(0, 0, 30, 20)).exterior)[:-1]
    rings = laid(Polygon(points + rng.uniform(-0.15, 0.15, points.shape)))
    assert len(split(rings)) == 4


@given(st.lists(st.integers(0, 1 << 20), min_size=1, max_size=4))
def test_every_ring_begins_with_a_piece_and_has_two(seeds: list[int]) -> None:
    polygons = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        angle = np.sort(rng.uniform(0.0, 2 * np.pi, 12))
        radius = rng.uniform(1.0, 20.0, 12)
        star = np.stack([np.cos(angle) * radius, np.sin(angle) * radius], axis=1)
        parts = shapely.get_parts(shapely.make_valid(Polygon(star)))
        polygons += [part for part in parts if part.geom_type == "Polygon" and part.area > 1.0]
    rings = laid(*polygons) if polygons else laid(box(0, 0, 1, 1))
    cuts = split(rings)
    assert (np.diff(cuts) > 0).all()
    assert np.bincount(rings.ring[cuts], minlength=len(rings.polygon)).min() >= 2
    begins = np.flatnonzero(np.diff(rings.ring, prepend=-1))
    assert set(begins) <= set(cuts)
