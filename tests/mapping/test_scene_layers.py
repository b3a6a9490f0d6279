"""Footprints are found where a prediction left them, with what lies beside them."""

import os
from pathlib import Path

import numpy as np
import pytest

from rhm.errors import CatalogError
from rhm.inference import predict_raster
from rhm.inference.polygons import PolygonConfig
from rhm.mapping.merged_layer import merge_layers
from rhm.mapping.scene_layers import find_layers, layers_of
from tests.inference.scenes import Bright, write_scene
from tests.mapping.towns import ground, write_town_scene

HOUSE = [(ground(10, 10, 20, 20), 0.9)]
EXTENT = (0.0, 0.0, 40.0, 40.0)


def test_a_folder_gives_each_scene_once(tmp_path: Path) -> None:
    write_town_scene(tmp_path, "b", EXTENT, HOUSE, date="2024-05-01")
    newest = write_town_scene(tmp_path, "a", EXTENT, HOUSE, mask=False)
    older = write_town_scene(tmp_path, "a", EXTENT, HOUSE, mask=False, suffix=".geojson")
    os.utime(older, (0, newest.stat().st_mtime - 10))
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


def test_the_footprints_of_the_mask_are_merged_and_not_earlier_ones(tmp_path: Path) -> None:
    """Two houses, of which an earlier prediction in another format has only the brighter one."""
    pixels = np.full((100, 100, 3), 20, np.uint8)
    pixels[20:40, 30:50], pixels[60:80, 30:50] = 230, 115
    scene, out = write_scene(tmp_path / "x.tif", pixels), tmp_path / "out"
    few = predict_raster(Bright(), scene, out, polygons=PolygonConfig(0.5))
    all_of_them = PolygonConfig(0.1)
    found = predict_raster(Bright(), scene, out, polygons=all_of_them, suffix=".geojson")
    assert (few.count, found.count) == (1, 2)
    # Someone only looked at the earlier ones, or restored them from a copy.
    few.buildings.touch()
    (layer,) = find_layers([str(out)])
    assert layer.vectors == found.buildings
    merged = merge_layers([layer], tmp_path / "town.gpkg")
    assert merged.count == 2
    (note,) = merged.notes
    assert "x_buildings.gpkg is left out" in note
    # Who names the earlier ones gets them, and hears of it.
    named = merge_layers(layers_of([few.buildings]), tmp_path / "named.gpkg")
    assert (named.count, len(named.notes)) == (1, 1)
    assert "not from the prediction that wrote the mask" in named.notes[0]
    found.buildings.unlink()
    (layer,) = find_layers([str(out)])
    alone = merge_layers([layer], tmp_path / "alone.gpkg")
    assert (alone.count, alone.notes) == (1, named.notes)
