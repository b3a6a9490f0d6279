"""A cache of decoded blocks of images and labels."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np

from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.windows import Window


class BlockCache:
    """The most recently used blocks of any number of files.

    Args:
        limit_bytes: maximum size of all blocks together; one block is kept even if it is larger.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._taken = 0
        self._blocks: OrderedDict[Hashable, Pixels] = OrderedDict()

    def get(self, key: Hashable, load: Callable[[], Pixels]) -> Pixels:
        """Return the block with this key, and load it if it is not in the cache."""
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
        load: function that reads a window inside the image.
        shape: number of rows, columns and bands of the image.
        dtype: dtype of the pixels.
        block_shape: number of rows and columns of a block.
        cache: cache for the blocks.
        key: key that identifies this image in the cache.
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
        """Return a copy of a window; pixels beyond the edges of the image are zero and invalid."""
        row, col, height, width = window
        block_row, top = divmod(row, self._rows)
        block_col, left = divmod(col, self._cols)
        bottom, right = top + height, left + width
        inside = 0 <= row <= self._height - height and 0 <= col <= self._width - width
        if inside and bottom <= self._rows and right <= self._cols:
            block = self._block(block_row, block_col)
            part = np.s_[top:bottom, left:right]
            values = block.values[part].copy()
            if block.is_everywhere:
                return Pixels.everywhere(values)
            return Pixels(values, block.valid[part].copy())
        return self._joined(window, inside)

    def _joined(self, window: Window, inside: bool) -> Pixels:
        row, col, height, width = window
        across = list(_spans(col, width, self._width, self._cols))
        parts = [
            (self._block(block_row, block_col), (rows, cols), (to_rows, to_cols))
            for block_row, rows, to_rows in _spans(row, height, self._height, self._rows)
            for block_col, cols, to_cols in across
        ]
        make = np.empty if inside else np.zeros
        values = make((height, width, self._bands), self._dtype)
        for block, part, place in parts:
            values[place] = block.values[part]
        if inside and all(block.is_everywhere for block, _, _ in parts):
            return Pixels.everywhere(values)
        valid = np.zeros((height, width), dtype=bool)
        for block, part, place in parts:
            valid[place] = block.valid[part]
        return Pixels(values, valid)

    def _block(self, block_row: int, block_col: int) -> Pixels:
        def load() -> Pixels:
            row, col = block_row * self._rows, block_col * self._cols
            height = min(self._rows, self._height - row)
            return self._load(Window(row, col, height, min(self._cols, self._width - col)))

        return self._cache.get((self._key, block_row, block_col), load)


def _spans(first: int, length: int, limit: int, size: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield the blocks that a window touches along an axis.

    Args:
        first: first pixel of the window.
        length: length of the window in pixels.
        limit: length of the axis in pixels.
        size: length of a block in pixels.

    Yields:
        Number of a block, slice of the block inside the window, and slice of the window.
    """
    start, end = max(0, first), min(limit, first + length)
    while start < end:
        number = start // size
        stop = min(end, (number + 1) * size)
        yield (
            number,
            slice(start - number * size, stop - number * size),
            slice(start - first, stop - first),
        )
        start = stop
