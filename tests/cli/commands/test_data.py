"""``rhm data``: catalogs of real files, and the properties of a raster."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio

from rhm.data import Catalog
from tests.data.imagery import write_raster

Rhm = Callable[..., tuple[int, str, str]]


def test_index_finds_the_world(rhm: Rhm, world: Path, tmp_path: Path) -> None:
    out = tmp_path / "catalog.parquet"
    words = ["data", "index", "folder", world, "-o", out, "--group-pattern", r"(\d+)$", "--json"]
    code, printed, _ = rhm(*words)
    assert code == 0
    domains = {row["domain"]: row for row in json.loads(printed)["domains"]}
    assert len(domains) == 4
    assert domains["birch_satellite"]["images"] == 6
    assert len(geopandas.read_parquet(out)) == 24
    code, printed, _ = rhm(*words[:-1])
    assert "24 images" in printed


def test_inspect_says_what_a_raster_is(rhm: Rhm, world: Path, trained: Path) -> None:
    scene = world / "scenes" / "birch_satellite.tif"
    code, printed, _ = rhm("data", "inspect", scene, "--model", trained, "--json")
    assert code == 0
    facts = json.loads(printed)["rasters"][0]
    assert facts["size"] == "160 x 160"
    assert facts["dtype"] == "uint16"
    assert facts["crs"] == "EPSG:32636"
    assert facts["nearest_domain"] == "alder_aerial"
    assert len(facts["distance"]) == 3
    code, printed, _ = rhm("data", "inspect", scene)
    assert code == 0
    assert "EPSG:32636" in printed


def test_labels_that_do_not_fit_are_one_line(rhm: Rhm, world: Path, tmp_path: Path) -> None:
    images, masks = tmp_path / "city" / "images", tmp_path / "city" / "masks"
    images.mkdir(parents=True)
    masks.mkdir()
    source = next((world / "alder_aerial" / "images").glob("*.tif"))
    (images / "a.tif").write_bytes(source.read_bytes())
    with rasterio.open(
        masks / "a.tif",
        "w",
        driver="GTiff",
        height=10,
        width=12,
        count=1,
        dtype="uint8",
        crs="EPSG:32633",
        transform=rasterio.Affine(1, 0, 5, 0, -1, 5),
    ) as mask:
        mask.write(np.zeros((1, 10, 12), np.uint8))
    out = tmp_path / "catalog.parquet"
    code, _, err = rhm("data", "index", "folder", tmp_path / "city", "-o", out)
    assert (code, err.count("\n")) == (2, 1)
    assert "12 x 10" in err
    assert "96 x 96" in err
    (masks / "a.tif").unlink()
    vectors = tmp_path / "city" / "footprints"
    vectors.mkdir()
    footprints = geopandas.read_file(next((world / "alder_aerial" / "footprints").glob("*.gpkg")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it has no CRS is the point
        footprints.set_crs(None, allow_override=True).to_file(vectors / "a.gpkg")
    code, _, err = rhm("data", "index", "folder", tmp_path / "city", "-o", out)
    assert (code, err.count("\n")) == (2, 1)
    assert "coordinate reference system" in err or "CRS" in err
    assert not out.exists()


def test_index_takes_the_values_of_buildings_and_says_what_looks_wrong(
    rhm: Rhm, world: Path, tmp_path: Path
) -> None:
    town, out = tmp_path / "town", tmp_path / "catalog.parquet"
    for number, source in enumerate(sorted((world / "alder_aerial" / "images").glob("*.tif"))[:2]):
        (town / "images").mkdir(parents=True, exist_ok=True)
        (town / "masks").mkdir(exist_ok=True)
        (town / "images" / f"{number}.tif").write_bytes(source.read_bytes())
        with rasterio.open(source) as image:
            profile = image.profile | {"count": 1, "dtype": "uint8", "nodata": None}
        classes = np.ones((1, 96, 96), np.uint8)
        classes[0, :40] = 2 - number
        with rasterio.open(town / "masks" / f"{number}.tif", "w", **profile) as mask:
            mask.write(classes)
    words = ["data", "index", "folder", town, "-o", out]
    code, _, err = rhm(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert "100% of its masks is building" in err
    assert not out.exists()
    code, _, err = rhm(*words, "--building-value", 2, "--building-value", 3)
    assert (code, err) == (0, "")
    assert list(geopandas.read_parquet(out)["building_values"]) == ["2 3", "2 3"]
    code, _, err = rhm("data", "index", "spacenet", town, "--building-value", 2)
    assert (code, "applies only to folder" in err) == (2, True)


def test_catalogs_are_joined_each_image_once(rhm: Rhm, world: Path, tmp_path: Path) -> None:
    parts = {"aerial": 2, "satellite": 3}
    for part, count in parts.items():
        folder = tmp_path / part / part
        (folder / "images").mkdir(parents=True)
        for image in sorted((world / f"birch_{part}" / "images").glob("*.tif"))[:count]:
            (folder / "images" / image.name).write_bytes(image.read_bytes())
        words = ["data", "index", "folder", tmp_path / part, "-o", tmp_path / f"{part}.parquet"]
        assert rhm(*words)[0] == 0
    named = [tmp_path / f"{part}.parquet" for part in (*parts, "aerial")]
    out = tmp_path / "all.parquet"
    code, printed, _ = rhm("data", "merge", *named, "-o", out, "--json")
    assert code == 0
    assert {row["domain"]: row["images"] for row in json.loads(printed)["domains"]} == parts
    joined = Catalog.load(out)
    assert [tile.image.exists() for tile in joined.tiles] == [True] * 5
    once = Catalog.load(named[0])
    assert once.frame["split"].tolist() == joined.select(domains=["aerial"]).frame["split"].tolist()


def test_catalogs_that_contradict_each_other_are_not_joined(
    rhm: Rhm, catalog_path: Path, tmp_path: Path
) -> None:
    catalog = Catalog.load(catalog_path)
    other, out = tmp_path / "other.parquet", tmp_path / "all.parquet"
    Catalog(catalog.frame.assign(split="test")).save(other)
    code, printed, told = rhm("data", "merge", catalog_path, other, "-o", out)
    assert (code, printed, told.count("\n")) == (2, "", 1)
    assert "with different labels, domains, groups, splits, metres per pixel, nodata" in told
    assert not out.exists()
    # Other images of the same ground: nobody but the user can know.
    moved = catalog.frame.assign(split="test", image=catalog.frame["image"] + ".other.tif")
    Catalog(moved).save(other)
    code, _, told = rhm("data", "merge", catalog_path, other, "-o", out)
    assert code == 0
    assert "if it is the same ground" in told


def test_patterns_and_folders_are_inspected(rhm: Rhm, world: Path, tmp_path: Path) -> None:
    folder = world / "birch_satellite" / "images"
    count = len(list(folder.glob("*.tif")))
    for words in ([folder], [f"{folder}/*.tif"]):
        code, printed, _ = rhm("data", "inspect", *words, "--json")
        assert (code, len(json.loads(printed)["rasters"])) == (0, count)
    code, _, told = rhm("data", "inspect", f"{tmp_path}/*.tif")
    assert (code, told.strip()) == (2, f"rhm: no file matches {tmp_path}/*.tif")


def test_rasters_that_cannot_be_read_do_not_hide_the_others(
    rhm: Rhm, world: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.tif").write_text("not a raster")
    (tmp_path / "torn.tif").write_bytes(b"II*\0")
    good = sorted((world / "birch_satellite" / "images").glob("*.tif"))[:2]
    files = [good[0], tmp_path / "text.tif", good[1]]
    code, printed, told = rhm("data", "inspect", *files, "--json")
    assert (code, told.count("\n")) == (2, 1)
    assert str(tmp_path / "text.tif") in told
    values = json.loads(printed)
    assert [facts["file"] for facts in values["rasters"]] == [str(path) for path in good]
    (failed,) = values["failed"]
    assert failed["file"] == str(tmp_path / "text.tif")
    assert failed["error"] in told
    code, printed, told = rhm("data", "inspect", *files, tmp_path / "torn.tif")
    assert (code, told.count("\n"), printed.count("EPSG:32636")) == (2, 2, 2)
    assert all(str(tmp_path / name) in told for name in ("text.tif", "torn.tif"))
    code, printed, told = rhm("data", "inspect", tmp_path / "text.tif", "--json")
    assert (code, printed, told.count("\n")) == (2, "", 1)


def test_nodata_that_is_no_number_is_valid_json(rhm: Rhm, tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.ones((4, 5), np.float32), nodata=float("nan"))
    code, printed, _ = rhm("data", "inspect", path, "--json")
    assert (code, "NaN" in printed) == (0, False)
    assert json.loads(printed)["rasters"][0]["nodata"] == "nan"


def test_index_says_what_it_leaves_out_and_which_groups_span_domains(
    rhm: Rhm, world: Path, tmp_path: Path
) -> None:
    image = next((world / "birch_satellite" / "images").glob("*.tif"))
    for name in ("north/images/a.tif", "north/images/b.tif", "south/images/a.tif", "west/gt/c.tif"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, tmp_path / "data" / name)
    out = tmp_path / "c.parquet"
    code, _, told = rhm("data", "index", "folder", tmp_path / "data", "-o", out)
    first, second = told.splitlines()
    assert code == 0
    assert first.startswith(f"{tmp_path}/data/west/gt/c.tif has no image of the same name")
    assert second.startswith("1 group has images in several domains, such as 'a' in north and sou")


def test_impossible_numbers_of_processes_are_refused(rhm: Rhm, tmp_path: Path) -> None:
    code, _, told = rhm("data", "index", "folder", tmp_path, "--workers", 100_000)
    assert (code, told.count("\n")) == (2, 1)
    assert "less than or equal to 128" in told


def test_a_folder_of_images_is_a_place_without_labels(
    rhm: Rhm, world: Path, tmp_path: Path
) -> None:
    city = tmp_path / "kampala"
    shutil.copytree(world / "birch_satellite" / "images", city)
    code, _, told = rhm("data", "index", "folder", city, "-o", tmp_path / "c.parquet")
    assert code == 0, told
    catalog = Catalog.load(tmp_path / "c.parquet")
    assert list(catalog.domains) == ["kampala"]
    assert len(catalog.select(labelled=True).tiles) == 0 < len(catalog.tiles)


def test_a_catalog_that_cannot_be_written_is_refused_before_images_are_read(
    rhm: Rhm, tmp_path: Path
) -> None:
    images, file = tmp_path / "images", tmp_path / "file"
    images.mkdir()
    (images / "a.tif").write_bytes(b"not a raster")
    file.write_text("mine")
    words = ("data", "index", "folder", images, "-o")
    code, _, said = rhm(*words, file / "catalog.parquet")
    assert (code, said.count("\n"), said.startswith("rhm: cannot write to ")) == (2, 1, True)
    code, _, said = rhm(*words, tmp_path / "catalog.parquet")
    assert (code, "a.tif" in said) == (2, True)
    assert file.read_text() == "mine"


def test_what_looks_wrong_is_told_before_the_overview(
    rhm: Rhm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may read that, and the command ends there."""
    write_raster(tmp_path / "town" / "images" / "a.tif", np.ones((20, 20, 3), np.uint8))
    write_raster(tmp_path / "town" / "masks" / "a.tif", np.zeros((20, 20, 1), np.uint8))

    def unread(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rhm.cli.commands.data.emit", unread)
    code, _, said = rhm("data", "index", "folder", tmp_path, "-o", tmp_path / "c.parquet")
    assert code == 130
    assert "town: the labels contain no buildings" in said
