"""Marks of footprints; laws: what was marked is read again, and nothing else is changed."""

import os
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from rhm.errors import VectorError
from rhm.viewer.marks import MarkedFootprint, Marks, numbers_of, read_marks

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
