"""Images of a catalog; law: a row becomes an image only if every value is possible."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from rhm.data.sources import Tile, check_dtype_name
from rhm.errors import CatalogError
from tests.data.imagery import noise, write_raster

TILE = Tile(
    Path("a.tif"),
    Path("a.png"),
    "town",
    "a",
    split="val",
    gsd_m=0.3,
    width=20,
    height=10,
    bands=3,
    dtype="uint8",
    crs="EPSG:32630",
    building_fraction=0.25,
)


def row(**change: Any) -> dict[str, Any]:
    values = {name: math.nan if value is None else value for name, value in asdict(TILE).items()}
    return values | {"image": "a.tif", "label": "a.png"} | change


def test_a_row_is_its_image() -> None:
    assert Tile.of_row(row()) == TILE
    assert Tile.of_row(row(label="")).label is None
    for value, expected in ((True, True), (1, True), (0, False), (None, False), (math.nan, False)):
        assert Tile.of_row(row(black_is_nodata=value)).black_is_nodata is expected


@pytest.mark.parametrize(
    "change",
    [
        {"image": ""},
        {"image": "a\0.tif"},
        {"label": "a\0.png"},
        {"width": 0},
        {"height": -5},
        {"width": math.inf},
        {"width": "wide"},
        {"height": 10**18},
        {"bands": 0},
        {"bands": math.nan},
        {"gsd_m": 0.0},
        {"gsd_m": -1.0},
        {"gsd_m": math.inf},
        {"gsd_m": "far"},
        {"split": "training"},
        {"dtype": "(9,)u1"},
        {"dtype": "object"},
        {"dtype": ""},
        {"building_values": "blue"},
        {"black_is_nodata": "False"},
    ],
)
def test_impossible_values_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, ArithmeticError)):
        Tile.of_row(row(**change))


def test_an_image_of_another_size_than_listed_is_refused(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", noise(10, 20))
    for size, fits in (((20, 10), True), ((10, 20), False), ((20, 11), False)):
        tile = replace(TILE, image=image, width=size[0], height=size[1])
        with tile.open(0.5) as raster:
            if fits:
                tile.check(raster)
            else:
                with pytest.raises(CatalogError, match=r"is 20 x 10 pixels, but the catalog lists"):
                    tile.check(raster)


def test_every_type_of_raster_is_known() -> None:
    for name in ("uint8", "int16", "float32", "complex_int16", "complex64"):
        check_dtype_name(name)
    with pytest.raises(ValueError, match="no raster has the dtype 'U8'"):
        check_dtype_name("U8")


@pytest.mark.parametrize(
    ("own", "wanted", "found"),
    [(0.3, 0.5, 0.5), (0.3, None, 0.3), (None, 0.5, None), (None, None, None)],
)
def test_pixels_of_unknown_size_keep_it_whatever_is_wanted(
    own: float | None, wanted: float | None, found: float | None
) -> None:
    tile = replace(TILE, gsd_m=own)
    assert tile.gsd_at(wanted) == found
    # What the grid says, it is.
    if own is not None and found is not None:
        assert own / tile.scale_to(wanted).across == pytest.approx(found)
