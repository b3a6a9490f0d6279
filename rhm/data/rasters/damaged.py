"""Reading the undamaged parts of a damaged raster."""

from typing import Any

from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import Window
from rhm.errors import RasterError


class SalvagedRaster(Raster):
    """A ``Raster`` whose damaged blocks are nodata.

    Attributes:
        damaged: windows of the blocks that could not be read so far, on the grid of the file.
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
            if not self.resampled:
                return self._salvaged(window)
        # GDAL reads all that it resamples at once, or nothing.
        before, self._in_pixels = self._in_pixels, True
        try:
            return super().read(window)
        finally:
            self._in_pixels = before

    def _read_stored(self, window: Window) -> Pixels:
        try:
            return super()._read_stored(window)
        except RasterError:
            return self._salvaged(window)

    def _salvaged(self, window: Window) -> Pixels:
        whole = Window(0, 0, *self.stored_shape)
        pixels = Pixels.blank(window.height, window.width, len(self.info.bands), self.dtype)
        inside = window.common(whole)
        for block in inside.blocks(*self.info.block_shape):
            piece = block.common(inside)
            try:
                pixels.put(super()._read_stored(piece), piece.within(window))
            except RasterError:
                self.damaged.add(block.common(whole))
        return pixels
