"""Tiles that stay open and decoded, so that reading many chips opens and decodes them once."""

import os
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.env import get_gdal_config, set_gdal_config
from torch.utils.data import get_worker_info

from rhm.data.catalog import Tile
from rhm.data.labels import IGNORE, Label
from rhm.data.rasters.blocks import BlockCache, Blocks
from rhm.data.rasters.mirrored_edges import mirrored
from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import Window
from rhm.system import most_open_files

OPEN_TILES = max(8, min(192, (most_open_files() or 4096) // 5))
"""Tiles that a process keeps open, two files each: fewer where the system allows few files."""

CACHE_MB = 1024
"""Megabytes of decoded pixels that a process keeps, unless GDAL_CACHEMAX sets another limit."""

_MB = 1 << 20
_GDAL_MB = 64
_BLOCK_PX = 2048


class CachedRaster:
    """A raster whose windows are read through a cache of decoded blocks.

    Args:
        raster: open raster.
        cache: cache for the blocks.
        key: key that identifies this raster in the cache.
    """

    def __init__(self, raster: Raster, *, cache: BlockCache, key: Hashable) -> None:
        self._raster = raster
        self.info = raster.info
        self._blocks = Blocks(
            self._load,
            shape=(raster.info.height, raster.info.width, len(raster.info.bands)),
            dtype=raster.dtype,
            block_shape=block_shape(raster),
            cache=cache,
            key=key,
        )

    def close(self) -> None:
        """Close the file; its blocks stay in the cache."""
        self._raster.close()

    def read(self, window: Window) -> Pixels:
        """Return the pixels of a window and their validity, like ``Raster.read``."""
        pixels = self._blocks.read(window)
        if not pixels.is_everywhere:
            return pixels
        # A broadcast mask takes no memory, but operations on it take much longer.
        return Pixels(pixels.values, np.ones(pixels.valid.shape, dtype=bool))

    def _load(self, window: Window) -> Pixels:
        pixels = self._raster.read(window)
        return Pixels.everywhere(pixels.values) if pixels.valid.all() else pixels


class CachedLabel:
    """A label whose windows are read through a cache of decoded or rasterised blocks.

    Args:
        label: open label.
        raster: open raster of the image that the label belongs to.
        cache: cache for the blocks.
        key: key that identifies this label in the cache.
        numbers: whether buildings are told apart.
    """

    def __init__(
        self,
        label: Label,
        raster: Raster,
        *,
        cache: BlockCache,
        key: Hashable,
        numbers: bool = False,
    ) -> None:
        self._label = label
        read = label.read_numbers if numbers else label.read
        self._blocks = Blocks(
            lambda window: Pixels.everywhere(read(window)[..., None]),
            shape=(raster.info.height, raster.info.width, 1),
            dtype=np.dtype(np.uint8),
            block_shape=block_shape(label.mask),
            cache=cache,
            key=key,
        )

    def close(self) -> None:
        """Close the file; its blocks stay in the cache."""
        self._label.close()

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Return a window's truth, as ``Label.read`` or ``Label.read_numbers`` does."""
        return self._blocks.read(window).values[..., 0]


class NumberedLabel:
    """A label whose windows tell buildings apart.

    Args:
        label: open label.
    """

    def __init__(self, label: Label) -> None:
        self._label = label

    def close(self) -> None:
        """Close the file."""
        self._label.close()

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Return a window's truth, as ``Label.read_numbers`` does."""
        return self._label.read_numbers(window)


class UnknownTruth:
    """The label of an image that has none, or whose label must not be looked at."""

    def close(self) -> None:
        """Do nothing: there is no file."""

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Return ``IGNORE`` everywhere, (height, width) uint8."""
        return np.full((window.height, window.width), IGNORE, dtype=np.uint8)


_Pair = tuple[Raster | CachedRaster, Label | NumberedLabel | CachedLabel | UnknownTruth]


class OpenTiles:
    """Images and their labels, opened on first use; the least recently used ones are closed.

    If all of them fit into memory, blocks stay in memory decoded, resampled or rasterised, as
    they are handed out. Otherwise GDAL's cache keeps as many decoded blocks as it can.
    Uncompressed GeoTIFFs do not need it: they are read in place from the file cache of the
    system, which all processes share.

    Memory of a process: ``OPEN_TILES`` open tiles of up to 0.6 MB each for scenes of 5000 x 5000
    pixels (120 MB), the footprints of vector labels, and ``CACHE_MB`` of decoded pixels. The
    environment variable GDAL_CACHEMAX replaces the last limit, and so does a twentieth of the
    machine's memory if that is less. Loader workers reduce GDAL's own cache to 64 MB if they do
    not need it, so that each of them adds at most 1.2 GB.

    Args:
        tiles: labelled images.
        gsd_m: metres per pixel to read at, or None for each image's own.
        labels: whether labels are read; without them, the truth is unknown everywhere.
        numbers: whether labels tell buildings apart, as ``Label.read_numbers`` does.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        gsd_m: float | None,
        *,
        labels: bool = True,
        numbers: bool = False,
    ) -> None:
        self._tiles = list(tiles)
        self._gsd_m = gsd_m
        self._labels = labels
        self._numbers = numbers
        self._process = -1
        self._cache: BlockCache | None = None
        self._open: OrderedDict[int, _Pair] = OrderedDict()

    def get(self, number: int) -> _Pair:
        """Return the image and the label of the tile of this number, open.

        Raises:
            RasterError: a file cannot be opened, or image and label differ in size.
            VectorError: footprints cannot be read.
            CatalogError: the image no longer matches the catalog.
        """
        if self._process != os.getpid():
            # GDAL's handles do not survive a fork: a loader's worker opens its own.
            self._open, self._process = OrderedDict(), os.getpid()
            self._cache = self._cache_of_all()
        found = self._open.get(number)
        if found is not None:
            self._open.move_to_end(number)
            return found
        opened = self._open[number] = self._opened(number)
        if len(self._open) > OPEN_TILES:
            for each in self._open.popitem(last=False)[1]:
                each.close()
        return opened

    def _opened(self, number: int) -> _Pair:
        tile = self._tiles[number]
        if self._labels and tile.label is None:
            raise ValueError(f"{tile.image} has no label")
        scale = tile.scale_to(self._gsd_m)
        raster = tile.open(scale, mapped=True)
        tile.check(raster)
        label = tile.open_label(raster, mapped=True) if self._labels else UnknownTruth()
        if self._cache is None:
            if self._numbers and isinstance(label, Label):
                return raster, NumberedLabel(label)
            return raster, label
        image = CachedRaster(raster, cache=self._cache, key=(number, "image"))
        if isinstance(label, UnknownTruth):
            return image, label
        key = (number, "label")
        return image, CachedLabel(label, raster, cache=self._cache, key=key, numbers=self._numbers)

    def _cache_of_all(self) -> BlockCache | None:
        """Return room for all tiles, or None where they take more than there is."""
        limit = int(get_gdal_config("GDAL_CACHEMAX"))
        if "GDAL_CACHEMAX" not in os.environ:
            limit = min(limit, CACHE_MB * _MB)
        fit = sum(map(self._decoded_bytes, self._tiles)) <= limit
        if get_worker_info() is not None:
            set_gdal_config("GDAL_CACHEMAX", min(limit, _GDAL_MB * _MB) if fit else limit)
        return BlockCache(limit) if fit else None

    def _decoded_bytes(self, tile: Tile) -> float:
        pixels = tile.width * tile.height * tile.scale_to(self._gsd_m).area
        return pixels * (tile.bands * np.dtype(tile.dtype).itemsize + 1)

    def __getstate__(self) -> dict[str, Any]:
        closed: dict[str, Any] = {"_process": -1, "_cache": None, "_open": OrderedDict()}
        return self.__dict__ | closed


def read_mirrored(raster: Raster | CachedRaster, window: Window) -> Pixels:
    """Read a window; beyond the image, which is not valid, pixels are mirrored at its edge."""
    inside = window.common(Window(0, 0, raster.info.height, raster.info.width))
    pixels = raster.read(inside)
    if inside == window:
        return pixels
    row, col, *_ = inside.within(window)
    return mirrored(pixels, window.height, window.width, row=row, col=col)


def block_shape(raster: Raster | None) -> tuple[int, int]:
    """Return the rows and columns of the blocks in which to keep a raster; None: footprints.

    A block consists of whole stored tiles or strips, enough of them that few windows meet two.
    """
    if raster is None or raster.resampled:
        return _BLOCK_PX, _BLOCK_PX
    rows, cols = raster.info.block_shape
    return rows * ceil(_BLOCK_PX / rows), cols * ceil(_BLOCK_PX / cols)
