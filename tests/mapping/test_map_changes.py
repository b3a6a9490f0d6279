"""What was taken away from a map, and what was added to it, is found again."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from rhm.data.vectors.area_of_interest import read_area
from rhm.errors import OutputError, VectorError
from rhm.mapping import map_changes
from rhm.mapping.compare_config import CompareConfig
from rhm.mapping.comparison.building_matches import match_buildings
from rhm.mapping.map_changes import compare_maps
from tests.mapping.towns import UTM, ground

COUNT = 400


@pytest.fixture(scope="module")
def town() -> NDArray[np.object_]:
    """Four hundred houses that do not touch."""
    rng = np.random.default_rng(0)
    sides = rng.uniform(6, 16, (COUNT, 2))
    places = 25.0 * np.stack([np.arange(COUNT) % 20, np.arange(COUNT) // 20], axis=1)
    return np.array(
        [ground(x, y, x + w, y + h) for (x, y), (w, h) in zip(places, sides, strict=True)],
        dtype=object,
    )


def write(path: Path, shapes: NDArray[np.object_], prefix: str, crs: str = UTM) -> Path:
    values = {"id": [f"{prefix}{number}" for number in range(len(shapes))]}
    gpd.GeoDataFrame(values, geometry=shapes, crs=UTM).to_crs(crs).to_file(path)
    return path


def moved(shapes: NDArray[np.object_], east: float, north: float) -> NDArray[np.object_]:
    return np.asarray(shapely.transform(shapes, lambda points: points + np.array([east, north])))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (4.0, -3.0)])
@pytest.mark.parametrize("crs", [UTM, "EPSG:4326"])
def test_a_fifth_taken_away_and_a_twentieth_added_is_found(
    town: NDArray[np.object_], tmp_path: Path, shift: tuple[float, float], crs: str
) -> None:
    rng = np.random.default_rng(1)
    missing = rng.choice(COUNT, COUNT // 5, replace=False)
    rest = np.setdiff1d(np.arange(COUNT), missing)
    # False ones between the rows of houses, where nothing is.
    corners = [(25.0 * (k % 10) + 18, 25.0 * (k // 10) + 18) for k in range(20)]
    false = [ground(x, y, x + 6, y + 6) for x, y in corners]
    existing = np.array([*town[rest], *false], dtype=object)
    new = write(tmp_path / "new.gpkg", moved(town, *shift), "n")
    old = write(
        tmp_path / "map.geojson" if crs != UTM else tmp_path / "map.gpkg", existing, "m", crs
    )
    found = compare_maps(new, old, tmp_path / "changes.gpkg")
    assert (found.matched, found.new, found.gone, found.changed) == (320, 80, 20, 0)
    assert (found.shift.east_m, found.shift.north_m) == pytest.approx(shift, abs=0.05)
    assert found.mean_iou > 0.98
    layer = gpd.read_file(found.path)
    assert set(layer.loc[layer["status"] == "new", "id"]) == {f"n{number}" for number in missing}
    gone = set(layer.loc[layer["status"] == "gone", "existing_id"])
    assert gone == {f"m{number}" for number in range(len(rest), len(existing))}
    same = layer[layer["status"] == "matched"]
    assert same["east_m"].to_numpy() == pytest.approx(np.full(320, shift[0]), abs=0.05)
    assert same["iou"].min() > 0.95
    pairs = {
        int(one[1:]): int(other[1:])
        for one, other in zip(same["id"], same["existing_id"], strict=True)
    }
    assert pairs == {int(number): place for place, number in enumerate(rest)}


def test_a_building_that_grew_is_changed(tmp_path: Path, town: NDArray[np.object_]) -> None:
    grown = town.copy()
    grown[5] = ground(125, 0, 125 + 24, 24)
    new = write(tmp_path / "new.gpkg", grown, "n")
    old = write(tmp_path / "map.gpkg", town, "m")
    found = compare_maps(new, old, tmp_path / "changes.gpkg")
    assert (found.matched, found.changed, found.new, found.gone) == (COUNT - 1, 1, 0, 0)
    (row,) = gpd.read_file(found.path).query("status == 'changed'").itertuples()
    assert (row.id, row.existing_id) == ("n5", "m5")
    assert row.area_m2 == pytest.approx(576, rel=1e-3)
    assert 0 < row.iou < 0.5


def test_only_the_ground_that_was_looked_at_is_compared(
    tmp_path: Path, town: NDArray[np.object_]
) -> None:
    new = write(tmp_path / "new.gpkg", town[:100], "n")
    old = write(tmp_path / "map.gpkg", town, "m")
    found = compare_maps(new, old, tmp_path / "changes.gpkg")
    assert (found.matched, found.gone) == (100, 0)
    assert "300 buildings of the map lie elsewhere" in found.notes[0]
    left, bottom, right, top = ground(0, 0, 500, 245).bounds
    area = read_area(f"{left},{bottom},{right},{top},{UTM}")
    found = compare_maps(new, old, tmp_path / "changes.gpkg", area=area)
    assert (found.matched, found.gone) == (100, 100)


@pytest.mark.parametrize("shift", [(12.0, 0.0), (-8.0, 9.0)])
def test_the_area_is_applied_where_the_layers_lie_on_each_other(
    tmp_path: Path, town: NDArray[np.object_], shift: tuple[float, float]
) -> None:
    new, today = write(tmp_path / "new.gpkg", moved(town, *shift), "n"), tmp_path / "today.parquet"
    old = write(tmp_path / "map.gpkg", town, "m")
    found = compare_maps(new, old, tmp_path / "changes.gpkg", overture=today)
    assert (found.matched, found.changed, found.new, found.gone) == (COUNT, 0, 0, 0)
    assert found.notes == ()
    assert {sources[0]["dataset"] for sources in gpd.read_parquet(today)["sources"]} == {"map"}
    # Its edge is in the street on the map; in the new layer it cuts the houses beside it.
    left, bottom, right, top = ground(-5, -5, 122, 495).bounds
    area = read_area(f"{left},{bottom},{right},{top},{UTM}")
    found = compare_maps(new, old, tmp_path / "changes.gpkg", area=area, overture=today)
    assert (found.matched, found.changed, found.new, found.gone) == (100, 0, 0, 0)
    assert found.notes == (
        "300 buildings of the map lie elsewhere and were left out",
        "300 buildings of the new layer lie elsewhere and were left out",
    )
    assert len(gpd.read_parquet(today)) == 100


def test_the_map_of_today_is_exported_in_overtures_schema(
    tmp_path: Path, town: NDArray[np.object_]
) -> None:
    grown = town[:300].copy()
    grown[5] = ground(125, 0, 125 + 24, 24)
    new = write(tmp_path / "new.gpkg", grown, "n")
    old = write(tmp_path / "map.gpkg", np.delete(town, [7, 8]), "m")
    path = tmp_path / "today.parquet"
    compare_maps(new, old, tmp_path / "changes.gpkg", overture=path)
    today = gpd.read_parquet(path)
    assert len(today) == 300
    datasets = [sources[0]["dataset"] for sources in today["sources"]]
    assert (datasets.count("map"), datasets.count("rhm")) == (297, 3)
    ids = today["id"]
    assert ids.is_unique
    assert "m5" in set(ids)  # the building that grew keeps its identifier


def test_new_buildings_lie_where_the_map_would_have_them(
    tmp_path: Path, town: NDArray[np.object_]
) -> None:
    """Thirty pairs of houses a metre apart; the map has one of each, and the imagery is shifted."""
    left = [ground(40.0 * n, 0, 40.0 * n + 10, 10) for n in range(30)]
    right = [ground(40.0 * n + 11, 0, 40.0 * n + 21, 10) for n in range(30)]
    both = np.array([*left, *right], dtype=object)
    new = write(tmp_path / "new.gpkg", moved(both, -4.0, 1.0), "n")
    old = write(tmp_path / "map.gpkg", np.array(left, dtype=object), "m")
    path = tmp_path / "today.parquet"
    found = compare_maps(new, old, tmp_path / "changes.gpkg", overture=path)
    assert (found.matched, found.new) == (30, 30)
    today = gpd.read_parquet(path).to_crs(UTM).geometry.to_numpy()
    expected = both[np.argsort(shapely.bounds(both)[:, 0])]
    placed = today[np.argsort(shapely.bounds(today)[:, 0])]
    assert shapely.hausdorff_distance(placed, expected).max() < 0.1


def test_what_lies_outside_the_area_is_counted_on_both_sides(
    tmp_path: Path, town: NDArray[np.object_]
) -> None:
    new = write(tmp_path / "new.gpkg", town[:60], "n")
    old = write(tmp_path / "map.gpkg", town[:40], "m")
    within = tmp_path / "area.gpkg"
    gpd.GeoDataFrame(geometry=[shapely.union_all(town[:20]).envelope], crs=UTM).to_file(within)
    found = compare_maps(new, old, tmp_path / "changes.gpkg", area=read_area(within))
    assert found.notes == (
        "20 buildings of the map lie elsewhere and were left out",
        "40 buildings of the new layer lie elsewhere and were left out",
    )


def test_a_feature_of_several_polygons_gives_its_identifier_to_one_of_them(
    tmp_path: Path, town: NDArray[np.object_]
) -> None:
    new = write(tmp_path / "new.gpkg", town[:50], "n")
    yards = np.array([shapely.MultiPolygon(list(town[:2])), *town[2:50]], dtype=object)
    old = write(tmp_path / "map.gpkg", yards, "m")
    path = tmp_path / "today.parquet"
    compare_maps(new, old, tmp_path / "changes.gpkg", overture=path)
    today = gpd.read_parquet(path)
    assert len(today) == 50
    assert today["id"].is_unique
    assert "m0" in set(today["id"])


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".geojson", ".fgb"])
def test_the_same_layers_give_the_same_bytes(
    tmp_path: Path, town: NDArray[np.object_], suffix: str
) -> None:
    new = write(tmp_path / "new.gpkg", town[:50], "n")
    old = write(tmp_path / "map.gpkg", town[10:60], "m")
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in files:
        compare_maps(new, old, path)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_must_not_be_lost_is_not_replaced(tmp_path: Path, town: NDArray[np.object_]) -> None:
    new = write(tmp_path / "new.gpkg", town[:50], "n")
    old = write(tmp_path / "map.gpkg", town[:50], "m")
    with pytest.raises(OutputError, match="one of the layers to compare"):
        compare_maps(new, old, old, CompareConfig(overwrite=True))
    mine = write(tmp_path / "mine.gpkg", town[:1], "x")
    with pytest.raises(OutputError, match="not written by a prediction"):
        compare_maps(new, old, mine)
    with pytest.raises(OutputError, match="suffix must be one of"):
        compare_maps(new, old, tmp_path / "changes.shp")
    empty = tmp_path / "none.gpkg"
    frame = gpd.GeoDataFrame(geometry=gpd.GeoSeries([], crs=UTM))
    frame.to_file(empty, geometry_type="Polygon")
    with pytest.raises(VectorError, match="has no buildings"):
        compare_maps(empty, old, tmp_path / "changes.gpkg")


def test_the_export_replaces_nothing_but_an_earlier_one(
    tmp_path: Path, town: NDArray[np.object_]
) -> None:
    new = write(tmp_path / "new.gpkg", town[:50], "n")
    old = tmp_path / "map.parquet"
    gpd.GeoDataFrame({"id": range(40)}, geometry=town[:40], crs=UTM).to_parquet(old)
    kept, changes, today = old.read_bytes(), tmp_path / "c.parquet", tmp_path / "today.parquet"
    for same in (old, tmp_path / "x" / ".." / "map.parquet", changes):
        with pytest.raises(OutputError, match="one of the layers to compare"):
            compare_maps(new, old, changes, CompareConfig(overwrite=True), overture=same)
    with pytest.raises(OutputError, match=r"suffix must be \.parquet"):
        compare_maps(new, old, changes, overture=tmp_path / "today.gpkg")
    today.write_bytes(kept)
    with pytest.raises(OutputError, match="not written by a prediction"):
        compare_maps(new, old, changes, overture=today)
    assert (old.read_bytes(), today.read_bytes()) == (kept, kept)
    assert not changes.exists()
    compare_maps(new, old, changes, CompareConfig(overwrite=True), overture=today)
    compare_maps(new, old, changes, overture=today)  # its own result is replaced
    assert len(gpd.read_parquet(today)) == 50


@pytest.mark.parametrize("edited", ["changes.gpkg", "today.parquet"])
def test_results_that_are_edited_during_the_comparison_are_kept(
    tmp_path: Path, town: NDArray[np.object_], monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    new = write(tmp_path / "new.gpkg", town[:50], "n")
    old = write(tmp_path / "map.gpkg", town[:50], "m")
    changes, today = tmp_path / "changes.gpkg", tmp_path / "today.parquet"
    compare_maps(new, old, changes, overture=today)
    before = {path: path.read_bytes() for path in (changes, today)}

    def edit(*words: Any, **options: Any) -> Any:
        (tmp_path / edited).write_bytes(b"mine")
        return match_buildings(*words, **options)

    monkeypatch.setattr(map_changes, "match_buildings", edit)
    with pytest.raises(OutputError, match=f"{edited} exists and was not written by"):
        compare_maps(new, old, changes, overture=today)
    after = {path: path.read_bytes() for path in (changes, today)}
    assert after == before | {tmp_path / edited: b"mine"}
