"""Footprints by the defaults of the command line; oracle: what ``rhm predict`` writes."""

import numpy as np
import pytest
import shapely

from rhm.evaluation.outlines.default_footprints import default_footprints


def test_two_houses_are_found_with_their_scores() -> None:
    maps = np.zeros((1, 40, 60), dtype=np.float32)
    maps[0, 5:15, 5:25], maps[0, 20:35, 40:50] = 0.9, 0.7
    valid = np.ones((40, 60), dtype=bool)
    polygons, scores = default_footprints(maps, valid, threshold=0.5, gsd_m=0.5)
    assert sorted(shapely.area(polygons)) == [150.0, 200.0]
    assert sorted(scores) == pytest.approx([0.7, 0.9])


def test_what_is_too_small_on_the_ground_is_left_out() -> None:
    maps = np.zeros((1, 20, 20), dtype=np.float32)
    maps[0, 5:9, 5:9] = 0.9
    valid = np.ones((20, 20), dtype=bool)
    for gsd_m, count in ((0.1, 0), (None, 1)):
        polygons, _ = default_footprints(maps, valid, threshold=0.5, gsd_m=gsd_m)
        assert len(polygons) == count


def test_nodata_is_no_building() -> None:
    maps = np.full((1, 20, 20), 0.9, dtype=np.float32)
    valid = np.zeros((20, 20), dtype=bool)
    valid[:, :10] = True
    (polygon,), _ = default_footprints(maps, valid, threshold=0.5, gsd_m=1.0)
    assert polygon.bounds == (0.0, 0.0, 10.0, 20.0)
