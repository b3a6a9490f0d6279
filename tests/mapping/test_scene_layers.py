"""Footprints are found where a prediction left them, with what lies beside them."""

from pathlib import Path

import pytest

from rhm.errors import CatalogError
from rhm.mapping.scene_layers import find_layers
from tests.mapping.towns import ground, write_town_scene

HOUSE = [(ground(10, 10, 20, 20), 0.9)]
EXTENT = (0.0, 0.0, 40.0, 40.0)


def test_a_folder_gives_each_scene_once(tmp_path: Path) -> None:
    write_town_scene(tmp_path, "b", EXTENT, HOUSE, date="2024-05-01")
    write_town_scene(tmp_path, "a", EXTENT, HOUSE, mask=False)
    write_town_scene(tmp_path, "a", EXTENT, HOUSE, mask=False, suffix=".geojson")
    first, second = find_layers([str(tmp_path)])
    assert (first.name, first.mask, first.date) == ("a", None, None)
    assert first.vectors == tmp_path / "a_buildings.gpkg"
    assert (second.name, second.date) == ("b", "2024-05-01")
    assert second.mask == tmp_path / "b_mask.tif"
    assert find_layers([str(tmp_path), str(tmp_path / "b_*.gpkg")]) == [first, second]


def test_scenes_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    files = [write_town_scene(tmp_path / x, "visual", EXTENT, HOUSE) for x in ("north", "south")]
    names = [layer.name for layer in find_layers(map(str, files[::-1]))]
    assert names == ["north_visual", "south_visual"]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    for word, match in (
        (".", "has no footprints"),
        ("x*.gpkg", "no file matches"),
        ("x", "no such"),
    ):
        with pytest.raises(CatalogError, match=match):
            find_layers([str(tmp_path / word)])
