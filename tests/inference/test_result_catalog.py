"""Results as a STAC catalog; oracle: pystac, which reads and validates what was written."""

import json
import os
import shutil
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import rasterio
import shapely

from rhm.cli.main import run
from rhm.errors import ConfigError, OutputError
from rhm.inference.layers.vector_files import FORMATS
from rhm.inference.prediction import Prediction
from rhm.inference.result_catalog import MEDIA_TYPES, check_catalog, item_file, write_catalog
from rhm.inference.scenes import predict_raster
from tests.data.imagery import write_raster
from tests.inference.test_prediction import Bright
from tests.web import served

pystac = pytest.importorskip("pystac")

UTM = "EPSG:32633"


@pytest.fixture
def scenes(tmp_path: Path, houses: np.ndarray) -> list[tuple[str, Prediction]]:
    """Two scenes side by side, of which the first says its day, and one that has no place."""
    found = []
    for number, name in enumerate(("west", "east", "nowhere")):
        path = tmp_path / "scenes" / f"{name}.tif"
        path.parent.mkdir(exist_ok=True)
        crs = None if name == "nowhere" else UTM
        write_scene(path, houses, crs, 500_000.0 + 150.0 * number)
        found.append((str(path), predict_raster(Bright(), path, tmp_path / "out")))
    return found


def write_scene(path: Path, pixels: np.ndarray, crs: str | None = None, left: float = 0.0) -> None:
    transform = rasterio.Affine(0.5, 0, left, 0, -0.5, 5_800_000.0)
    write_raster(path, pixels, crs=crs, transform=transform)
    if path.stem == "west":
        with rasterio.open(path, "r+") as raster:
            raster.update_tags(TIFFTAG_DATETIME="2024:05:06 07:08:09")


def valid(path: Path) -> Any:
    """Return a catalog after validation by the schemas that come with pystac."""
    collection = pystac.Collection.from_file(str(path))
    for each in (collection, *collection.get_items()):
        each.stac_extensions = []  # their schemas are on the network
        each.validate()
    return collection


def test_the_catalog_is_valid_and_leads_to_all_files(
    scenes: list[tuple[str, Prediction]], tmp_path: Path
) -> None:
    written = write_catalog(scenes)
    assert (written.items, written.undated, written.unplaced) == (3, 2, 1)
    moved = shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    collection = valid(Path(moved) / "collection.json")
    items = {item.id: item for item in collection.get_items()}
    assert list(items) == ["east", "nowhere", "west"]
    for item in items.values():
        assert item.get_collection().id == collection.id
        for asset in item.get_assets().values():
            assert Path(asset.get_absolute_href()).is_file()
    west = items["west"]
    assert west.properties["rhm:buildings"] == scenes[0][1].count
    assert west.common_metadata.start_datetime.isoformat() == "2024-05-06T00:00:00+00:00"
    assert west.common_metadata.end_datetime.isoformat() == "2024-05-06T23:59:59+00:00"
    # 150 m at 52 degrees north.
    assert west.bbox[2] - west.bbox[0] == pytest.approx(150 / 68_700, rel=0.01)
    assert west.properties["proj:code"] == UTM
    assert west.properties["proj:shape"] == [200, 300]
    with rasterio.open(west.assets["mask"].get_absolute_href()) as mask:
        assert west.properties["proj:transform"] == list(mask.transform)
    (extent,) = collection.extent.spatial.bboxes
    assert extent == pytest.approx([*west.bbox[:2], items["east"].bbox[2], west.bbox[3]], abs=1e-5)
    assert items["nowhere"].bbox is None
    (source,) = west.get_links("derived_from")
    assert (Path(moved) / source.href).resolve() == Path(scenes[0][0]).resolve()


def test_items_of_earlier_predictions_stay_until_their_results_are_gone(
    scenes: list[tuple[str, Prediction]],
) -> None:
    assert write_catalog(scenes[:1]).items == 1
    assert write_catalog(scenes[1:]).items == 3
    scenes[0][1].mask.unlink()
    assert write_catalog(scenes[1:]).items == 2


def test_files_of_others_stay(scenes: list[tuple[str, Prediction]]) -> None:
    mask = scenes[0][1].mask
    for path in (mask.with_name("collection.json"), item_file(mask)):
        for content in ('{"type": "Collection"}', "[]", "", "[" * 10_000):
            path.write_text(content)
            with pytest.raises(OutputError, match="not written by rhm"):
                write_catalog(scenes)
            assert path.read_text() == content
        path.unlink()
    write_catalog(scenes)
    item = json.loads(item_file(mask).read_text())
    for changes in (
        {"bbox": [1, 2]},
        {"bbox": "1234"},
        {"bbox": [[], 1, 2, 3]},
        {"bbox": [0, 0, 1e999, 1]},
        {"properties": {"rhm:version": 1}},
        {"properties": item["properties"] | {"start_datetime": "2020-01-01"}},
        {"properties": item["properties"] | {"end_datetime": 3}},
    ):
        item_file(mask).write_text(json.dumps(item | changes))
        # Before anything is predicted.
        with pytest.raises(OutputError, match="was changed since"):
            check_catalog(mask.parent, [scenes[1][1].mask])


def test_neither_links_nor_pipes_are_read(scenes: list[tuple[str, Prediction]]) -> None:
    mask = scenes[0][1].mask
    os.mkfifo(mask.with_name("zz_item.json"))
    mask.with_name("zz_mask.tif").touch()
    assert write_catalog(scenes).items == 3
    item_file(mask).unlink()
    item_file(mask).symlink_to(item_file(scenes[1][1].mask))
    with pytest.raises(OutputError, match="not written by rhm"):
        write_catalog(scenes)


@pytest.mark.parametrize("name", ["a b#1 50%25 \u00e9?", "my_item.json", "x_mask.tif"])
def test_names_of_any_kind_are_found_again(name: str, tmp_path: Path, houses: np.ndarray) -> None:
    scene = tmp_path / f"{name}.tif"
    write_scene(scene, houses, UTM)
    found = predict_raster(Bright(), scene, tmp_path / "out", tile=256)
    assert write_catalog([(str(scene), found)]).items == 1
    with served(tmp_path) as root:
        collection = pystac.Collection.from_file(f"{root}out/collection.json")
        (item,) = collection.get_items()
        for asset in item.get_assets().values():
            with urlopen(asset.get_absolute_href()) as answer:  # noqa: S310
                assert answer.status == 200
        (source,) = item.get_links("derived_from")
        with urlopen(source.get_absolute_href()) as answer:  # noqa: S310
            assert answer.read(2) in (b"II", b"MM")


def test_a_scene_on_the_web_is_named_by_its_address_without_its_secrets(
    scenes: list[tuple[str, Prediction]],
) -> None:
    (_, found), *_ = scenes
    for scene, place in [
        ("https://user:word@a.org/b/west.tif?sig=secret", "https://a.org/b/west.tif"),
        ("/vsizip//data/z.zip/west.tif", "/vsizip//data/z.zip/west.tif"),
    ]:
        write_catalog([(scene, found)])
        (link,) = pystac.Item.from_file(str(item_file(found.mask))).get_links("derived_from")
        assert link.href == place
        assert "secret" not in item_file(found.mask).read_text()


@pytest.mark.parametrize(
    ("crs", "left", "top", "pixel"),
    [("EPSG:4326", 179.9997, -16.0, 4.5e-6), ("EPSG:32760", 821_025.0, 8_228_746.0, 0.5)],
)
def test_a_scene_across_the_antimeridian_is_cut_there(
    tmp_path: Path, houses: np.ndarray, crs: str, left: float, top: float, pixel: float
) -> None:
    transform = rasterio.Affine(pixel, 0, left, 0, -pixel, top)
    write_raster(tmp_path / "fiji.tif", houses, crs=crs, transform=transform)
    found = predict_raster(Bright(), tmp_path / "fiji.tif", tmp_path / "out", tile=256)
    written = write_catalog([("fiji.tif", found)])
    (item,) = valid(written.collection).get_items()
    west, _, east, _ = item.bbox
    assert 179.99 < west < 180.0
    assert -180.0 < east < -179.99
    assert item.geometry["type"] == "MultiPolygon"
    outline = shapely.geometry.shape(item.geometry)
    assert outline.is_valid
    assert outline.area < 1e-5
    assert valid(written.collection).extent.spatial.bboxes[0][::2] == [-180.0, 180.0]


def test_a_scene_round_a_pole_is_at_all_longitudes(tmp_path: Path, houses: np.ndarray) -> None:
    transform = rasterio.Affine(1.0, 0, -150.0, 0, -1.0, 110.0)
    write_raster(tmp_path / "ice.tif", houses, crs="EPSG:3031", transform=transform)
    found = predict_raster(Bright(), tmp_path / "ice.tif", tmp_path / "out", tile=256)
    (item,) = valid(write_catalog([("ice.tif", found)]).collection).get_items()
    west, south, east, north = item.bbox
    assert (west, south, east) == (-180.0, -90.0, 180.0)
    assert north < -89.9
    assert shapely.geometry.shape(item.geometry).is_valid


def test_without_the_package_nothing_is_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rhm.inference.result_catalog.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'rhm\[stac\]'"):
        check_catalog(tmp_path, [])


def test_every_format_has_a_media_type() -> None:
    assert MEDIA_TYPES.keys() == FORMATS.keys()


def test_the_command_writes_the_catalog_and_says_what_is_unknown(
    tmp_path: Path, houses: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scene(tmp_path / "west.tif", houses, UTM)
    write_scene(tmp_path / "east.tif", houses, UTM, 150.0)
    out = tmp_path / "out"
    words = ["predict", "starter", str(tmp_path / "west.tif"), str(tmp_path / "east.tif")]
    words += ["-o", str(out), "--tile", "256", "--stac"]
    out.mkdir()
    (out / "collection.json").write_text("{}")
    assert run(words) == 2
    assert os.listdir(out) == ["collection.json"]
    (out / "collection.json").unlink()
    assert run([*words, "--json"]) == 0
    told = capsys.readouterr()
    assert "1 of 2 scenes do not say when" in told.err
    assert len(json.loads(told.out)["scenes"]) == 2
    assert len(list(valid(out / "collection.json").get_items())) == 2
