"""Repair of polygons; oracle: ``make_valid`` of shapely, where it ends in time."""

from itertools import combinations

import numpy as np
import pytest
import shapely

from rhm.data.vectors import repair
from rhm.data.vectors.repair import MOST_CROSSINGS, TangledError, crossings, repaired

BOWTIE = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
HOLED = shapely.Polygon([(0, 0), (9, 0), (9, 9), (0, 9)], [[(1, 1), (1, 2), (2, 2)]])
OUTSIDE = shapely.Polygon([(0, 0), (3, 0), (3, 3), (0, 3)], [[(1, 1), (5, 1), (5, 2), (1, 2)]])


def scribble(vertices: int, seed: int = 0) -> shapely.Polygon:
    return shapely.Polygon(np.random.default_rng(seed).random((vertices, 2)))


def walk(vertices: int) -> shapely.Polygon:
    return shapely.Polygon(np.random.default_rng(0).normal(size=(vertices, 2)).cumsum(axis=0))


def test_valid_polygons_stay_and_others_become_what_shapely_makes_of_them() -> None:
    polygons = np.array([HOLED, BOWTIE, OUTSIDE, scribble(12)], dtype=object)
    assert shapely.equals(repaired(polygons), shapely.make_valid(polygons)).all()
    assert repaired(polygons)[0] is HOLED
    assert repaired(polygons[:0]).size == 0


@pytest.mark.parametrize("polygon", [HOLED, BOWTIE, OUTSIDE, scribble(9), scribble(90), walk(300)])
def test_crossings_are_those_of_all_pairs_of_segments(polygon: shapely.Polygon) -> None:
    expected = 0
    rings = [np.asarray(ring.coords) for ring in (polygon.exterior, *polygon.interiors)]
    segments = [
        (number, index, len(ring) - 1, shapely.LineString(ring[index : index + 2]))
        for number, ring in enumerate(rings)
        for index in range(len(ring) - 1)
    ]
    for (ring, one, count, line), (other_ring, other, _, other_line) in combinations(segments, 2):
        neighbours = ring == other_ring and other - one in (1, count - 1)
        expected += not neighbours and line.intersects(other_line)
    assert crossings(polygon, 10**9) == expected
    assert crossings(polygon, 1) >= min(expected, 1)


@pytest.mark.parametrize("polygon", [scribble(400), walk(3000)])
def test_a_tangle_is_refused_before_it_is_repaired(
    polygon: shapely.Polygon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapely, "make_valid", lambda _: pytest.fail("it was repaired"))
    with pytest.raises(TangledError, match="crosses itself too often") as refused:
        repaired(np.array([HOLED, polygon], dtype=object))
    assert refused.value.index == 1


def test_a_large_outline_with_one_mistake_is_repaired() -> None:
    angle = np.linspace(0.0, 2 * np.pi, 20_000, endpoint=False)
    points = np.column_stack([np.cos(angle), np.sin(angle)])
    points[[5, 6]] = points[[6, 5]]
    polygon = shapely.Polygon(points)
    assert not polygon.is_valid
    assert crossings(polygon, MOST_CROSSINGS) < 5
    (fixed,) = repaired(np.array([polygon], dtype=object))
    assert fixed.is_valid
    assert fixed.area == pytest.approx(np.pi, rel=1e-4)


def test_many_small_tangles_are_one_large_tangle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair, "MOST_CROSSINGS_IN_ALL", 2)
    assert crossings(BOWTIE, 9) == 1
    assert len(repaired(np.array([BOWTIE] * 2, dtype=object))) == 2
    with pytest.raises(TangledError) as refused:
        repaired(np.array([BOWTIE] * 4, dtype=object))
    assert refused.value.index == 2
