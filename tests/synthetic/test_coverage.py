"""Coverage of pixels; oracle: shapely's intersections with each pixel."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from rhm.synthetic.coverage import coverage


def expected(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    rows, cols = np.indices(shape)
    pixels = shapely.box(cols, rows, cols + 1, rows + 1)
    return np.asarray(shapely.area(shapely.intersection(pixels, shapely.Polygon(points))))


@given(
    st.lists(
        st.tuples(st.floats(-4.0, 12.0), st.floats(-4.0, 10.0)), min_size=3, max_size=9, unique=True
    ),
    st.booleans(),
    st.booleans(),
)
def test_each_pixel_has_the_area_of_its_intersection(
    corners: list[tuple[float, float]], whole: bool, turned: bool
) -> None:
    """Whole numbers lie on the sides of pixels."""
    points = np.array(corners)
    if whole:
        points = np.round(points)
    around = points - points.mean(axis=0)
    points = points[np.argsort(np.arctan2(around[:, 1], around[:, 0]), kind="stable")]
    if not shapely.Polygon(points).is_valid:
        return
    if turned:
        points = points[::-1]
    np.testing.assert_allclose(coverage(points, (6, 8)), expected(points, (6, 8)), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (7, 3)])
def test_what_surrounds_all_pixels_covers_them(shape: tuple[int, int]) -> None:
    around = np.array([[-5.0, -5.0], [50.0, -5.0], [50.0, 50.0], [-5.0, 50.0]])
    assert (coverage(around, shape) == 1.0).all()
    assert not coverage(around + 100.0, shape).any()
    # A polygon may be closed by its first corner.
    closed = np.vstack([around, around[:1]])
    assert (coverage(closed, shape) == 1.0).all()
