"""Near its border, a scene is believed only where no other sees the ground better."""

from pathlib import Path

from rhm.mapping.merging.interiors import better_seen_elsewhere
from rhm.mapping.merging.overlaps import find_overlaps
from tests.mapping.merging.heaps import heap_of
from tests.mapping.towns import ground, write_town_scene


def test_what_another_scene_sees_inside_counts_instead(tmp_path: Path) -> None:
    near = ground(90, 40, 96, 50)
    files = [
        write_town_scene(tmp_path, "a", (0, 0, 100, 100), [(near, 0.9), (ground(5, 5, 9, 9), 0.9)]),
        write_town_scene(tmp_path, "b", (60, 0, 200, 100), [(near, 0.6)]),
    ]
    with heap_of(files, tmp_path) as heap:
        assert better_seen_elsewhere(heap, find_overlaps(heap)).tolist() == [True, False, False]


def test_where_neither_sees_all_of_it_both_remain(tmp_path: Path) -> None:
    """The other scene sees the place inside, but a building there that reaches its own border."""
    files = [
        write_town_scene(tmp_path, "a", (0, 0, 100, 100), [(ground(84, 40, 90, 50), 0.9)]),
        write_town_scene(tmp_path, "b", (60, 0, 200, 100), [(ground(66, 40, 90, 50), 0.6)]),
    ]
    with heap_of(files, tmp_path) as heap:
        assert not better_seen_elsewhere(heap, find_overlaps(heap)).any()
