"""Indexers: from a folder to a catalog."""

from pathlib import Path

import numpy as np
import pytest

import rhm.data.layouts
from rhm.data import Catalog, index_dataset, index_folder, index_inria, index_spacenet
from rhm.data.layouts.registry import LAYOUTS
from rhm.errors import ConfigError
from tests.data.imagery import write_raster


def test_every_module_of_the_folder_that_declares_a_layout_is_one() -> None:
    folder = Path(rhm.data.layouts.__file__).parent
    declaring = {path.stem for path in folder.glob("*.py") if "\nLAYOUT = " in path.read_text()}
    assert set(LAYOUTS) == declaring == {"inria", "spacenet", "folder"}


def test_an_unknown_layout_is_refused_and_the_known_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown layout 'xview': choose folder, inria, spacenet"):
        index_dataset("xview", tmp_path)


def test_inria_and_spacenet_and_folders_become_catalogs(tmp_path: Path) -> None:
    image = np.full((32, 40, 3), 90, np.uint8)
    mask = np.zeros((32, 40), np.uint8)
    mask[:8] = 255
    train = tmp_path / "inria" / "train"
    for part in ("images", "gt"):
        (train / part).mkdir(parents=True)
    write_raster(train / "images" / "vienna7.tif", image)
    write_raster(train / "gt" / "vienna7.tif", mask)
    vegas = tmp_path / "vegas" / "RGB-PanSharpen"
    vegas.mkdir(parents=True)
    write_raster(vegas / "RGB-PanSharpen_AOI_2_Vegas_img1.tif", image)
    inria = index_inria(tmp_path / "inria")
    assert isinstance(inria, Catalog)
    assert inria.domains == ["vienna"]
    assert inria.tiles[0].building_fraction == 0.25
    assert index_spacenet(tmp_path / "vegas").domains == ["AOI_2_Vegas"]
    assert index_folder(train, domain="here").domains == ["here"]
    black = index_dataset("spacenet", tmp_path / "vegas", black_is_nodata=True)
    assert [tile.black_is_nodata for tile in black.tiles] == [True]


def test_the_notes_of_a_catalog_name_what_was_left_out(tmp_path: Path) -> None:
    image = np.full((32, 40, 3), 90, np.uint8)
    for part in ("images", "masks"):
        write_raster(tmp_path / part / "a.tif", image)
    write_raster(tmp_path / "masks" / "b.tif", image)
    (note,) = index_folder(tmp_path, building_values=["90,90,90"]).notes
    assert note.startswith(f"{tmp_path}/masks/b.tif has no image of the same name")
