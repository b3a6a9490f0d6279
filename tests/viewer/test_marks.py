"""Marks of footprints; laws: what was marked is read again, and nothing else is changed."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from rhm.errors import VectorError
from rhm.viewer.marks import LAYER, MarkedFootprint, Marks, numbers_of, read_marks

CRS = "EPSG:32633"
HOUSES = [shapely.box(x, 0.1, x + 8.3, 9.7) for x in (500_000.0, 500_020.7, 500_041.3)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "town_marks.gpkg"


def found(path: Path) -> list[tuple[shapely.Geometry, str]]:
    return [(each.polygon, each.mark) for each in read_marks(path)]


def test_marks_are_read_again_and_their_last_value_counts(path: Path) -> None:
    marks = Marks(path, CRS)
    assert found(path) == []
    for number, mark in ((0, "keep"), (1, "wrong"), (0, "wrong"), (2, "keep"), (1, None)):
        marks.set(MarkedFootprint(HOUSES[number], "", 0.25 * number, 80.0), mark)
    assert found(path) == [(HOUSES[0], "wrong"), (HOUSES[2], "keep")]
    assert marks.counts() == {"keep": 1, "wrong": 1}
    again = Marks(path, CRS)
    assert [again.of(house) for house in HOUSES] == ["wrong", None, "keep"]
    footprints = read_marks(path)
    assert gpd.read_file(path).crs == CRS
    assert [(each.score, each.area_m2) for each in footprints] == [(0.0, 80.0), (0.5, 80.0)]


def test_marks_of_footprints_that_are_no_longer_there_stay(path: Path) -> None:
    Marks(path, CRS).set(MarkedFootprint(HOUSES[0], ""), "keep")
    Marks(path, CRS).set(MarkedFootprint(HOUSES[1], ""), "wrong")
    assert [mark for _, mark in found(path)] == ["keep", "wrong"]
    assert np.isnan(read_marks(path)[0].score)


def test_without_a_place_on_earth_marks_are_kept_as_well(path: Path) -> None:
    Marks(path, None).set(MarkedFootprint(HOUSES[0], ""), "keep")
    assert found(path) == [(HOUSES[0], "keep")]


def test_what_cannot_be_written_is_no_mark(path: Path) -> None:
    marks = Marks(path, CRS)
    marks.set(MarkedFootprint(HOUSES[0], ""), "keep")
    with pytest.raises(ValueError, match="no mark 'maybe'"):
        marks.set(MarkedFootprint(HOUSES[0], ""), "maybe")
    path.unlink()
    path.mkdir()
    with pytest.raises(VectorError, match="is no file"):
        marks.set(MarkedFootprint(HOUSES[0], ""), "wrong")
    assert marks.of(HOUSES[0]) == "keep"


def test_a_file_of_something_else_is_refused_and_stays(path: Path) -> None:
    frame = gpd.GeoDataFrame({"mark": ["perhaps", None]}, geometry=HOUSES[:2], crs=CRS)
    frame.to_file(path)
    before = path.read_bytes()
    with pytest.raises(VectorError, match="has the mark 'perhaps'"):
        Marks(path, CRS)
    assert path.read_bytes() == before
    path.unlink()
    frame.drop(columns="mark").to_file(path)
    with pytest.raises(VectorError, match="no column 'mark'"):
        Marks(path, CRS)
    path.write_text("<OGRVRTDataSource></OGRVRTDataSource>")
    with pytest.raises(VectorError, match="is not GPKG"):
        Marks(path, CRS)


def test_footprints_without_a_mark_in_a_file_are_left_out(path: Path) -> None:
    marks = ["keep", None]
    gpd.GeoDataFrame({"mark": marks}, geometry=HOUSES[:2], crs=CRS).to_file(path)
    assert found(path) == [(HOUSES[0], "keep")]


def test_a_column_that_is_missing_or_no_number_is_unknown() -> None:
    frame = gpd.GeoDataFrame({"a": ["x"], "b": [2]}, geometry=HOUSES[:1])
    assert np.isnan(numbers_of(frame, "a")).all()
    assert np.isnan(numbers_of(frame, "c")).all()
    assert numbers_of(frame, "b").tolist() == [2.0]


def test_what_others_do_to_the_file_stays(path: Path) -> None:
    one, two = Marks(path, CRS), Marks(path, CRS)
    one.set(MarkedFootprint(HOUSES[0], "", 0.5), "keep")
    two.set(MarkedFootprint(HOUSES[1], ""), "wrong")
    # A house that was drawn in QGIS, a row without a mark, and a column.
    drawn = gpd.read_file(path)
    drawn["note"] = "seen"
    more = gpd.GeoDataFrame(
        {"mark": ["keep", None], "note": ["drawn", "later"]},
        geometry=[shapely.box(500_100.0, 0.0, 500_110.0, 9.0), HOUSES[2]],
        crs=CRS,
    )
    gpd.pd.concat([drawn, more]).to_file(path, layer="marks")
    one.set(MarkedFootprint(HOUSES[0], ""), "wrong")
    assert one.counts() == {"keep": 1, "wrong": 2}
    frame = gpd.read_file(path)
    notes = dict(zip(frame.geometry.to_wkb(), frame["note"], strict=True))
    assert notes[HOUSES[1].wkb] == "seen"
    assert notes[HOUSES[2].wkb] == "later"
    assert "drawn" in set(notes.values())
    assert [mark for _, mark in found(path)].count("keep") == 1


def test_marks_are_placed_in_the_crs_of_the_footprints(path: Path) -> None:
    Marks(path, CRS).set(MarkedFootprint(HOUSES[0], ""), "keep")
    degrees = gpd.GeoSeries(HOUSES, crs=CRS).to_crs("EPSG:4326")
    Marks(path, "EPSG:4326").set(MarkedFootprint(degrees[1], ""), "wrong")
    frame = gpd.read_file(path)
    assert frame.crs == "EPSG:4326"
    for polygon, wanted in zip(frame.geometry, degrees, strict=False):
        assert shapely.hausdorff_distance(polygon, wanted) < 1e-9


def test_a_mark_on_the_180th_meridian_stays_whole(path: Path) -> None:
    middle = gpd.GeoSeries([shapely.Point(180, -16.8)], crs="EPSG:4326").to_crs("EPSG:32760")
    across = middle.buffer(10.0)[0]
    Marks(path, "EPSG:32760").set(MarkedFootprint(across, ""), "keep")
    Marks(path, "EPSG:4326").set(
        MarkedFootprint(shapely.box(179.9, -17, 179.91, -16.9), ""), "keep"
    )
    left, _, right, _ = gpd.read_file(path).bounds.to_numpy().T
    assert (right - left < 0.02).all()


def test_files_that_marks_would_ruin_are_refused(path: Path) -> None:
    Marks(path, CRS).set(MarkedFootprint(HOUSES[0], ""), "keep")
    gpd.GeoDataFrame(geometry=HOUSES, crs=CRS).to_file(path, layer="mine", mode="a")
    with pytest.raises(VectorError, match="has 2 layers"):
        Marks(path, CRS)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(VectorError, match="is no file"):
        read_marks(path)


ADDED = {
    "number": ("INTEGER", 2**60 + 1),
    "small": ("SMALLINT", 3),
    "seen": ("BOOLEAN", 1),
    "height": ("FLOAT", 0.5),
    "note": ("TEXT", "corner shop"),
    "day": ("DATE", "2024-05-01"),
    "at": ("DATETIME", "2024-05-01T10:11:12Z"),
    "photo": ("BLOB", b"\0\1"),
}
"""Columns that a user may add, with the types that GeoPackages have, and a value of each."""


def added_to(path: Path) -> tuple[dict[str, str], list[tuple[object, ...]]]:
    """The types of these columns in a file, and their values in rows that have any."""
    with closing(sqlite3.connect(path)) as database:
        types = {row[1]: row[2] for row in database.execute("PRAGMA table_info(marks)")}
        names = ", ".join(ADDED)
        asked = f"SELECT {names} FROM marks WHERE number IS NOT NULL"  # noqa: S608 (names of ours)
        return {name: types[name] for name in ADDED}, database.execute(asked).fetchall()


def test_columns_that_others_have_added_keep_their_types_and_digits(path: Path) -> None:
    marks = Marks(path, CRS)
    for house in HOUSES[:2]:
        marks.set(MarkedFootprint(house, "", 0.5, 80.0), "keep")
    with closing(sqlite3.connect(path)) as database, database:
        # They call functions that only GDAL has, for the spatial index.
        found = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (trigger,) in found.fetchall():
            database.execute(f'DROP TRIGGER "{trigger}"')
        for name, (kind, value) in ADDED.items():
            database.execute(f"ALTER TABLE marks ADD COLUMN {name} {kind}")
            database.execute(f"UPDATE marks SET {name} = ? WHERE fid = 1", (value,))  # noqa: S608
    before = added_to(path)
    assert before == (
        {name: kind for name, (kind, _) in ADDED.items()},
        [tuple(value for _, value in ADDED.values())],
    )
    for number, mark in ((2, "keep"), (1, "wrong"), (2, None), (2, "wrong")):
        marks.set(MarkedFootprint(HOUSES[number], "", 0.25, 70.0), mark)
        assert added_to(path) == before
    assert [each.score for each in read_marks(path)] == [0.5, 0.25, 0.25]
    # Without any mark, the columns are still there.
    for house in HOUSES:
        marks.set(MarkedFootprint(house, ""), None)
    assert added_to(path) == (before[0], [])
    marks.set(MarkedFootprint(HOUSES[0], ""), "keep")
    assert added_to(path)[0] == before[0]
    assert np.isnan(read_marks(path)[0].score)


def test_a_score_that_is_text_in_the_file_stays_text(path: Path) -> None:
    columns = {"mark": ["keep"], "score": ["high"], "area_m2": [80]}
    gpd.GeoDataFrame(columns, geometry=HOUSES[:1], crs=CRS).to_file(path, layer="marks")
    Marks(path, CRS).set(MarkedFootprint(HOUSES[1], "", 0.5, 70.0), "wrong")
    frame = gpd.read_file(path)
    assert frame["score"].tolist()[0] == "high"
    assert found(path) == [(HOUSES[0], "keep"), (HOUSES[1], "wrong")]
    assert read_marks(path)[0].area_m2 == 80.0


def test_another_mark_of_the_same_footprint_keeps_what_was_added(path: Path) -> None:
    marks = Marks(path, CRS)
    for house in HOUSES[:2]:
        marks.set(MarkedFootprint(house, "", 0.5, 80.0), "keep")
    frame = gpd.read_file(path)
    frame["note"] = ["roof", "shed"]
    frame.to_file(path, layer=LAYER)
    Marks(path, CRS).set(MarkedFootprint(HOUSES[0], ""), "wrong")
    assert gpd.read_file(path)[["mark", "note"]].to_numpy().tolist() == [
        ["wrong", "roof"],
        ["keep", "shed"],
    ]
