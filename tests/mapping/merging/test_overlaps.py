"""Pairs of footprints are those that a direct comparison of all with all finds."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from rhm.mapping.merging import overlaps
from rhm.mapping.merging.overlaps import find_overlaps
from tests.mapping.merging.heaps import heap_of
from tests.mapping.towns import ground, write_town_scene


@pytest.mark.parametrize("chunk", [7, 1 << 16])
def test_pairs_and_areas_equal_those_of_all_with_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(overlaps, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    files = []
    for name in "abc":
        corners = rng.uniform(40, 140, (40, 2))
        houses = [(ground(x, y, x + 9, y + 7), 0.9) for x, y in corners]
        files.append(write_town_scene(tmp_path, name, (0, 0, 200, 200), houses))
    with heap_of(files, tmp_path) as heap:
        found = find_overlaps(heap)
        shapes = heap.polygons(np.arange(len(heap)))
        expected = {
            (one, other): shapes[one].intersection(shapes[other]).area
            for one, other in combinations(range(len(heap)), 2)
            if heap.scene[one] != heap.scene[other] and shapes[one].intersects(shapes[other])
        }
    expected = {pair: area for pair, area in expected.items() if area > 0}
    assert list(map(tuple, found.pairs.tolist())) == sorted(expected)
    assert found.shared == pytest.approx([expected[pair] for pair in sorted(expected)])


@pytest.mark.parametrize(
    ("gap", "corner", "together"),
    [(0.0, False, True), (0.8, False, True), (3.0, False, False), (0.0, True, False)],
)
def test_pieces_belong_together_across_a_border_and_a_small_gap(
    tmp_path: Path, gap: float, corner: bool, together: bool
) -> None:
    down = 8.0 if corner else 0.0
    files = [
        write_town_scene(tmp_path, "a", (0, 0, 50, 50), [(ground(40, 20, 50, 28), 0.9)]),
        write_town_scene(
            tmp_path, "b", (50, 0, 100, 50), [(ground(50 + gap, 20 + down, 60, 28 + down), 0.9)]
        ),
    ]
    with heap_of(files, tmp_path) as heap:
        assert find_overlaps(heap).pieces.tolist() == ([[0, 1]] if together else [])
