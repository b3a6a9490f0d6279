"""Footprints of several predictions in a folder; law: those of the mask are used, and told."""

import os
from pathlib import Path

import numpy as np
import pytest
import shapely

from rhm.inference.layers.footprint_choice import choose_footprints, notes_on_choices
from rhm.inference.layers.stamps import Stamp
from rhm.inference.layers.vector_files import FORMATS, Footprints, write_footprints

OLD, NEW = "0" * 64, "f" * 64


def written(path: Path, fingerprint: str | None, modified: float = 0.0) -> Path:
    polygons = np.array([shapely.box(5e5, 5e6, 5e5 + 9, 5e6 + 9)])
    batch = Footprints(polygons, np.array([0.9]), shapely.area(polygons))
    stamp = None if fingerprint is None else Stamp(fingerprint, "a" * 16)
    write_footprints([batch], "EPSG:32633", path, stamp=stamp)
    os.utime(path, (modified, modified))
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_footprints_of_the_mask_are_chosen_in_every_format(tmp_path: Path, suffix: str) -> None:
    """However old they are, and whatever else was saved later."""
    files = [
        written(tmp_path / f"x{each}", NEW if each == suffix else OLD, each != suffix)
        for each in FORMATS
    ]
    found = choose_footprints(files, NEW)
    others = tuple(each for each in files if each.suffix != suffix)
    assert (found.path, found.left_out) == (tmp_path / f"x{suffix}", others)
    assert (found.by_mask, found.stale) == (True, False)


@pytest.mark.parametrize("fingerprint", [NEW, "", None])
def test_without_those_of_the_mask_the_newest_are_chosen(
    tmp_path: Path, fingerprint: str | None
) -> None:
    files = [
        written(tmp_path / "x.gpkg", OLD, 1.0),
        written(tmp_path / "x.geojson", None, 3.0),
        written(tmp_path / "x.parquet", OLD, 2.0),
    ]
    found = choose_footprints(files, fingerprint)
    assert (found.path, found.left_out) == (files[1], (files[0], files[2]))
    # Nobody knows who wrote the newest one.
    assert (found.by_mask, found.stale) == (False, False)


def test_footprints_of_another_prediction_than_the_mask_are_stale(tmp_path: Path) -> None:
    path = written(tmp_path / "x.gpkg", OLD)
    assert choose_footprints([path], NEW).stale
    assert not choose_footprints([path], OLD).stale
    assert not choose_footprints([path], None).stale
    path.write_bytes(b"edited by hand")
    assert not choose_footprints([path], NEW).stale


def test_two_notes_suffice_for_many_scenes(tmp_path: Path) -> None:
    both = [written(tmp_path / "x.gpkg", OLD), written(tmp_path / "x.fgb", NEW)]
    of_mask, stale = choose_footprints(both, NEW), choose_footprints(both[:1], NEW)
    newest = choose_footprints(both, None)
    assert notes_on_choices([choose_footprints(both[1:], NEW)]) == []
    assert notes_on_choices([of_mask]) == ["x.gpkg is left out, because x.fgb belongs to the mask"]
    assert notes_on_choices([newest]) == ["x.fgb is left out, because x.gpkg is newer"]
    left_out, others = notes_on_choices([of_mask, stale, of_mask, stale])
    assert left_out.endswith("because x.fgb belongs to the mask (and 1 more such files)")
    assert others.startswith("x.gpkg is not from the prediction that wrote the mask beside it (and")
