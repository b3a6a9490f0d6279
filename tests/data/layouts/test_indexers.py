"""The doors to a catalog: a folder in, a catalog out."""

from pathlib import Path

import numpy as np

from rhm.data import Catalog, index_folder, index_inria, index_spacenet
from rhm.data.layouts.indexers import INDEXERS
from tests.data.imagery import write_raster


def test_every_layout_has_its_door() -> None:
    assert set(INDEXERS) == {"inria", "spacenet", "folder"}


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
