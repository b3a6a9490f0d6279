"""Labelled tiles of a catalog, on which a model is calibrated for 8-bit integers."""

from collections.abc import Iterator, Sequence
from math import ceil

from rhm.data.catalog import Catalog, Tile
from rhm.data.labels import IGNORE
from rhm.data.rasters.windows import Window
from rhm.inference.settings.tile_config import Tiling
from rhm.inference.tiling.calibration import MOST_TILES, CalibrationTile
from rhm.inference.tiling.stream import network_input
from rhm.models.spec import ModelSpec


def labelled_samples(spec: ModelSpec, catalog: Catalog) -> Iterator[CalibrationTile]:
    """Yield labelled tiles, from as many images of a catalog as possible.

    They are of the validation split and of the domains that the model was trained on, if there are
    any, or else of all labelled images. Images with other bands than the model takes are left out,
    unless there are no others.

    Args:
        spec: description of the model.
        catalog: catalog with labels.

    Raises:
        RasterError: an image or its mask cannot be read.
        ModelFileError: an image does not have the bands that the model takes.
    """
    tiles = _tiles(spec, catalog)
    side = Tiling.tile
    for tile in tiles[:: max(1, ceil(len(tiles) / MOST_TILES))]:
        scale = tile.scale_to(spec.gsd_m)
        with tile.open(scale) as raster, tile.open_label(raster) as label:
            height, width = raster.info.height, raster.info.width
            row, col = max(0, height - side) // 2, max(0, width - side) // 2
            window = Window(row, col, min(side, height), min(side, width))
            pixels, truth = raster.read(window), label.read(window)
            image = network_input(pixels, spec.table_of(raster), side)
        yield CalibrationTile(image[None], pixels.valid & (truth != IGNORE), truth == 1)


def _tiles(spec: ModelSpec, catalog: Catalog) -> Sequence[Tile]:
    labelled = catalog.select(labelled=True)
    sources = [name for name in spec.sources if name in labelled.domains]
    held = labelled.select(domains=sources, split="val").tiles
    fitting = (
        [tile for tile in tiles if tile.bands == spec.bands] for tiles in (held, labelled.tiles)
    )
    return next(filter(None, fitting), labelled.tiles)
