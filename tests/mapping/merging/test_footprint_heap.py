"""Footprints of all scenes are found by their numbers."""

from pathlib import Path

import numpy as np
import pytest
import shapely

from rhm.inference.layers.vector_files import Footprints, write_footprints
from tests.mapping.merging.heaps import heap_of
from tests.mapping.towns import ground, write_town_scene

EXTENT = (0.0, 0.0, 200.0, 200.0)


def test_numbers_lead_to_polygons_scene_by_scene(tmp_path: Path) -> None:
    a = [(ground(50, 50, 60, 60), 0.9), (ground(70, 50, 80, 70), 0.8)]
    b = [(ground(90, 90, 99, 99), 0.7)]
    files = [
        write_town_scene(tmp_path, "b", EXTENT, b),
        write_town_scene(tmp_path, "a", EXTENT, a),
        write_town_scene(tmp_path, "empty", EXTENT, []),
    ]
    with heap_of(files, tmp_path) as heap:
        assert heap.scene.tolist() == [0, 0, 1]
        assert heap.score.tolist() == [0.9, 0.8, 0.7]
        found = heap.polygons(np.array([2, 0]))
        assert all(shapely.equals(found, [b[0][0], a[0][0]]))
        assert np.allclose(heap.bounds, shapely.bounds([a[0][0], a[1][0], b[0][0]]))
        assert len(heap.regions) == 3


def test_neighbours_across_the_180th_meridian_are_in_one_turn(tmp_path: Path) -> None:
    places = {"a": 179.9999, "b": -179.9998, "c": 0.0, "d": 100.0}
    for name, left in places.items():
        house = np.array([shapely.box(left, 0, left + 1e-4, 1e-4)])
        batch = Footprints(house, np.array([0.5]), np.array([123.0]))
        write_footprints([batch], "EPSG:4326", tmp_path / f"{name}_buildings.gpkg")
    files = sorted(tmp_path.glob("*.gpkg"))
    with heap_of(files, tmp_path, "EPSG:4326") as heap:
        # The turn begins in the widest gap, between Fiji and Greenwich.
        expected = pytest.approx([179.9999, 180.0002, 0.0, 100.0])
        assert heap.bounds[:, 0].tolist() == expected
        found = heap.polygons(np.arange(4))
        assert shapely.bounds(found) == pytest.approx(heap.bounds)
        back = [heap.in_principal_turn(each).bounds[0] for each in found]
        assert back == pytest.approx(list(places.values()))
        assert [shapely.from_wkb(heap.wkb(n)).bounds[0] for n in range(4)] == pytest.approx(back)
    with heap_of(files[2:], tmp_path, "EPSG:4326") as heap:
        assert heap.bounds[:, 0].tolist() == [0.0, 100.0]


def test_the_digest_changes_with_the_content(tmp_path: Path) -> None:
    digests = set()
    for shift in (0.0, 1.0, 0.0):
        house = [(ground(50 + shift, 50, 60 + shift, 60), 0.9)]
        digests.add(heap_of([write_town_scene(tmp_path, "a", EXTENT, house)], tmp_path).digest)
    assert len(digests) == 2


def test_nothing_is_a_heap_too(tmp_path: Path) -> None:
    with heap_of([write_town_scene(tmp_path, "a", EXTENT, [])], tmp_path) as heap:
        assert len(heap) == 0
