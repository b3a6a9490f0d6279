"""Territory; laws: no overlaps, order decides, batches do not."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rhm.inference.regularization.territory import Territory

Boxes = list[tuple[int, int, int, int]]
BOXES = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(2, 8), st.integers(2, 8)),
    min_size=1,
    max_size=12,
)


def boxes(places: Boxes) -> NDArray[np.object_]:
    return np.array([shapely.box(x, y, x + w, y + h) for x, y, w, h in places], dtype=object)


def claimed(
    polygons: NDArray[np.object_], *, batch: int, traced: NDArray[np.object_] | None = None
) -> tuple[list[str], list[int]]:
    territory, found, sources = Territory(), [], []
    traced = polygons if traced is None else traced
    for first in range(0, len(polygons), batch):
        part = slice(first, first + batch)
        some = polygons[part]
        free, source = territory.claim(some, traced[part], shapely.bounds(some)[:, 3])
        found += shapely.to_wkt(free).tolist()
        sources += (source + first).tolist()
    return found, sources


@given(BOXES, st.integers(1, 12))
def test_claims_are_apart_and_do_not_depend_on_batches(places: Boxes, batch: int) -> None:
    polygons = boxes(places)
    found, sources = claimed(polygons, batch=len(polygons))
    assert claimed(polygons, batch=batch) == (found, sources)
    free = shapely.from_wkt(found)
    assert shapely.area(shapely.union_all(free)) == pytest.approx(shapely.area(free).sum())
    assert shapely.is_valid(free).all()
    # Nobody is given more than was asked for, and the first one gets all of it.
    assert shapely.covered_by(free, shapely.buffer(polygons[sources], 1e-9)).all()
    assert shapely.equals(free[0], polygons[0])


@given(BOXES, st.integers(1, 12), st.integers(0, 1000))
def test_outlines_that_take_over_are_apart_too(places: Boxes, batch: int, seed: int) -> None:
    """However far from what was traced the straight walls lie."""
    traced = boxes(places)
    by = np.random.default_rng(seed).integers(-4, 5, (len(places), 2))
    moved = [(x + dx, y + dy, w, h) for (x, y, w, h), (dx, dy) in zip(places, by, strict=True)]
    found, sources = claimed(boxes(moved), batch=len(places), traced=traced)
    again, same = claimed(boxes(moved), batch=batch, traced=traced)
    free = shapely.from_wkt(found)
    assert same == sources
    assert shapely.equals(shapely.from_wkt(again), free).all()
    assert shapely.area(shapely.union_all(free)) == pytest.approx(shapely.area(free).sum())


def test_a_later_footprint_ends_at_the_wall_of_an_earlier_one() -> None:
    pair = boxes([(0, 0, 10, 10), (9, 0, 10, 10)])
    free, _ = Territory().claim(pair, pair, np.zeros(2))
    assert shapely.equals(free[1], shapely.box(10, 0, 19, 10))


def test_what_is_covered_is_missing() -> None:
    pair = boxes([(0, 0, 10, 10), (2, 2, 3, 3), (20, 0, 3, 3)])
    free, source = Territory().claim(pair, pair, np.zeros(3))
    assert (len(free), source.tolist()) == (2, [0, 2])


def test_the_traced_outline_takes_over_where_too_little_is_left() -> None:
    first, small = boxes([(0, 0, 10, 10), (7, 7, 3, 3)])
    traced = np.array([first, shapely.box(10, 8, 13, 11)], dtype=object)
    free, _ = Territory().claim(np.array([first, small], dtype=object), traced, np.zeros(2))
    assert shapely.equals(free[1], traced[1])


def test_released_footprints_are_forgotten() -> None:
    territory, (one, other) = Territory(), boxes([(0, 0, 10, 10), (5, 5, 10, 10)])
    for row, expected in ((10.0, 75.0), (10.5, 100.0)):
        territory = Territory()
        territory.claim(np.array([one]), np.array([one]), np.array([10.0]))
        territory.release(row)
        free, _ = territory.claim(np.array([other]), np.array([other]), np.array([15.0]))
        assert shapely.area(free).tolist() == [expected]
