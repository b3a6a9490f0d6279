"""Windows (rectangles of pixels), grids of windows that cover an image, and blend weights."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BAND_PIXELS = 1 << 21
"""Approximate number of pixels in a band of rows."""

_GOLDEN_SHARE = (5**0.5 - 1) / 2


class Window(NamedTuple):
    """A rectangle of pixels: upper-left corner, then size. It may extend beyond its image."""

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Slices that cut the window out of an array of the whole image."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    def common(self, other: "Window") -> "Window":
        """Return the overlap of two windows; without one, a side is zero or negative."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        bottom = min(self.row + self.height, other.row + other.height)
        right = min(self.col + self.width, other.col + other.width)
        return Window(row, col, bottom - row, right - col)

    def blocks(self, height: int, width: int) -> Iterator["Window"]:
        """Yield the blocks that this window touches, of a grid of (height, width) from (0, 0)."""
        if self.height <= 0 or self.width <= 0:
            return
        for row in range(self.row - self.row % height, self.row + self.height, height):
            for col in range(self.col - self.col % width, self.col + self.width, width):
                yield Window(row, col, height, width)

    def within(self, outer: "Window") -> "Window":
        """Return this window in coordinates that begin at the corner of another."""
        return Window(self.row - outer.row, self.col - outer.col, self.height, self.width)


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return the first pixels of the tiles that cover an axis.

    Neighbouring tiles overlap by ``overlap`` pixels, and the last two by at least as many,
    because the last tile ends where the axis ends. An axis no longer than a tile has one tile,
    at 0.

    Raises:
        ValueError: the overlap is negative, or not smaller than a tile.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap must be in [0, tile), got overlap {overlap} and tile {tile}")
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]


def grid(height: int, width: int, tile: int, overlap: int = 0) -> Iterator[Window]:
    """Yield windows (tile, tile) that cover an image of (height, width), row by row.

    If the image is smaller than a tile, the window extends beyond it.
    """
    for row in starts(height, tile, overlap):
        for col in starts(width, tile, overlap):
            yield Window(row, col, tile, tile)


def partition(height: int, width: int, size: int) -> Iterator[Window]:
    """Yield windows of at most (size, size) that contain each pixel of an image exactly once.

    Windows in the last row and column are smaller if the image ends before they do.
    """
    for row in range(0, height, size):
        for col in range(0, width, size):
            yield Window(row, col, min(size, height - row), min(size, width - col))


def spread(count: int, most: int = 1 << 20) -> Iterator[int]:
    """Yield indices below ``count`` in an order in which the first few are evenly spread, too.

    The first is 0. Of more than ``most``, about as many are yielded, so that memory has a bound.
    """
    # Multiples of the golden ratio, modulo 1, are evenly spread however many of them are taken.
    places = np.arange(min(count, most)) * _GOLDEN_SHARE % 1.0
    if count <= most:
        return map(int, np.argsort(places))
    return iter(dict.fromkeys((places * count).astype(np.int64).tolist()))


def spread_blocks(height: int, width: int, size: int, *, most: int) -> Iterator[Window]:
    """Yield the windows of ``partition`` in the order of ``spread``, about ``most`` of them."""
    rows, cols = -(-height // size), -(-width // size)
    for index in spread(rows * cols, most):
        row, col = (place * size for place in divmod(index, cols))
        yield Window(row, col, min(size, height - row), min(size, width - col))


def random_window(
    height: int, width: int, size: int | tuple[int, int], *, rng: np.random.Generator
) -> Window:
    """Draw a window, uniformly from those inside an image of (height, width).

    If the image is smaller than the window, it is centred in the window, up to rounding.

    Args:
        height: number of rows of the image.
        width: number of columns of the image.
        size: number of rows and columns of the window, one number if both are equal.
        rng: random generator.
    """
    sides = size if isinstance(size, tuple) else (size, size)
    row, col = (
        int(rng.integers(0, length - side + 1)) if length > side else -((side - length) // 2)
        for length, side in zip((height, width), sides, strict=True)
    )
    return Window(row, col, *sides)


def blend_weights(length: int, tile: int, overlap: int) -> NDArray[np.float32]:
    """Return the blend weights, along one axis, of the tiles at ``starts``.

    The weight of a tile rises as a raised cosine across the overlap, or across half the tile if
    that is less. At every pixel of the axis, including the first and the last, the weights of the
    tiles that cover it add up to 1; so do the products of the weights of two axes.

    Returns:
        (tiles, tile) float32 in (0, 1]; 0 for pixels of a tile beyond the axis.
    """
    ramp = np.ones(tile)
    reach = min(overlap, tile // 2)
    if reach:
        rising = np.sin(0.5 * np.pi * (np.arange(reach) + 0.5) / reach) ** 2
        ramp[:reach] = rising
        ramp[-reach:] = rising[::-1]
    # Never zero, so that the outermost pixels, which only one tile covers, can be normalised.
    ramp = np.maximum(ramp, 1e-3)
    firsts = starts(length, tile, overlap)
    total = np.zeros(max(length, tile))
    for first in firsts:
        total[first : first + tile] += ramp
    weights = np.stack([ramp / total[first : first + tile] for first in firsts])
    weights[:, length:] = 0.0
    return weights.astype(np.float32)


def in_bands(height: int, width: int) -> Iterator[slice]:
    """Yield the rows of a raster in bands of about ``BAND_PIXELS`` pixels."""
    rows = max(1, BAND_PIXELS // width)
    for first in range(0, height, rows):
        yield slice(first, min(first + rows, height))
