"""Scenes have different names, which do not depend on their order."""

import os
from itertools import permutations

import pytest

from rhm.inference.scene_lists.scene_names import (
    NamedScene,
    name_of,
    safe_name,
    with_distinct_names,
)


def names(*scenes: NamedScene) -> list[str]:
    return [scene.name for scene in with_distinct_names(scenes)]


def of(path: str, item: str | None = None) -> NamedScene:
    return NamedScene(path, NamedScene.of(path).name, item=item)


def test_a_scene_is_a_path_with_a_name() -> None:
    scene = NamedScene("/data/a.tif", "b")
    assert os.fspath(scene) == "/data/a.tif"
    assert name_of(scene) == "b"
    assert name_of("/data/a.tif") == "a"


def test_different_files_keep_their_names() -> None:
    assert names(of("/x/a.tif"), of("/x/b.tif", "item")) == ["a", "b"]


def test_items_name_scenes_of_one_name() -> None:
    assert names(of("/1/visual.tif", "S2A_1"), of("/2/visual.tif", "S2A_2")) == ["S2A_1", "S2A_2"]


def test_folders_name_the_others_by_as_few_as_tell_all_apart() -> None:
    scenes = [of("/t/1/img/visual.tif"), of("/t/2/img/visual.tif"), of("/t/a.tif")]
    assert names(*scenes) == ["1_img_visual", "2_img_visual", "a"]
    addresses = [of("https://a.org/1/v.tif"), of("s3://b/2/v.tif")]
    assert names(*addresses) == ["1_v", "2_v"]


def test_the_order_does_not_matter_and_a_clash_is_settled() -> None:
    scenes = [of("/a/b/v.tif"), of("/a_b/v.tif"), of("/x/v.tif"), of("/y/a_b_v.tif")]
    found = [dict(zip(order, names(*order), strict=True)) for order in permutations(scenes)]
    assert all(each == found[0] for each in found)
    assert len(set(found[0].values())) == len(scenes)


@pytest.mark.parametrize("text", ["../../etc/passwd", "..", "", "a\0b", "x" * 500, "ä/ö\\ü", "."])
def test_an_item_of_unknown_origin_cannot_lead_elsewhere(text: str) -> None:
    name = safe_name(text)
    assert 0 < len(name) <= 100
    assert not set(name) & set("/\\\0")
    assert not name.startswith(".")
