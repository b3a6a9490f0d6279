"""``rhm merge-footprints`` and ``rhm predict --merge``."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from tests.mapping.towns import ground, write_town_scene

Rhm = Callable[..., tuple[int, str, str]]


def test_folders_of_results_become_one_layer(rhm: Rhm, tmp_path: Path) -> None:
    house = [(ground(40, 10, 60, 20), 0.9)]
    write_town_scene(tmp_path / "p", "a", (0, 0, 50, 50), house)
    write_town_scene(tmp_path / "p", "b", (50, 0, 100, 50), house)
    target = tmp_path / "town.gpkg"
    code, printed, _ = rhm("merge-footprints", tmp_path / "p", "-o", target)
    assert code == 0
    assert printed.startswith(f"1 building in {target} (1 joined")
    assert gpd.read_file(target).area.tolist() == [200.0]
    assert not target.with_suffix(".qml").exists()
    assert rhm("merge-footprints", tmp_path / "p", "-o", target, "--styles")[0] == 0
    assert "graduatedSymbol" in target.with_suffix(".qml").read_text()
    code, printed, _ = rhm("merge-footprints", tmp_path / "p", "-o", tmp_path / "t", "--json")
    assert code == 0
    assert json.loads(printed)["count"] == 1
    code, _, said = rhm("merge-footprints", tmp_path / "p", "-o", target, "--crs", "moon")
    assert code == 2
    assert "no coordinate reference system" in said
    code, _, said = rhm("merge-footprints", tmp_path / "p", "-o", target / "below.gpkg")
    assert (code, said) == (2, f"rhm: cannot write to {target}: it is not a folder\n")


def test_the_style_is_there_when_the_result_is_told(
    rhm: Rhm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may read it, and the command ends there."""
    write_town_scene(tmp_path / "p", "a", (0, 0, 50, 50), [(ground(10, 10, 30, 20), 0.9)])
    target = tmp_path / "town.gpkg"

    def unread(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("rhm.cli.commands.merge_footprints.emit", unread)
    with pytest.raises(SystemExit):
        rhm("merge-footprints", tmp_path / "p", "-o", target, "--styles")
    assert target.with_suffix(".qml").is_file()


def test_predict_merges_scenes_of_one_name(
    rhm: Rhm, trained: Path, world: Path, tmp_path: Path
) -> None:
    with rasterio.open(world / "scenes" / "birch_satellite.tif") as source:
        profile, pixels = source.profile, source.read()
    for number, part in enumerate((np.s_[:, :200, :200], np.s_[:, 100:300, :200])):
        path = tmp_path / f"day{number}" / "visual.tif"
        path.parent.mkdir()
        with rasterio.open(path, "w", **(profile | {"height": 200, "width": 200})) as target:
            target.write(pixels[part])
    town = tmp_path / "town.gpkg"
    words = ["predict", trained, tmp_path / "*" / "visual.tif", "-o", tmp_path / "out"]
    code, printed, said = rhm(*words, "--merge", town, "--json", "--threshold", "0.4", "--styles")
    assert code == 0, said
    assert len(list((tmp_path / "out").glob("*.qml"))) == 6
    assert town.with_suffix(".qml").is_file()
    values = json.loads(printed)
    assert {Path(each["buildings"]).name for each in values["scenes"]} == {
        "day0_visual_buildings.gpkg",
        "day1_visual_buildings.gpkg",
    }
    assert values["merged"]["count"] == len(gpd.read_file(town))
