"""The selection is greedy by rank, and does not confuse parts with wholes."""

from pathlib import Path

import numpy as np
import pytest

from rhm.mapping.merging.best_footprints import buildings_of, ranks, select, trimmed_by
from rhm.mapping.merging.interiors import better_seen_elsewhere
from rhm.mapping.merging.overlaps import find_overlaps
from tests.mapping.merging.heaps import heap_of
from tests.mapping.towns import ground, write_town_scene


def test_the_better_seen_comes_first_then_the_surer_one(tmp_path: Path) -> None:
    houses = [
        (ground(0, 50, 9, 59), 0.99),  # cut
        (ground(60, 60, 69, 69), 0.5),
        (ground(5, 80, 14, 89), 0.9),  # near the border
        (ground(80, 80, 89, 89), 0.6),
    ]
    with heap_of([write_town_scene(tmp_path, "a", (0, 0, 200, 200), houses)], tmp_path) as heap:
        assert ranks(heap).tolist() == [3, 1, 2, 0]


@pytest.mark.parametrize(("same", "kept"), [(0.3, [True, False]), (0.5, [True, True])])
def test_the_share_decides_what_is_the_same(tmp_path: Path, same: float, kept: list[bool]) -> None:
    files = [
        write_town_scene(tmp_path, "a", (0, 0, 200, 200), [(ground(50, 50, 60, 60), 0.9)]),
        write_town_scene(tmp_path, "b", (0, 0, 200, 200), [(ground(56, 50, 66, 60), 0.8)]),
    ]
    with heap_of(files, tmp_path) as heap:
        found, rank = find_overlaps(heap), ranks(heap)
        assert select(heap, found, rank, same, np.zeros(2, bool)).tolist() == kept
        assert select(heap, found, rank, same, np.array([True, False])).tolist() == [False, True]
        buildings = buildings_of(np.array([True, True]), found, rank)
        assert [buildings.of(each).tolist() for each in range(len(buildings))] == [[0], [1]]
        worse, better = trimmed_by(buildings, found, 2)
        assert (worse.tolist(), better.tolist()) == ([1], [0])


@pytest.mark.parametrize(("top", "kept"), [(50, True), (60, False)])
def test_what_several_cover_together_is_counted_once(
    tmp_path: Path, top: float, kept: bool
) -> None:
    """A long building, of which two others cover the same third, or a third each."""
    extent = (0.0, 0.0, 200.0, 200.0)
    files = [
        write_town_scene(tmp_path, "a", extent, [(ground(50, 50, 60, 60), 0.9)]),
        write_town_scene(tmp_path, "b", extent, [(ground(56, top, 66, top + 10), 0.8)]),
        write_town_scene(tmp_path, "c", extent, [(ground(56, 50, 60, 80), 0.7)]),
    ]
    with heap_of(files, tmp_path) as heap:
        found = select(heap, find_overlaps(heap), ranks(heap), 0.5, np.zeros(3, bool))
    assert found.tolist() == [True, True, kept]


def test_a_piece_never_displaces_a_whole(tmp_path: Path) -> None:
    files = [
        write_town_scene(tmp_path, "a", (0, 0, 100, 100), [(ground(60, 40, 100, 50), 0.99)]),
        write_town_scene(tmp_path, "b", (0, 0, 200, 100), [(ground(62, 41, 72, 49), 0.6)]),
    ]
    with heap_of(files, tmp_path) as heap:
        kept = select(heap, find_overlaps(heap), ranks(heap), 0.5, np.zeros(2, bool))
    assert kept.tolist() == [True, True]


def test_what_gave_way_to_nothing_comes_back(tmp_path: Path) -> None:
    """The second gives way to the third, which shows hardly anything of the first."""
    extent = (0.0, 0.0, 200.0, 200.0)
    boxes = [(ground(50, 50, 58, 60), 0.85), (ground(50, 50, 70, 60), 0.9)]
    boxes.append((ground(58.5, 50, 90, 60), 0.8))
    files = [
        write_town_scene(tmp_path, name, extent, [box])
        for name, box in zip("abc", boxes, strict=True)
    ]
    with heap_of(files, tmp_path) as heap:
        found = select(heap, find_overlaps(heap), ranks(heap), 0.5, np.zeros(3, bool))
        alone = select(heap, find_overlaps(heap), ranks(heap), 0.5, np.array([True, False, True]))
    assert found.tolist() == [True, False, True]
    assert alone.tolist() == [False, True, False]


def test_what_a_scene_with_the_ground_inside_does_not_show_stays_out(tmp_path: Path) -> None:
    """Law: two scenes that see it near their borders are no witnesses for each other."""
    ghost, house = ground(90.5, 40, 98, 50), ground(200, 40, 210, 50)
    files = [
        write_town_scene(tmp_path, "a", (0, 0, 100, 100), [(ground(90, 40, 98, 50), 0.9)]),
        write_town_scene(tmp_path, "b", (0, 0, 300, 100), [(house, 0.9)]),
        write_town_scene(tmp_path, "c", (88, 0, 300, 100), [(ghost, 0.8)]),
    ]
    with heap_of(files, tmp_path) as heap:
        found = find_overlaps(heap)
        out = better_seen_elsewhere(heap, found)
        assert out.tolist() == [True, False, True]
        assert select(heap, found, ranks(heap), 0.5, out).tolist() == [False, True, False]
