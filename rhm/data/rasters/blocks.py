"""A cache of decoded blocks of images and labels."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.windows import Window


class BlockCache:
    """The most recently used blocks of any number of files.

    Args:
        limit_bytes: what all of them together may take; one is kept even if it takes more.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._taken = 0
        self._blocks: OrderedDict[Hashable, Pixels] = OrderedDict()

    def get(self, key: Hashable, load: Callable[[], Pixels]) -> Pixels:
        """Return the block of this key, loaded if it is not there."""
        block = self._blocks.get(key)
        if block is not None:
            self._blocks.move_to_end(key)
            return block
        block = self._blocks[key] = load()
        self._taken += block.nbytes
        while self._taken > self._limit and len(self._blocks) > 1:
            self._taken -= self._blocks.popitem(last=False)[1].nbytes
        return block


class Blocks:
    """An image or a label whose windows are read through a cache of its blocks.

    Args:
        load: reads a window inside of the image.
        shape: of all its pixels: rows, columns and bands.
        dtype: of its pixels.
        block_shape: rows and columns of a block.
        cache: to keep blocks in.
        key: tells this image's blocks from others in the cache.
    """

    def __init__(
        self,
        load: Callable[[Window], Pixels],
        *,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        block_shape: tuple[int, int],
        cache: BlockCache,
        key: Hashable,
    ) -> None:
        self._load = load
        self._height, self._width, self._bands = shape
        self._dtype = dtype
        self._rows, self._cols = block_shape
        self._cache = cache
        self._key = key

    def read(self, window: Window) -> Pixels:
        """Return a window, its values in memory of its own; beyond the edges it is blank."""
        row, col, height, width = window
        top, left = row % self._rows, col % self._cols
        inside = 0 <= row <= self._height - height and 0 <= col <= self._width - width
        if inside and top + height <= self._rows and left + width <= self._cols:
            block = self._block(row - top, col - left)
            values, valid = part = block.part(Window(top, left, height, width))
            return Pixels(values.copy(), valid if part.is_everywhere else valid.copy())
        return self._joined(window)

    def _joined(self, window: Window) -> Pixels:
        seen = window.common(Window(0, 0, self._height, self._width))
        parts = []
        for block in seen.blocks(self._rows, self._cols):
            shown = block.common(seen)
            part = self._block(block.row, block.col).part(shown.within(block))
            parts.append((part, shown.within(window)))
        if seen == window and all(part.is_everywhere for part, _ in parts):
            values = np.empty((window.height, window.width, self._bands), self._dtype)
            for part, place in parts:
                values[place.slices] = part.values
            return Pixels.everywhere(values)
        joined = Pixels.blank(window.height, window.width, self._bands, self._dtype)
        for part, place in parts:
            joined.put(part, place)
        return joined

    def _block(self, row: int, col: int) -> Pixels:
        """Return the block that begins at a row and a column of the image."""

        def load() -> Pixels:
            height, width = self._height - row, self._width - col
            return self._load(Window(row, col, min(self._rows, height), min(self._cols, width)))

        return self._cache.get((self._key, row, col), load)
