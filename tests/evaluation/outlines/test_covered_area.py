"""Covered areas; oracle: the area of the intersection with the union of all parts."""

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st

from rhm.evaluation.outlines.covered_area import covered_areas

CORNERS = st.tuples(st.integers(0, 30), st.integers(0, 30))


@given(st.lists(CORNERS, max_size=6), st.sets(CORNERS, max_size=20))
def test_what_is_covered_is_what_the_union_has_in_common(
    boxes: list[tuple[int, int]], cells: set[tuple[int, int]]
) -> None:
    polygons = np.array([shapely.box(x, y, x + 9, y + 5) for x, y in boxes], dtype=object)
    parts = np.array([shapely.box(x, y, x + 1, y + 1) for x, y in cells], dtype=object)
    expected = shapely.area(shapely.intersection(polygons, shapely.union_all(parts)))
    np.testing.assert_allclose(covered_areas(polygons, parts), expected, atol=1e-9)
