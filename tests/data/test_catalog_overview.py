"""A catalog's domains at a glance; oracle: the catalog's own rows, counted one by one."""

from pathlib import Path

import numpy as np
import pytest

from rhm.data import Catalog


def test_every_row_is_a_domain_and_every_image_is_counted_once(catalog_path: Path) -> None:
    catalog = Catalog.load(catalog_path)
    rows = catalog.overview()
    assert [row["domain"] for row in rows] == list(catalog.domains)
    for row in rows:
        tiles = catalog.select(domains=[row["domain"]]).tiles
        assert row["images"] == row["labelled"] == len(tiles)
        for split in ("train", "val", "test"):
            assert row[split] == sum(tile.split == split for tile in tiles)
        assert row["gsd_m"] == pytest.approx(np.median([tile.gsd_m for tile in tiles]))
        shares = [tile.building_fraction for tile in tiles]
        assert row["buildings"] == pytest.approx(np.mean([s for s in shares if s is not None]))


def test_what_no_image_says_is_none(catalog_path: Path) -> None:
    frame = Catalog.load(catalog_path).frame
    silent = frame.assign(label="", gsd_m=np.nan, building_fraction=np.nan, split="")
    for row in Catalog(silent).overview():
        assert (row["labelled"], row["gsd_m"], row["buildings"]) == (0, None, None)
        assert row["train"] + row["val"] + row["test"] == 0
        assert row["images"] == 6
