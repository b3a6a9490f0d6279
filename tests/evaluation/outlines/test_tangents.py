"""Maximum tangent angle errors of shapes whose angles are known."""

import numpy as np
import pytest
import shapely

from rhm.evaluation.outlines.tangents import tangent_errors

HOUSE = shapely.box(0, 0, 40, 30)


def errors(*predicted: shapely.Polygon, true: shapely.Polygon = HOUSE) -> list[float]:
    return list(tangent_errors(np.array(predicted), np.array([true])))


def test_an_outline_that_lies_elsewhere_but_runs_the_same_way_has_no_error() -> None:
    assert errors(HOUSE) == pytest.approx([0.0], abs=1e-3)
    assert errors(shapely.box(-1, -1, 41, 31)) == pytest.approx([0.0], abs=1e-3)


def test_a_cut_corner_has_its_angle() -> None:
    """An edge at 45 degrees across a corner is projected to the walls, half to each."""
    cut = shapely.Polygon([(0, 0), (40, 0), (40, 20), (30, 30), (0, 30)])
    assert errors(cut) == pytest.approx([45.0], abs=1e-3)


def test_a_tilted_wall_has_the_angle_of_its_tilt() -> None:
    tilted = shapely.Polygon([(0, 0), (40, 0), (40, 34), (0, 30)])
    assert errors(tilted) == pytest.approx([np.degrees(np.arctan(4 / 40))], abs=1e-3)


def test_a_wall_inside_the_true_one_errs_where_the_projection_changes_walls() -> None:
    """The corner (1, 0) stays, the sample (1, 2) moves to (0, 2): (0, 2) against (1, 2)."""
    assert errors(shapely.box(1, 0, 41, 30)) == pytest.approx([np.degrees(np.arctan(1 / 2))])


def test_steps_of_pixels_are_right_angles_that_the_projection_removes() -> None:
    """Along a diagonal wall, the steps of pixels run at 45 degrees to it."""
    true = shapely.Polygon([(0, 0), (40, 0), (0, 40)])
    corners = [(0, 0), (40, 0)]
    for step in range(10):
        corners += [(40 - 4 * step, 4 * step + 4), (36 - 4 * step, 4 * step + 4)]
    assert errors(shapely.Polygon(corners), true=true) == pytest.approx([45.0], abs=1.0)


def test_of_many_buildings_each_is_compared_with_the_nearest() -> None:
    """In a row of houses whose outlines are moved, the errors are those of each house alone."""
    places = np.arange(0, 500, 50)
    true = np.array([shapely.transform(HOUSE, lambda p, x=x: np.add(p, (x, 0))) for x in places])
    tilts = np.linspace(0.0, 4.5, len(places))
    found = [
        shapely.Polygon([(x, 0), (x + 40, 0), (x + 40, 30 + tilt), (x, 30)])
        for x, tilt in zip(places, tilts, strict=True)
    ]
    alone = [each for at, of in zip(found, true, strict=True) for each in errors(at, true=of)]
    assert list(tangent_errors(np.array(found), true)) == pytest.approx(alone)


def test_polygons_that_the_truth_does_not_cover_are_left_out() -> None:
    assert errors(shapely.box(100, 100, 140, 130)) == []
    assert errors(shapely.box(30, 0, 70, 30)) == []  # a quarter
    assert len(errors(HOUSE, shapely.box(100, 0, 140, 30))) == 1
    assert list(tangent_errors(np.empty(0, object), np.array([HOUSE]))) == []
