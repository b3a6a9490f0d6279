"""Catalogs of links: names are those that were given, and folders can be moved or linked."""

from pathlib import Path

import pytest

from rhm.data import Catalog, index_folder
from tests.data.imagery import noise, write_raster


@pytest.fixture
def town(tmp_path: Path) -> Path:
    """Link images and masks that are named by their hashes, as DVC and git-annex do."""
    store, town = tmp_path / "store", tmp_path / "snapshot" / "town"
    for folder, value in (("images", 3), ("masks", 1)):
        (town / folder).mkdir(parents=True)
        for number in range(2):
            pixels = (
                noise(8, 8, seed=number) if value == 3 else noise(8, 8, seed=number)[..., 0] % 2
            )
            blob = write_raster(store / f"{value}f{number}e.tif", pixels)
            blob.rename(blob.with_suffix(""))
            (town / folder / f"tile{number}.tif").symlink_to(blob.with_suffix(""))
    return town


def names(catalog: Catalog) -> list[tuple[str, str]]:
    return [(tile.image.name, tile.label.name if tile.label else "") for tile in catalog.tiles]


EXPECTED = [("tile0.tif", "tile0.tif"), ("tile1.tif", "tile1.tif")]


def test_a_catalog_keeps_the_names_of_links(town: Path, tmp_path: Path) -> None:
    catalog = index_folder(town)
    assert names(catalog) == EXPECTED
    assert catalog.domains == ["town"]
    path = tmp_path / "snapshot" / "catalog.parquet"
    catalog.save(path)
    (tmp_path / "snapshot").rename(tmp_path / "moved")
    loaded = Catalog.load(tmp_path / "moved" / "catalog.parquet")
    assert names(loaded) == EXPECTED
    assert all(tile.image.is_relative_to(tmp_path / "moved") for tile in loaded.tiles)


def test_a_catalog_beside_its_images_may_be_a_link(town: Path, tmp_path: Path) -> None:
    path = town.parent / "catalog.parquet"
    index_folder(town).save(path)
    stored = path.rename(tmp_path / "store" / "77ab")
    path.symlink_to(stored)
    assert all(tile.image.is_file() for tile in Catalog.load(path).tiles)


def test_a_link_elsewhere_leads_to_a_catalog_beside_its_images(town: Path, tmp_path: Path) -> None:
    path = town.parent / "catalog.parquet"
    index_folder(town).save(path)
    link = tmp_path / "catalog.parquet"
    link.symlink_to(path)
    assert all(tile.image.is_file() for tile in Catalog.load(link).tiles)


def test_folders_may_be_named_by_way_of_a_link(town: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.symlink_to(town.parent)
    path = linked / "catalog.parquet"
    index_folder(town).save(path)
    town.parent.rename(tmp_path / "moved")
    loaded = Catalog.load(tmp_path / "moved" / "catalog.parquet")
    assert all(tile.image.is_file() for tile in loaded.tiles)
