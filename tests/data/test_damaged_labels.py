"""Labels damaged after indexing; law: one short line that names the label, with any workers."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely

from rhm.data.catalog import Catalog, Source
from rhm.data.chip_loader import ChipLoader
from rhm.data.chips import GridChips, Preparation
from rhm.data.radiometry import Scaling
from rhm.errors import RasterError, RhmError, VectorError
from tests.data.imagery import UTM, noise, write_raster

MASK = np.zeros((300, 300), np.uint8)
MASK[40:90, 20:80] = 255

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "compressed": (".tif", {"compress": "deflate"}),
    "uncompressed": (".tif", {}),
    "tiled": (".tif", {"tiled": True, "blockxsize": 64, "blockysize": 64}),
    "png": (".png", {}),
    "vector": (".geojson", {}),
    "geopackage": (".gpkg", {}),
}


def preparation() -> Preparation:
    return Preparation(lambda _dtype, _scene: Scaling.of_bytes(3).table())


@pytest.fixture(params=KINDS)
def catalog(tmp_path: Path, request: pytest.FixtureRequest) -> Catalog:
    """An image whose label was cut off, or removed, after it had been indexed."""
    suffix, profile = KINDS[request.param]
    image = write_raster(tmp_path / "image.tif", noise(300, 300))
    label = tmp_path / f"label{suffix}"
    if suffix in (".geojson", ".gpkg"):
        box = shapely.box(500_010, 4_999_900, 500_040, 4_999_980)
        geopandas.GeoDataFrame(geometry=[box], crs=UTM).to_file(label)
    else:
        write_raster(label, MASK, crs=None if suffix == ".png" else UTM, **profile)
    built = Catalog.build([Source(image, label, "town", "a")])
    label.write_bytes(label.read_bytes()[: label.stat().st_size // 2])
    return built


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_damaged_label_is_named_in_one_short_line(catalog: Catalog, workers: int) -> None:
    chips = GridChips(catalog.tiles, size=64, preparation=preparation())
    with pytest.raises((RasterError, VectorError)) as refused:
        list(ChipLoader(chips, batch_size=4, num_workers=workers))
    message = str(refused.value)
    assert str(catalog.tiles[0].label) in message
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_label_is_named(tmp_path: Path, workers: int) -> None:
    image = write_raster(tmp_path / "image.tif", noise(64, 64))
    label = write_raster(tmp_path / "label.tif", MASK[:64, :64])
    tiles = Catalog.build([Source(image, label, "town", "a")]).tiles
    label.unlink()
    chips = GridChips(tiles, size=64, preparation=preparation())
    with pytest.raises(RhmError, match=r"^no such file: .*label\.tif$"):
        list(ChipLoader(chips, num_workers=workers))
