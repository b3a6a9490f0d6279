import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from rasterio.env import get_gdal_config, set_gdal_config
from shapely.affinity import affine_transform
from torch.utils.data import DataLoader, Dataset

from rhm.data.catalog import Catalog, Source, Tile
from rhm.data.labels import Label
from rhm.data.rasters.georeference import ONE, GridScale
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import Window
from rhm.data.tile_readers import (
    OPEN_TILES,
    CachedLabel,
    CachedRaster,
    OpenTiles,
    block_shape,
)
from rhm.errors import RasterError
from tests.data.imagery import HALF_METRE, noise, write_raster

HEIGHT, WIDTH = 300, 420
TRUTH = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
TRUTH[40:180, 100:260] = 1
WINDOWS = [
    Window(0, 0, HEIGHT, WIDTH),
    Window(100, 200, 64, 96),
    Window(130, 250, 31, 1),
    Window(-20, -30, 64, 64),
    Window(280, 400, 64, 64),
    Window(-90, 30, 64, 64),
]
IMAGES: dict[str, dict[str, Any]] = {
    "plain strips": {},
    "plain tiles": {"tiled": True, "blockxsize": 64, "blockysize": 64},
    "lzw strips": {"compress": "lzw"},
    "deflate tiles": {"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16},
    "nodata": {"compress": "lzw", "nodata": 0},
    "png": {"suffix": ".png", "crs": None},
}


def _tile(folder: Path, kind: str, label: str = "tif", *, name: str = "x") -> Tile:
    options = dict(IMAGES[kind])
    pixels = noise(HEIGHT, WIDTH)
    pixels[200:, :150] = 0
    image = write_raster(folder / f"{name}{options.pop('suffix', '.tif')}", pixels, **options)
    truth = folder / f"{name}_label.{label}"
    if label == "gpkg":
        box = affine_transform(shapely.box(100, 40, 260, 180), HALF_METRE.to_shapely())
        geopandas.GeoDataFrame(geometry=[box], crs="EPSG:32633").to_file(truth)
    else:
        write_raster(truth, TRUTH * 255, crs=None)
    return Catalog.build([Source(image, truth, "town", name)]).tiles[0]


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Decoded blocks that make up no more than a part of an image."""
    before = get_gdal_config("GDAL_CACHEMAX")
    set_gdal_config("GDAL_CACHEMAX", 200_000)
    yield
    set_gdal_config("GDAL_CACHEMAX", before)


def _assert_reads_like_the_files(tiles: OpenTiles, tile: Tile, scale: GridScale = ONE) -> None:
    image, label = tiles.get(0)
    assert tile.label is not None
    with tile.open(scale) as raster, Label(tile.label, raster) as truth:
        assert image.info == raster.info
        for window in [*WINDOWS, *WINDOWS]:
            pixels, valid = image.read(window)
            expected, expected_valid = raster.read(window)
            # Resampled pixels may differ by rounding: GDAL adds the same weights otherwise.
            apart = np.abs(pixels.astype(int) - expected) > (scale != ONE)
            assert apart.mean() <= 1e-3 * (scale != ONE)
            np.testing.assert_array_equal(valid, expected_valid)
            np.testing.assert_array_equal(label.read(window), truth.read(window))


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("label", ["tif", "png"])
def test_windows_are_those_of_the_files(tmp_path: Path, kind: str, label: str) -> None:
    tile = _tile(tmp_path, kind, label)
    tiles = OpenTiles([tile], None)
    _assert_reads_like_the_files(tiles, tile)
    assert isinstance(tiles.get(0)[0], CachedRaster)
    assert isinstance(tiles.get(0)[1], CachedLabel)


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.5])
@pytest.mark.parametrize("label", ["tif", "gpkg"])
def test_windows_of_another_grid_are_those_of_the_files(
    tmp_path: Path, label: str, factor: float
) -> None:
    tile = _tile(tmp_path, "plain tiles", label)
    assert tile.gsd_m is not None
    tiles = OpenTiles([tile], tile.gsd_m / factor)
    _assert_reads_like_the_files(tiles, tile, tile.scale_to(tile.gsd_m / factor))


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("kind", IMAGES)
def test_images_that_do_not_fit_are_read_alike(tmp_path: Path, kind: str) -> None:
    tile = _tile(tmp_path, kind)
    tiles = OpenTiles([tile], None)
    _assert_reads_like_the_files(tiles, tile)
    assert isinstance(tiles.get(0)[0], Raster)
    assert isinstance(tiles.get(0)[1], Label)


def test_blocks_are_several_stored_ones(tmp_path: Path) -> None:
    assert block_shape(None) == (2048, 2048)
    # Strips have 6 rows here, tiles 16 x 16; a PNG is decoded row by row.
    shapes = {"lzw strips": (2052, 5 * WIDTH), "deflate tiles": (2048, 2048)}
    for kind, expected in (shapes | {"png": (2048, 5 * WIDTH)}).items():
        options = dict(IMAGES[kind])
        path = tmp_path / f"{kind}{options.pop('suffix', '.tif')}"
        with Raster(write_raster(path, noise(HEIGHT, WIDTH), **options)) as raster:
            assert block_shape(raster) == expected
    with Raster(path, scale=0.5) as raster:
        assert block_shape(raster) == (2048, 2048)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_only_so_many_files_stay_open(tmp_path: Path) -> None:
    one = _tile(tmp_path, "plain strips")
    tiles = OpenTiles([one] * (OPEN_TILES + 9), None)

    def open_files() -> int:
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        return sum(os.path.realpath(link).startswith(str(tmp_path)) for link in links)

    for number in range(OPEN_TILES + 9):
        image, label = tiles.get(number)
        image.read(WINDOWS[1])
        label.read(WINDOWS[1])
        assert open_files() == 2 * min(number + 1, OPEN_TILES)
    # The longest unused was closed, and opens again.
    np.testing.assert_array_equal(tiles.get(0)[1].read(WINDOWS[0]), TRUTH)
    assert open_files() == 2 * OPEN_TILES


class _CacheSizes(Dataset[int]):
    """Says how much memory GDAL may take after a tile was opened."""

    def __init__(self, tiles: OpenTiles) -> None:
        self.tiles = tiles

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        self.tiles.get(0)[0].read(WINDOWS[1])
        return int(get_gdal_config("GDAL_CACHEMAX"))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_worker_leaves_gdal_little_memory(tmp_path: Path) -> None:
    before = get_gdal_config("GDAL_CACHEMAX")
    sizes = _CacheSizes(OpenTiles([_tile(tmp_path, "lzw strips")], None))
    assert sizes[0] == before
    within = [int(size) for size in DataLoader(sizes, batch_size=None, num_workers=1)]
    assert within == [min(before, 64 << 20)] * 2
    assert get_gdal_config("GDAL_CACHEMAX") == before


def test_open_tiles_travel_closed(tmp_path: Path) -> None:
    tile = _tile(tmp_path, "lzw strips")
    tiles = OpenTiles([tile], None)
    tiles.get(0)[0].read(WINDOWS[0])
    stored = pickle.dumps(tiles)
    assert len(stored) < 5_000
    _assert_reads_like_the_files(pickle.loads(stored), tile)  # noqa: S301


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    tile = _tile(tmp_path, "lzw strips")
    tile.image.write_bytes(tile.image.read_bytes()[:100_000])
    image, _ = OpenTiles([tile], None).get(0)
    with pytest.raises(RasterError, match="damaged or truncated") as error:
        image.read(WINDOWS[0])
    assert "\n" not in str(error.value)


def test_an_image_without_label_is_refused(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", noise(8, 8))
    (tile,) = Catalog.build([Source(image, None, "town", "a")]).tiles
    with pytest.raises(ValueError, match="has no label"):
        OpenTiles([tile], None).get(0)
