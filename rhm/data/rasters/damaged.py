"""Reading the undamaged parts of a damaged raster."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import Window
from rhm.errors import RasterError

_PIECE_PX = 64


class SalvagedRaster(Raster):
    """A ``Raster`` whose damaged blocks are nodata.

    On a grid of another resolution, some pixels around a damaged block are lost as well.

    Attributes:
        damaged: windows of the blocks that could not be read so far.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.damaged: set[Window] = set()

    def read(self, window: Window | None = None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window as ``Raster.read`` does; blocks that cannot be read are not valid."""
        self.check_dtype()
        info = self.info
        window = window or Window(0, 0, info.height, info.width)
        try:
            return super().read(window)
        except RasterError:
            return self._read_pieces(window)

    def _read_pieces(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        pixels = np.zeros((window.height, window.width, len(self.info.bands)), dtype=self.dtype)
        valid = np.zeros((window.height, window.width), dtype=bool)
        # The pieces of a grid of another resolution than the file's are not the file's blocks.
        size = (_PIECE_PX, _PIECE_PX) if self.resampled else self.info.block_shape
        for block in _blocks(window, *size):
            piece = _common(block, window)
            place = piece._replace(row=piece.row - window.row, col=piece.col - window.col).slices
            try:
                pixels[place], valid[place] = super().read(piece)
            except RasterError:
                self.damaged.add(_common(block, Window(0, 0, self.info.height, self.info.width)))
        return pixels, valid


def _blocks(window: Window, height: int, width: int) -> Iterator[Window]:
    """Yield the blocks of a grid of (height, width) that a window touches."""
    for row in range(window.row - window.row % height, window.row + window.height, height):
        for col in range(window.col - window.col % width, window.col + window.width, width):
            yield Window(row, col, height, width)


def _common(one: Window, other: Window) -> Window:
    """Return where two windows overlap, which they do."""
    row, col = max(one.row, other.row), max(one.col, other.col)
    bottom = min(one.row + one.height, other.row + other.height)
    right = min(one.col + one.width, other.col + other.width)
    return Window(row, col, bottom - row, right - col)
