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


def blend_weights(tile: int, overlap: int) -> NDArray[np.float32]:
    """Return the weight of each pixel of a tile where tiles overlap, (tile, tile) float32.

    A raised cosine rises across the overlap, or half the tile if that is less, to a largest
    weight of 1. It is never zero, so that the sum over tiles can be divided by everywhere, the
    image's outermost pixels included.
    """
    ramp = np.ones(tile, dtype=np.float64)
    reach = min(overlap, tile // 2)
    if reach:
        rising = np.sin(0.5 * np.pi * (np.arange(reach) + 0.5) / reach) ** 2
        ramp[:reach] = rising
        ramp[-reach:] = rising[::-1]
    # Far below any probability's resolution, yet safe to divide by in float32.
    ramp = np.maximum(ramp / ramp.max(), 1e-3)
    return np.outer(ramp, ramp).astype(np.float32)
