"""Windows: rectangles of pixels, the grids that cover an image with them, and blend weights."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Window(NamedTuple):
    """A rectangle of pixels: upper left corner, then size; may reach beyond its image."""

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rows and columns of an array that is the whole image."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    def common(self, other: "Window") -> "Window":
        """Return where two windows overlap; where they do not, a side is zero or negative."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        bottom = min(self.row + self.height, other.row + other.height)
        right = min(self.col + self.width, other.col + other.width)
        return Window(row, col, bottom - row, right - col)

    def blocks(self, height: int, width: int) -> Iterator["Window"]:
        """Yield the blocks (height, width) of a grid from (0, 0) that this window meets."""
        if self.height <= 0 or self.width <= 0:
            return
        for row in range(self.row - self.row % height, self.row + self.height, height):
            for col in range(self.col - self.col % width, self.col + self.width, width):
                yield Window(row, col, height, width)

    def within(self, outer: "Window") -> "Window":
        """Return this window with its corner counted from that of another."""
        return Window(self.row - outer.row, self.col - outer.col, self.height, self.width)


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles begin along an axis so that they cover it.

    Neighbours overlap by ``overlap`` pixels, the last two by at least that: the last tile ends
    with the axis. An axis no longer than a tile has one tile, at 0.

    Raises:
        ValueError: the overlap is negative or leaves no step.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap must be in [0, tile), got overlap {overlap} and tile {tile}")
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]


def grid(height: int, width: int, tile: int, overlap: int = 0) -> Iterator[Window]:
    """Yield windows (tile, tile) that cover an image of (height, width), row by row.

    In an image smaller than a tile the window reaches beyond it.
    """
    for row in starts(height, tile, overlap):
        for col in starts(width, tile, overlap):
            yield Window(row, col, tile, tile)


def partition(height: int, width: int, size: int) -> Iterator[Window]:
    """Yield windows of at most (size, size) that hold each pixel of an image exactly once.

    Those of the last row and column are as small as what remains.
    """
    for row in range(0, height, size):
        for col in range(0, width, size):
            yield Window(row, col, min(size, height - row), min(size, width - col))


def random_window(height: int, width: int, size: int, *, rng: np.random.Generator) -> Window:
    """Draw a window (size, size), uniform among those inside an image of (height, width).

    An image smaller than the window is centred in it, up to rounding.
    """
    row, col = (
        int(rng.integers(0, length - size + 1)) if length > size else -((size - length) // 2)
        for length in (height, width)
    )
    return Window(row, col, size, size)


def blend_weights(length: int, tile: int, overlap: int) -> NDArray[np.float32]:
    """Return the weights along one axis of the tiles that ``starts`` covers it with.

    A raised cosine rises across the overlap, or half the tile if that is less. At every pixel of
    the axis, the first and the last included, the weights of the tiles that cover it add up to
    1; so do products of two axes' weights.

    Returns:
        (tiles, tile) float32 in (0, 1]; 0 for what of a tile lies beyond the axis.
    """
    ramp = np.ones(tile)
    reach = min(overlap, tile // 2)
    if reach:
        rising = np.sin(0.5 * np.pi * (np.arange(reach) + 0.5) / reach) ** 2
        ramp[:reach] = rising
        ramp[-reach:] = rising[::-1]
    # Never nothing, so that the outermost pixels, which one tile covers, can be divided.
    ramp = np.maximum(ramp, 1e-3)
    firsts = starts(length, tile, overlap)
    total = np.zeros(max(length, tile))
    for first in firsts:
        total[first : first + tile] += ramp
    weights = np.stack([ramp / total[first : first + tile] for first in firsts])
    weights[:, length:] = 0.0
    return weights.astype(np.float32)
