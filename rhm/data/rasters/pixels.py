"""Pixels of an image together with their validity mask, and the order of their axes.

Bands are last, (H, W, bands), except in rasterio and in networks, where they are first.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from rhm.colour.histogram import OPENCV_CHANNELS, Histogram
from rhm.data.rasters.windows import Window

_STRETCH = (0.01, 0.99)


class Pixels(NamedTuple):
    """Pixels of an image and their validity mask; ``values, valid = pixels`` unpacks them.

    Attributes:
        values: (H, W, bands) stored values.
        valid: (H, W) bool validity, False for nodata; may be read-only.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_]

    @classmethod
    def blank(cls, height: int, width: int, bands: int, dtype: DTypeLike) -> "Pixels":
        """Return pixels that are zero and not valid."""
        return cls(np.zeros((height, width, bands), dtype), np.zeros((height, width), dtype=bool))

    @classmethod
    def everywhere(cls, values: NDArray[Any]) -> "Pixels":
        """Return pixels that are all valid, with a mask that takes no memory."""
        return cls(values, _everywhere(*values.shape[:2]))

    @property
    def is_everywhere(self) -> bool:
        """Whether ``everywhere`` made these pixels; others may be entirely valid, too."""
        # An array that is broadcast from a single value has no strides.
        return not any(self.valid.strides)

    @property
    def nbytes(self) -> int:
        """Memory that values and mask take, in bytes."""
        return self.values.nbytes + (0 if self.is_everywhere else self.valid.nbytes)

    def part(self, window: Window) -> "Pixels":
        """Return the pixels of a window inside these, as views of the same memory."""
        return Pixels(self.values[window.slices], self.valid[window.slices])

    def put(self, part: "Pixels", window: Window) -> None:
        """Overwrite the pixels of a window with others of its size."""
        self.values[window.slices], self.valid[window.slices] = part

    def thumbnail(self, side: int) -> NDArray[np.float64]:
        """Return a small picture of these pixels, (side, side, 3) from 0 to 1.

        The first three bands, or the first one, are stretched together; nodata is white.
        """
        bands = self.values[..., :3] if self.values.shape[2] >= 3 else self.values[..., :1]
        values = bands.astype(np.float64)
        inside = values[self.valid]
        low, high = np.quantile(inside, _STRETCH) if inside.size else (0.0, 1.0)
        values = np.clip((values - low) / max(high - low, 1e-9), 0.0, 1.0)
        values[~self.valid] = 1.0
        rows, cols = (
            np.linspace(0, length - 1, side).round().astype(int) for length in values.shape[:2]
        )
        return np.broadcast_to(values[np.ix_(rows, cols)], (side, side, 3))

    def histogram(self) -> Histogram:
        """Count the values of the valid pixels.

        Raises:
            TypeError: the dtype is not one of ``rhm.colour.levels.DTYPES``.
        """
        return Histogram.of(self.values, valid=self.valid)


@lru_cache(maxsize=64)
def _everywhere(height: int, width: int) -> NDArray[np.bool_]:
    # numpy takes as long to broadcast as to copy a chip.
    return np.broadcast_to(np.True_, (height, width))


def any_differs(planes: NDArray[Any], value: int) -> NDArray[np.bool_]:
    """Return where at least one band of (bands, H, W) differs from ``value``, as (H, W) bool."""
    # For few bands, this is much faster than any(axis=...).
    differs = planes[0] != value
    for plane in planes[1:]:
        differs |= plane != value
    return np.asarray(differs)


def bands_last(planes: NDArray[Any]) -> NDArray[Any]:
    """Return (bands, H, W) pixels as a contiguous array (H, W, bands)."""
    pixels = planes.transpose(1, 2, 0)
    if pixels.flags.c_contiguous or not 1 < len(planes) <= OPENCV_CHANNELS:
        return np.ascontiguousarray(pixels)
    # OpenCV is ten times as fast as a copy by numpy.
    return np.asarray(cv2.merge(tuple(planes)))


def bands_first(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return (H, W, bands) pixels as a contiguous array (bands, H, W)."""
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
