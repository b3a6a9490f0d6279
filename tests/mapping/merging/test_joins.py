"""Pieces become one building, and the worse of two buildings gives way."""

from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely

from rhm.mapping.merging import joins
from rhm.mapping.merging.best_footprints import buildings_of, ranks, trimmed_by
from rhm.mapping.merging.joins import drawn
from rhm.mapping.merging.overlaps import find_overlaps
from tests.mapping.merging.heaps import heap_of
from tests.mapping.towns import UTM, ground, write_town_scene


@pytest.mark.parametrize("batch", [1, 100])
def test_gaps_are_closed_and_overlaps_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(joins, "BATCH", batch)
    files = [
        write_town_scene(tmp_path, "a", (0, 0, 50, 50), [(ground(40, 20, 49.5, 28), 0.9)]),
        write_town_scene(
            tmp_path,
            "b",
            (50, 0, 150, 50),
            [(ground(50, 20, 60, 28), 0.5), (ground(55, 26, 65, 40), 0.4)],
        ),
        write_town_scene(tmp_path, "c", (20, 0, 150, 50), [(ground(95, 20, 110, 30), 0.8)]),
        write_town_scene(tmp_path, "d", (20, 0, 150, 50), [(ground(105, 20, 120, 30), 0.7)]),
    ]
    with heap_of(files, tmp_path) as heap:
        overlaps, rank = find_overlaps(heap), ranks(heap)
        buildings = buildings_of(np.ones(len(heap), bool), overlaps, rank)
        trimmed = trimmed_by(buildings, overlaps, len(heap))
        order = np.argsort(buildings.firsts[:-1])
        batches = list(drawn(heap, buildings, order, trimmed, pyproj.CRS(UTM)))
    shapes = shapely.from_wkb(np.concatenate([each.wkb for each in batches]))
    joined = next(shape for shape in shapes if shape.intersects(ground(41, 21, 42, 22)))
    assert shapely.equals(joined, ground(40, 20, 60, 28))
    cut = next(shape for shape in shapes if shape.intersects(ground(115, 25, 116, 26)))
    assert shapely.equals(cut, ground(110, 20, 120, 30))
    parts = np.concatenate([each.parts for each in batches])
    assert sorted(parts.tolist()) == [1, 1, 1, 2]
    score = np.concatenate([each.score for each in batches])[parts == 2]
    assert score == pytest.approx([(0.9 * 76 + 0.5 * 80) / 156])


@pytest.mark.parametrize(("gap", "exact"), [(1e-7, True), (0.5, False)])
def test_a_gap_of_rounding_fills_no_notch(tmp_path: Path, gap: float, exact: bool) -> None:
    """Pieces of scenes that abut: the union is what one scene would have shown."""
    house = ground(40, 20, 60, 28) - ground(44, 20, 44.5, 24)  # one pixel wide
    files = [
        write_town_scene(tmp_path, "a", (0, 0, 50 - gap, 50), [(house, 0.9)]),
        write_town_scene(tmp_path, "b", (50, 0, 150, 50), [(house, 0.9)], mask=True),
    ]
    with heap_of(files, tmp_path) as heap:
        buildings = buildings_of(np.ones(2, bool), find_overlaps(heap), ranks(heap))
        nothing = np.empty(0, np.int64)
        order = np.arange(len(buildings))
        (batch,) = drawn(heap, buildings, order, (nothing, nothing), pyproj.CRS(UTM))
    (shape,) = shapely.from_wkb(batch.wkb)
    assert (abs(shape.area - house.area) < 1e-3) == exact
