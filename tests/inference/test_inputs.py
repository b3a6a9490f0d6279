"""The ways in which a user can name scenes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from rhm.data.layouts.registry import index_folder
from rhm.errors import CatalogError
from rhm.inference.inputs import find_named_scenes, find_scenes, stem_of
from rhm.inference.tiling.storage import FINGERPRINT
from tests.data.imagery import noise, write_raster
from tests.web import served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a folder of two images and two rasters that a prediction wrote."""
    root = tmp_path / "town" / "images"
    root.mkdir(parents=True)
    for name in ("a", "b", "a_probability", "a_mask"):
        path = write_raster(root / f"{name}.tif", noise(8, 8))
        if len(name) > 1:
            with rasterio.open(path, "r+") as raster:
                raster.update_tags(**{FINGERPRINT: "of a prediction"})
    return root


def test_files_folders_and_patterns(folder: Path) -> None:
    both = [str(folder / "a.tif"), str(folder / "b.tif")]
    assert find_scenes([str(folder)]) == both
    assert find_scenes([str(folder / "?.tif")]) == both
    assert find_scenes([str(folder.parent / "**" / "[ab].tif")]) == both
    assert find_scenes([both[1], both[0], both[1]]) == both[::-1]
    land = write_raster(folder / "land_mask.tif", noise(8, 8))  # a scene, by its name's leave
    assert find_scenes([str(folder)]) == [*both, str(land)]
    odd = folder / "c[1].tif"
    odd.write_bytes(Path(both[0]).read_bytes())
    assert find_scenes([str(odd)]) == [str(odd)]


def test_a_catalog_names_its_images(folder: Path, tmp_path: Path) -> None:
    masks = folder.parent / "masks"
    masks.mkdir()
    for image in folder.iterdir():
        write_raster(masks / image.name, np.zeros((8, 8, 1), np.uint8))
    index_folder(folder.parent).save(tmp_path / "catalog.parquet")
    found = find_scenes([str(tmp_path / "catalog.parquet")])
    assert sorted(found) == sorted(map(str, folder.iterdir()))
    named = find_named_scenes([str(tmp_path / "catalog.parquet")])
    assert not any(scene.black_is_nodata for scene in named)
    index_folder(folder.parent, black_is_nodata=True).save(tmp_path / "black.parquet")
    black = str(tmp_path / "black.parquet")
    for names in ([black], [str(folder), black], [black, str(folder)]):
        named = find_named_scenes(names)
        assert len(named) == len(found)
        assert all(scene.black_is_nodata for scene in named)
    with pytest.raises(CatalogError, match="make one with `rhm data index`"):
        find_scenes([str(tmp_path / "nothing.parquet")])
    folder.rename(tmp_path / "town.parquet")
    assert len(find_scenes([str(tmp_path / "town.parquet")])) == 2


def test_what_is_not_a_local_file_is_left_to_gdal() -> None:
    named = ["/vsizip/scenes.zip/x.tif", "s3://bucket/y.tif", "https://a.org/z.tif?token=1.2/3"]
    assert find_scenes(named) == named
    assert [stem_of(each) for each in named] == ["x", "y", "z"]


def item(assets: Any, name: str = "one") -> dict[str, Any]:
    return {"type": "Feature", "id": name, "assets": assets}


TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"


def test_stac_items_name_their_image(tmp_path: Path) -> None:
    path = tmp_path / "items.json"
    scenes = {
        "thumbnail": {"href": "./t.png", "type": "image/png"},
        "visual": {"href": "./a.tif", "type": TIFF},
        "nir": {"href": "./n.tif", "type": TIFF},
    }
    alone = {"B1": {"href": "https://a.org/b.tif", "type": TIFF}}
    path.write_text(json.dumps({"features": [item(scenes), item(alone, "two")]}))
    assert find_scenes([str(path)]) == [str(tmp_path / "a.tif"), "https://a.org/b.tif"]
    path.write_text(json.dumps(item(scenes)))
    assert find_scenes([str(path)], asset="nir") == [str(tmp_path / "n.tif")]
    del scenes["visual"]
    scenes["red"] = {"href": "r.tif", "type": TIFF}
    path.write_text(json.dumps(item(scenes)))
    with pytest.raises(CatalogError, match="--asset: thumbnail, nir, red"):
        find_scenes([str(path)])
    with pytest.raises(CatalogError, match="--asset"):
        find_scenes([str(path)], asset="swir")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        '"x"',
        "{}",
        '{"features": []}',
        '{"features": 3}',
        '{"features": [3]}',
        '{"assets": {}}',
        '{"assets": {"a": 3}}',
        '{"assets": {"a": {"type": 3}}}',
        '{"assets": {"visual": {"type": "image/tiff"}}}',
        '{"assets": {"visual": {"type": "image/tiff", "href": 3}}}',
        "[" * 100_000,
        "\x00",
    ],
)
def test_what_is_no_stac_item_is_said_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "items.json"
    path.write_text(text)
    with pytest.raises(CatalogError) as caught:
        find_scenes([str(path)])
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no file matches"):
        find_scenes([str(folder / "z*.tif")])
    with pytest.raises(CatalogError, match="no such file"):
        find_scenes([str(folder / "z.tif")])


def test_scenes_of_one_name_get_names_of_their_own(folder: Path) -> None:
    """Before, they were refused, because their results had the same names."""
    other = "/vsizip/other.zip/a.tif"
    scenes = find_named_scenes([str(folder / "a.tif"), other, str(folder / "b.tif")])
    assert [scene.name for scene in scenes] == ["images_a", "other.zip_a", "b"]
    assert find_scenes([str(folder / "a.tif"), f"{folder}/../images/a.tif"]) == [
        str(folder / "a.tif")
    ]


def test_an_address_is_a_raster_or_a_document(tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    here = {"visual": {"href": "../a.tif", "type": TIFF}}
    (tmp_path / "items" / "one").write_text(json.dumps(item(here)))
    (tmp_path / "items" / "S2.SAFE_1.0").write_text(json.dumps(item(here)))
    (tmp_path / "download").write_bytes(b"II*\0")
    with served(tmp_path) as root:
        for name in ("one", "S2.SAFE_1.0"):
            assert find_scenes([f"{root}items/{name}"]) == [f"{root}a.tif"]
        assert find_scenes(["http://[bad/x.tif"]) == ["http://[bad/x.tif"]
        assert find_scenes([f"{root}download"]) == [f"{root}download"]
        assert find_scenes([f"{root}nothing"]) == [f"{root}nothing"]
        with pytest.raises(
            CatalogError, match=r"nothing\.json cannot be read: the server answers 404"
        ):
            find_scenes([f"{root}nothing.json?token=secret"])


def test_a_pattern_that_matches_results_only_has_no_scene(folder: Path) -> None:
    assert find_scenes([str(folder / "*.tif")]) == [str(folder / "a.tif"), str(folder / "b.tif")]
    with pytest.raises(CatalogError, match=r"all that matches .*_mask\.tif was written by a pred"):
        find_scenes([str(folder / "*_mask.tif")])


@pytest.mark.parametrize("name", ["a\nb.tif", "a\r.tif", "a\u2028b.tif"])
def test_a_line_break_in_the_name_of_a_scene_is_refused(tmp_path: Path, name: str) -> None:
    scene = tmp_path / name
    scene.write_bytes(b"")
    for word in (scene, tmp_path / "*.tif", tmp_path):
        with pytest.raises(CatalogError, match="has a line break in its name") as error:
            find_scenes([str(word)])
        assert str(error.value).isprintable()


def test_an_asset_is_chosen_from_documents_only(folder: Path, tmp_path: Path) -> None:
    for named in ([str(folder)], []):
        with pytest.raises(CatalogError, match="asset 'nir' can only be chosen from STAC documen"):
            find_scenes(named, asset="nir")
    path = tmp_path / "item.json"
    path.write_text(json.dumps(item({"nir": {"href": "./n.tif", "type": TIFF}})))
    both = [str(folder / "a.tif"), str(path)]
    assert find_scenes(both, asset="nir") == [both[0], str(tmp_path / "n.tif")]
