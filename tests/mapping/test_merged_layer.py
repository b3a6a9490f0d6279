"""One layer from many scenes: every building once, whole, and the same whatever the order."""

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pytest
import shapely

from rhm.errors import CatalogError, ConfigError, OutputError, VectorError
from rhm.inference.layers.vector_files import FORMATS, write_table
from rhm.mapping import layer_files, merged_layer
from rhm.mapping.merge_config import MergeConfig
from rhm.mapping.merged_layer import merge_layers
from rhm.mapping.merging import scene_parts
from rhm.mapping.scene_layers import SceneLayer
from tests.mapping.conftest import HOUSES
from tests.mapping.towns import UTM, ground, layers_in, read_layer_file, write_town_scene


def house_of(frame: gpd.GeoDataFrame, name: str) -> Any:
    """The only building that overlaps a house of the town."""
    (number,) = frame.index[frame.intersects(HOUSES[name].buffer(-1))]
    return frame.loc[number]


def test_every_house_is_there_once_and_whole(two_scenes: list[Path], tmp_path: Path) -> None:
    merged = merge_layers(layers_in(*two_scenes), tmp_path / "town.gpkg")
    town = read_layer_file(merged.path)
    assert merged.count == len(town) == len(HOUSES)
    assert merged.joined == 1
    assert merged.crs == UTM
    for name, shape in HOUSES.items():
        assert house_of(town, name).geometry.equals_exact(shape, 1e-6) or shapely.equals(
            house_of(town, name).geometry, shape
        )
        assert house_of(town, name).area_m2 == pytest.approx(shape.area, rel=1e-3)
    assert house_of(town, "both").scene == "west"  # the higher score
    assert house_of(town, "both").date == "2024-05-01"
    assert house_of(town, "cut by west").scene == "east"  # whole there
    assert house_of(town, "cut by west").score == pytest.approx(0.7)
    assert pd.isna(house_of(town, "only east").date)
    assert house_of(town, "too long for both").parts == 2
    assert 0.7 < house_of(town, "too long for both").score < 0.9
    assert town["id"].is_unique
    assert not list(tmp_path.glob(".town*"))  # nothing is left of the work


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb", ".geojson"])
def test_the_bytes_do_not_depend_on_order_or_readers(
    two_scenes: list[Path], tmp_path: Path, suffix: str
) -> None:
    one, other = tmp_path / f"one{suffix}", tmp_path / f"other{suffix}"
    merge_layers(layers_in(*two_scenes), one)
    merge_layers(layers_in(*two_scenes)[::-1], other, MergeConfig(readers=3))
    assert one.read_bytes() == other.read_bytes()
    assert len(read_layer_file(one)) == len(HOUSES)


def test_identifiers_stay_when_other_scenes_are_added(
    two_scenes: list[Path], tmp_path: Path
) -> None:
    alone = read_layer_file(merge_layers(layers_in(two_scenes[0]), tmp_path / "a.gpkg").path)
    town = read_layer_file(merge_layers(layers_in(*two_scenes), tmp_path / "b.gpkg").path)
    for name in ("only west", "both"):
        assert house_of(alone, name).id == house_of(town, name).id


def test_scenes_that_meet_without_overlap_are_joined_at_a_border_but_not_at_a_corner(
    tmp_path: Path,
) -> None:
    across, corner = ground(45, 10, 55, 20), ground(40, 40, 50, 50)
    diagonal = ground(50, 50, 60, 60)  # touches the other in one point
    shapes = [(across, 0.8), (corner, 0.8), (diagonal, 0.8)]
    files = [
        write_town_scene(tmp_path, f"s{left}{top}", (left, top, left + 50, top + 50), shapes)
        for left in (0, 50)
        for top in (0, 50)
    ]
    town = read_layer_file(merge_layers(layers_in(*files), tmp_path / "town.gpkg").path)
    assert len(town) == 3
    for shape in (across, corner, diagonal):
        assert any(shapely.equals(found, shape) for found in town.geometry)


def test_neighbours_that_different_scenes_cut_stay_apart(tmp_path: Path) -> None:
    """Two houses share a wall; each is cut by the border of the other's scene."""
    left, right = ground(50, 10, 80, 20), ground(80, 10, 110, 20)
    shapes = [(left, 0.8), (right, 0.8)]
    files = [
        write_town_scene(tmp_path, "a", (0, 0, 90, 40), shapes),
        write_town_scene(tmp_path, "b", (70, 0, 160, 40), shapes),
    ]
    town = read_layer_file(merge_layers(layers_in(*files), tmp_path / "town.gpkg").path)
    assert sorted(found.area for found in town.geometry) == pytest.approx([300.0, 300.0])


def test_buildings_of_different_scenes_do_not_overlap(tmp_path: Path) -> None:
    ours, theirs = ground(70, 10, 85, 20), ground(82, 10, 95, 20)
    files = [
        write_town_scene(tmp_path, "a", (0, 0, 160, 40), [(ours, 0.9)]),
        write_town_scene(tmp_path, "b", (0, 0, 160, 40), [(theirs, 0.8)]),
    ]
    town = read_layer_file(merge_layers(layers_in(*files), tmp_path / "town.gpkg").path)
    assert len(town) == 2
    assert shapely.union_all(town.geometry.to_numpy()).area == pytest.approx(town.area.sum())
    assert sorted(town["area_m2"]) == pytest.approx([100.0, 150.0], rel=1e-3)


def test_a_part_does_not_replace_the_whole_but_many_parts_do(tmp_path: Path) -> None:
    hall, shed = ground(40, 40, 80, 80), ground(40, 40, 45, 45)
    extent = (0.0, 0.0, 160.0, 160.0)
    files = [
        write_town_scene(tmp_path / "1", "a", extent, [(hall, 0.8)]),
        write_town_scene(tmp_path / "1", "b", extent, [(shed, 0.9)]),
    ]
    town = read_layer_file(merge_layers(layers_in(*files), tmp_path / "town.gpkg").path)
    assert [found.area for found in town.geometry] == [1600.0]
    row = [(ground(40 + 10 * k, 40, 50 + 10 * k, 80), 0.9) for k in range(4)]
    files[1] = write_town_scene(tmp_path / "2", "b", extent, row)
    town = read_layer_file(merge_layers(layers_in(*files), tmp_path / "town.gpkg").path)
    assert [found.area for found in town.geometry] == [400.0] * 4


def test_a_house_that_gave_way_to_one_that_is_left_out_is_there(tmp_path: Path) -> None:
    """Near its border, west gives way to east, where two houses run together, and west's count."""
    first, second = ground(63, 50, 82, 62), ground(83, 50, 93, 62)
    together = ground(63, 50, 93, 62)
    west = write_town_scene(tmp_path, "west", (0, 0, 100, 100), [(first, 0.70), (second, 0.69)])
    east = write_town_scene(tmp_path, "east", (40, 0, 200, 100), [(together, 0.68)])
    merged = merge_layers(layers_in(west, east), tmp_path / "town.gpkg")
    town = read_layer_file(merged.path).geometry
    assert len(town) == merged.count == 2
    for house in (first, second):
        assert any(shapely.equals(each, house) for each in town)


def test_what_is_near_a_border_counts_less_than_what_another_scene_sees_there(
    tmp_path: Path,
) -> None:
    ghost, house = ground(92, 30, 97, 40), ground(130, 60, 140, 70)
    files = [
        write_town_scene(tmp_path, "a", (0, 0, 100, 100), [(ghost, 0.99)]),
        write_town_scene(tmp_path, "b", (40, 0, 200, 100), [(house, 0.7)]),
    ]
    town = read_layer_file(merge_layers(layers_in(*files), tmp_path / "town.gpkg").path)
    assert town["scene"].tolist() == ["b"]


def test_layers_in_different_systems_become_one_in_degrees(
    two_scenes: list[Path], tmp_path: Path
) -> None:
    shape = HOUSES["only west"]
    other = write_town_scene(
        tmp_path / "more", "north", (0, 0, 60, 60), [(shape, 0.95)], crs="EPSG:32634"
    )
    merged = merge_layers(layers_in(*two_scenes, other), tmp_path / "town.gpkg")
    assert merged.crs == "EPSG:4326"
    assert merged.count == len(HOUSES)
    town = read_layer_file(merged.path)
    assert town.crs == "EPSG:4326"
    assert house_of(town.to_crs(UTM), "only west").scene == "north"
    asked = merge_layers(
        layers_in(*two_scenes, other), tmp_path / "town.gpkg", MergeConfig(crs="EPSG:3857")
    )
    assert read_layer_file(asked.path).crs == "EPSG:3857"


def test_a_folder_holds_one_file_for_each_place(tmp_path: Path) -> None:
    far = 30_000.0
    files = [
        write_town_scene(tmp_path / "p", "a", (0, 0, 60, 60), [(ground(20, 20, 30, 30), 0.9)]),
        write_town_scene(
            tmp_path / "p", "b", (far, 0, far + 60, 60), [(ground(far + 9, 9, far + 19, 19), 0.9)]
        ),
    ]
    folder = tmp_path / "town"
    merged = merge_layers(layers_in(*files), folder)
    tiles = sorted(folder.glob("*.parquet"))
    assert merged.count == len(tiles) == 2
    index = json.loads((folder / "tiles.json").read_text())
    assert index == {"crs": UTM, "tiles": {path.stem: 1 for path in tiles}}
    assert sorted(gpd.read_parquet(path)["scene"].item() for path in tiles) == ["a", "b"]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    merge_layers(layers_in(*files), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (folder / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"notes\.txt was not written by a merge"):
            merge_layers(layers_in(*files), folder, MergeConfig(overwrite=overwrite))
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_folder_that_a_link_names_is_written_where_the_link_leads(
    two_scenes: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "disk" / "town").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk" / "town")
    for _ in range(2):
        assert merge_layers(layers_in(*two_scenes), link).count > 0
        assert link.is_symlink()
        assert (tmp_path / "disk" / "town" / "tiles.json").is_file()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["town"]


def test_a_file_that_appears_during_the_merge_is_not_lost(
    two_scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "town"
    merge_layers(layers_in(*two_scenes), folder)
    real: Any = write_table

    def slowly(*words: Any, **more: Any) -> int:
        (folder / "notes.txt").write_text("mine")
        count: int = real(*words, **more)
        return count

    monkeypatch.setattr(layer_files, "write_table", slowly)
    with pytest.raises(OutputError, match=r"notes\.txt was not written by a merge"):
        merge_layers(layers_in(*two_scenes), folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".rhm-tiles")]


def test_a_tile_that_is_edited_during_the_merge_is_not_lost(
    two_scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "town"
    merge_layers(layers_in(*two_scenes), folder)
    (tile,) = folder.glob("*.parquet")
    real: Any = write_table

    def slowly(*words: Any, **more: Any) -> int:
        tile.write_bytes(tile.read_bytes() + b"mine")
        count: int = real(*words, **more)
        return count

    monkeypatch.setattr(layer_files, "write_table", slowly)
    with pytest.raises(OutputError, match="was edited after"):
        merge_layers(layers_in(*two_scenes), folder)
    assert tile.read_bytes().endswith(b"mine")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_is_edited_during_the_merge_is_not_lost(
    two_scenes: list[Path], tmp_path: Path, suffix: str
) -> None:
    target, layers = tmp_path / f"town{suffix}", layers_in(*two_scenes)
    merge_layers(layers, target)
    whole = target.read_bytes()

    def save(_: int) -> None:
        target.write_bytes(b"mine")

    with pytest.raises(OutputError, match=rf"town\{suffix} exists and was not written by"):
        merge_layers(layers, target, on_progress=save)
    assert target.read_bytes() == b"mine"
    merge_layers(layers, target, MergeConfig(overwrite=True, resume=True))
    assert target.read_bytes() == whole


@pytest.mark.parametrize("name", ["town.gpkg", "town.geojson", "town.parquet", "town"])
def test_scenes_without_buildings_give_an_empty_layer(tmp_path: Path, name: str) -> None:
    empty = write_town_scene(tmp_path / "p", "a", (0, 0, 60, 60), [])
    target = tmp_path / name
    for _ in range(2):
        assert merge_layers(layers_in(empty), target).count == 0
    if target.is_dir():
        assert json.loads((target / "tiles.json").read_text())["tiles"] == {}
    else:
        assert len(read_layer_file(target)) == 0


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb", ".geojson"])
def test_an_empty_file_is_replaced(two_scenes: list[Path], tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"town{suffix}"
    target.touch()
    merge_layers(layers_in(*two_scenes), target)
    assert len(read_layer_file(target)) == len(HOUSES)


def test_an_interrupted_merge_reads_only_what_it_had_not_read(
    two_scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, whole = tmp_path / "town.gpkg", tmp_path / "whole.gpkg"
    merge_layers(layers_in(*two_scenes), whole)
    real: Any = scene_parts.write_part
    read: list[str] = []

    def failing(layer: SceneLayer, *words: Any) -> None:
        read.append(layer.name)
        if len(read) == 2:
            raise KeyboardInterrupt
        real(layer, *words)

    monkeypatch.setattr(merged_layer, "write_part", failing)
    with pytest.raises(KeyboardInterrupt):
        merge_layers(layers_in(*two_scenes), target)
    assert not target.exists()
    merge_layers(layers_in(*two_scenes), target, MergeConfig(resume=True))
    assert read == ["east", "west", "west"]
    assert target.read_bytes() == whole.read_bytes()


def test_what_must_not_be_lost_is_not_replaced(two_scenes: list[Path], tmp_path: Path) -> None:
    layers = layers_in(*two_scenes)
    with pytest.raises(OutputError, match="one of the layers to merge"):
        merge_layers(layers, two_scenes[0])
    target = tmp_path / "town.gpkg"
    merge_layers(layers, target)
    merge_layers(layers, target)  # its own result is replaced
    read_layer_file(target).iloc[:1].to_file(target, layer="buildings")
    with pytest.raises(OutputError, match="was edited after"):
        merge_layers(layers, target)
    merge_layers(layers, target, MergeConfig(overwrite=True))
    with pytest.raises(OutputError, match="suffix must be one of"):
        merge_layers(layers, tmp_path / "town.shp")


@pytest.mark.parametrize("name", ["town.gpkg", "town.geojson", "town.parquet", "town"])
def test_a_layer_of_more_scenes_is_not_replaced(
    two_scenes: list[Path], tmp_path: Path, name: str
) -> None:
    layers, target = layers_in(*two_scenes), tmp_path / name
    merge_layers(layers[:1], target)
    merge_layers(layers, target)
    with pytest.raises(OutputError, match="has the buildings of west, which would be lost"):
        merge_layers(layers[:1], target)
    whole = merge_layers(layers, target).count
    assert 0 < merge_layers(layers[:1], target, MergeConfig(overwrite=True)).count < whole


@pytest.mark.parametrize("crs", ["EPSG:4978", "EPSG:5773", "EPSG:4979"])
def test_a_system_without_a_plane_is_refused(
    two_scenes: list[Path], tmp_path: Path, crs: str
) -> None:
    target = tmp_path / "town.gpkg"
    with pytest.raises(ConfigError, match="has no place for footprints"):
        merge_layers(layers_in(*two_scenes), target, MergeConfig(crs=crs))
    assert not target.exists()


@pytest.mark.filterwarnings("ignore")  # of GDAL, about the damaged file
def test_mistakes_are_said_in_one_line(two_scenes: list[Path], tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no footprints"):
        merge_layers([], tmp_path / "town.gpkg")
    with pytest.raises(ConfigError, match="no coordinate reference system"):
        merge_layers(layers_in(*two_scenes), tmp_path / "t.gpkg", MergeConfig(crs="Mars"))
    with pytest.raises(ConfigError, match="by definition"):
        merge_layers(layers_in(*two_scenes), tmp_path / "t.geojson", MergeConfig(crs=UTM))
    bad = tmp_path / "bad_buildings.gpkg"
    bad.write_bytes(b"SQLite format 3\0" + bytes(2000))
    with pytest.raises(VectorError, match="bad_buildings"):
        merge_layers(layers_in(bad), tmp_path / "t.gpkg")


def test_without_masks_nothing_is_joined_and_a_note_says_so(tmp_path: Path) -> None:
    shape = ground(95, 20, 105, 28)
    files = [
        write_town_scene(tmp_path, "a", (0, 0, 100, 80), [(shape, 0.9)], mask=False),
        write_town_scene(tmp_path, "b", (100, 0, 200, 80), [(shape, 0.9)], mask=False),
    ]
    merged = merge_layers(layers_in(*files), tmp_path / "town.gpkg")
    assert (merged.count, merged.joined) == (2, 0)
    assert "2 scenes have no mask" in merged.notes[0]
