from pathlib import Path

import pytest

from rhm.data.catalog import Catalog
from rhm.data.layouts.inria import find_inria
from rhm.errors import CatalogError
from tests.data.imagery import noise, write_raster

TRAINING = ["austin1", "austin5", "austin6", "austin10", "austin36", "tyrol-w1", "tyrol-w7"]
TESTING = ["bellingham1", "sfo2", "tyrol-e3"]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """The official layout, with empty files: the indexer goes by names."""
    folder = tmp_path / "AerialImageDataset"
    parts = {"train/images": TRAINING, "train/gt": TRAINING, "test/images": TESTING}
    for part, names in parts.items():
        (folder / part).mkdir(parents=True)
        for name in names:
            (folder / part / f"{name}.tif").touch()
    (folder / "train" / "images" / "austin1.tif.aux.xml").touch()
    return folder


def test_the_official_layout_and_split(dataset: Path) -> None:
    sources = find_inria(dataset)
    assert [source.name for source in sources] == [*TRAINING, *TESTING]
    splits = {source.name: source.split for source in sources}
    assert [name for name, split in splits.items() if split == "val"] == [
        "austin1",
        "austin5",
        "tyrol-w1",
    ]
    assert [name for name, split in splits.items() if split == "test"] == TESTING
    for source in sources:
        assert source.domain == source.name.rstrip("0123456789")
        assert source.group == source.name
        assert source.gsd_m == 0.3
        if source.split == "test":
            assert source.label is None
        else:
            assert source.label == dataset / "train" / "gt" / f"{source.name}.tif"


def test_the_parent_and_a_part_alone_are_found_too(dataset: Path) -> None:
    assert find_inria(dataset.parent) == find_inria(dataset)
    (dataset / "test").rename(dataset.parent / "elsewhere")
    assert [source.name for source in find_inria(dataset)] == TRAINING


def test_a_training_tile_without_label_is_named(dataset: Path) -> None:
    label = dataset / "train" / "gt" / "austin6.tif"
    label.unlink()
    with pytest.raises(CatalogError) as error:
        find_inria(dataset)
    assert str(label) in str(error.value)


def test_capital_letters_make_no_difference(dataset: Path) -> None:
    train = dataset / "train"
    for image, label in (("Vienna9.tif", "vienna9.TIF"), ("tyrol-w8.TIF", "tyrol-w8.TIF")):
        (train / "images" / image).touch()
        (train / "gt" / label).touch()
    found = {source.image.name: source for source in find_inria(dataset)}
    vienna, tyrol = found["Vienna9.tif"], found["tyrol-w8.TIF"]
    assert (vienna.domain, vienna.group, vienna.label) == (
        "vienna",
        "vienna9",
        train / "gt" / "vienna9.TIF",
    )
    assert (tyrol.domain, tyrol.split) == ("tyrol-w", "train")
    (train / "images" / "vienna09.tif").touch()
    with pytest.raises(CatalogError, match="are both tile vienna9: keep one"):
        find_inria(dataset)


def test_what_is_left_out_is_told(dataset: Path) -> None:
    (dataset / "train" / "images" / "austin 77.tif").touch()
    (dataset / "train" / "gt" / "austin88.tif").touch()
    notes: list[str] = []
    find_inria(dataset, tell=notes.append)
    assert notes == [
        f"{dataset}/train/images/austin 77.tif is not named like austin1.tif, and is left out",
        f"{dataset}/train/gt/austin88.tif has no image of the same name, and is left out",
    ]


@pytest.mark.parametrize("name", ["nothing", "here"])
def test_another_layout_is_refused_with_a_hint(tmp_path: Path, name: str) -> None:
    (tmp_path / "here" / "train" / "images").mkdir(parents=True)
    (tmp_path / "here" / "train" / "images" / "Austin 1.tif").touch()
    with pytest.raises(CatalogError, match="rhm data index folder") as error:
        find_inria(tmp_path / name)
    assert "\n" not in str(error.value)


def test_the_sources_make_a_catalog(tmp_path: Path) -> None:
    for part, pixels in (("images", noise(16, 16)), ("gt", noise(16, 16, 1) // 160 * 255)):
        write_raster(tmp_path / "train" / part / "vienna7.tif", pixels, crs=None)
    (tile,) = Catalog.build(find_inria(tmp_path)).tiles
    assert (tile.domain, tile.split, tile.gsd_m) == ("vienna", "train", 0.3)
    assert tile.building_fraction is not None
    assert 0.3 < tile.building_fraction < 0.7
