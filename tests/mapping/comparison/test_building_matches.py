"""Buildings are matched one to one, and what only touches is neither new nor gone."""

import numpy as np
import shapely

from rhm.mapping.comparison.building_matches import match_buildings

A, B, C = shapely.box(0, 0, 10, 10), shapely.box(20, 0, 30, 10), shapely.box(40, 0, 50, 10)


def arrays(*shapes: shapely.Polygon) -> np.ndarray:
    return np.array(shapes, dtype=object)


def test_the_same_the_new_and_the_gone() -> None:
    found = match_buildings(arrays(A, B), arrays(C, A), same=0.5, touching=0.2)
    assert found.matched.tolist() == [True, False]
    assert found.new.tolist() == [False, True]
    assert found.gone.tolist() == [True, False]
    assert found.partner.tolist() == [1, -1]
    assert found.iou.tolist() == [1.0, 0.0]


def test_a_building_is_matched_once_by_the_best() -> None:
    near, nearer = shapely.box(2, 0, 12, 10), shapely.box(1, 0, 11, 10)
    found = match_buildings(arrays(near, nearer), arrays(A), same=0.5, touching=0.2)
    assert found.matched.tolist() == [False, True]
    assert found.new.tolist() == [False, False]  # changed: it overlaps what is there


def test_a_building_that_replaced_two_is_changed() -> None:
    hall = shapely.box(0, 0, 30, 10)
    found = match_buildings(arrays(hall), arrays(A, B), same=0.5, touching=0.2)
    assert found.matched.tolist() == [False]
    assert found.new.tolist() == [False]
    assert found.gone.tolist() == [False, False]
    assert found.taken.sum() == 1
    assert found.counterpart.tolist() == [0, 0]


def test_a_sliver_is_no_counterpart() -> None:
    sliver = shapely.box(9, 0, 19, 10)
    found = match_buildings(arrays(sliver), arrays(A), same=0.5, touching=0.2)
    assert found.new.tolist() == [True]
    assert found.gone.tolist() == [True]


def test_empty_layers_match_nothing() -> None:
    none = np.empty(0, dtype=object)
    assert match_buildings(none, arrays(A), same=0.5, touching=0.2).gone.tolist() == [True]
    assert match_buildings(arrays(A), none, same=0.5, touching=0.2).new.tolist() == [True]
