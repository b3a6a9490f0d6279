"""Map tiles of rasters as images, at any zoom level, read from overviews if there are any."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window

from rhm.data.rasters.gdal_options import GDAL_ERRORS, reading
from rhm.data.rasters.raster_info import unmasking_alpha
from rhm.errors import RasterError
from rhm.viewer.predictions import PredictionFiles

SIDE = 256
"""Size of a map tile in pixels, along an axis."""

NODATA = 255
"""Value of nodata pixels in a tile of probabilities; 0 to 254 represent 0 to 1."""

_SAMPLE = 512
_DARK_TO_BRIGHT = (2.0, 98.0)


@dataclass(frozen=True)
class Place:
    """A map tile, each pixel of which covers 2 ** level pixels of the raster along an axis."""

    level: int
    col: int
    row: int

    def window(self, height: int, width: int) -> tuple[Window, tuple[int, int]] | None:
        """Return the window of a raster that the tile shows, and its size in the tile."""
        step = 1 << self.level
        left, top = self.col * SIDE * step, self.row * SIDE * step
        if not (0 <= left < width and 0 <= top < height):
            return None
        cols, rows = min(SIDE * step, width - left), min(SIDE * step, height - top)
        return Window(left, top, cols, rows), (-(-rows // step), -(-cols // step))


def probability_tile(prediction: PredictionFiles, place: Place) -> bytes | None:
    """Return a map tile of probabilities as a grey PNG, or None outside the raster.

    Raises:
        RasterError: the raster cannot be read.
    """
    with prediction.open_probability() as raster:
        part = place.window(raster.height, raster.width)
        if part is None:
            return None
        window, shape = part
        try:
            stored = raster.read(
                1, window=window, out_shape=shape, resampling=Resampling.average, masked=True
            )
        except GDAL_ERRORS as error:
            raise RasterError(f"{prediction.probability} cannot be read: {error}") from error
        scale, offset = raster.scales[0], raster.offsets[0]
    probability = np.ma.filled(stored.astype(np.float64) * scale + offset, np.nan)
    levels = np.full((SIDE, SIDE), NODATA, dtype=np.uint8)
    known = np.isfinite(probability)
    levels[: shape[0], : shape[1]][known] = np.rint(np.clip(probability[known], 0, 1) * 254)
    return _encoded(".png", levels)


@dataclass(frozen=True)
class Rendering:
    """Rendering of a scene: its bands, and their values for black and white.

    Attributes:
        bands: one band, or the bands of red, green and blue.
        low: value shown as black, per band.
        high: value shown as white, per band.
    """

    bands: tuple[int, ...]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, raster: DatasetReader) -> "Rendering":
        """Choose bands by colour interpretation, and black and white by percentiles unless uint8.

        Raises:
            RasterError: the raster cannot be read.
        """
        bands = _bands(raster)
        if all(raster.dtypes[band - 1] == "uint8" for band in bands):
            return cls(bands, np.zeros(len(bands)), np.full(len(bands), 255.0))
        shape = (min(_SAMPLE, raster.height), min(_SAMPLE, raster.width))
        try:
            with reading(raster):
                sample = raster.read(bands, out_shape=(len(bands), *shape), masked=True)
        except GDAL_ERRORS as error:
            raise RasterError(f"{raster.name} cannot be read: {error}") from error
        low, high = np.zeros(len(bands)), np.ones(len(bands))
        for number, band in enumerate(sample):
            values = band.compressed().astype(np.float64)
            values = values[np.isfinite(values)]
            if values.size:
                low[number], high[number] = np.percentile(values, _DARK_TO_BRIGHT)
        return cls(bands, low, np.maximum(high, low + 1e-12))


def image_tile(prediction: PredictionFiles, rendering: Rendering, place: Place) -> bytes | None:
    """Return a map tile of the scene as WebP with transparent nodata, or None outside the raster.

    Raises:
        RasterError: the raster cannot be read.
    """
    with prediction.open_image() as raster:
        part = place.window(prediction.height, prediction.width)
        if part is None:
            return None
        window, (rows, cols) = part
        row, col = prediction.image_corner
        window = Window(window.col_off + col, window.row_off + row, window.width, window.height)
        try:
            with reading(raster):
                found = raster.read(
                    list(rendering.bands),
                    window=window,
                    out_shape=(len(rendering.bands), rows, cols),
                    resampling=Resampling.average,
                )
                known = raster.dataset_mask(
                    window=window, out_shape=(rows, cols), resampling=Resampling.nearest
                )
                for alpha in unmasking_alpha(raster):
                    opacity = raster.read(alpha, window=window, out_shape=(rows, cols))
                    known[~(opacity > 0)] = 0
        except GDAL_ERRORS as error:
            raise RasterError(f"{raster.name} cannot be read: {error}") from error
    low, high = rendering.low[:, None, None], rendering.high[:, None, None]
    shares = (np.nan_to_num(found.astype(np.float64)) - low) / (high - low)
    grey_or_colour = np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)
    picture = np.zeros((SIDE, SIDE, 4), dtype=np.uint8)
    picture[:rows, :cols, :3] = np.moveaxis(grey_or_colour[::-1], 0, -1)  # OpenCV's order is BGR
    picture[:rows, :cols, 3] = known
    return _encoded(".webp", picture)


def _bands(raster: DatasetReader) -> tuple[int, ...]:
    by_colour = {colour: band for band, colour in enumerate(raster.colorinterp, start=1)}
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(colour in by_colour for colour in colours):
        return tuple(by_colour[colour] for colour in colours)
    shown = [band for colour, band in by_colour.items() if colour != ColorInterp.alpha]
    shown = shown if len(shown) == raster.count else list(range(1, raster.count + 1))
    return tuple(shown[:3]) if len(shown) >= 3 else (1,)


def _encoded(suffix: str, picture: NDArray[np.uint8]) -> bytes:
    done, data = cv2.imencode(suffix, picture)
    assert done, "OpenCV writes PNG and WebP of any picture"  # noqa: S101 - a defect, not an input
    return data.tobytes()
