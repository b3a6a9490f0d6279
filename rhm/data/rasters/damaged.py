"""Reading the undamaged parts of a damaged raster."""

from typing import Any

from rhm.data.rasters.pixels import Pixels
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

    def read(self, window: Window | None = None) -> Pixels:
        """Read a window like ``Raster.read``; blocks that cannot be read are invalid."""
        self.check_dtype()
        info = self.info
        window = window or Window(0, 0, info.height, info.width)
        try:
            return super().read(window)
        except RasterError:
            return self._read_pieces(window)

    def _read_pieces(self, window: Window) -> Pixels:
        info = self.info
        pixels = Pixels.blank(window.height, window.width, len(info.bands), self.dtype)
        # The pieces of a grid of another resolution than the file's are not the file's blocks.
        size = (_PIECE_PX, _PIECE_PX) if self.resampled else info.block_shape
        for block in window.blocks(*size):
            piece = block.common(window)
            try:
                pixels.put(super().read(piece), piece.within(window))
            except RasterError:
                self.damaged.add(block.common(Window(0, 0, info.height, info.width)))
        return pixels
