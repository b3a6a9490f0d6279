"""Windows brought to another number of pixels, by the rules of ``Raster`` for another scale.

Pixels are averaged where a window shrinks and interpolated where it grows; classes are never
mixed; what has no data neither counts nor gets any.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rhm.data.rasters.pixels import Pixels

_TOGETHER = 4
"""Bands that OpenCV resizes at once, whatever their type."""


def resize_pixels(pixels: Pixels, side: int) -> Pixels:
    """Return a square window of imagery with ``side`` pixels along each axis.

    Args:
        pixels: (N, N), of one of ``rhm.colour.levels.DTYPES``.
        side: rows and columns of the result.

    Returns:
        (side, side) pixels of the same dtype, each valid if the nearest pixel is. Those that are
        not valid have the value of the nearest pixel, so that a nodata value stays what it is;
        the others are means of valid pixels alone.
    """
    values, valid = pixels
    at = _nearest(len(values), side)
    kept = np.asarray(valid[at])
    if valid.all():
        return Pixels(_resized(values, side), kept)
    weights = _resized(valid[..., None].astype(np.float32), side)
    # In float32 integers of 16 bits are exact.
    sums = _resized(np.where(valid[..., None], values, 0).astype(np.float32), side)
    means = sums / np.where(kept[..., None], weights, 1.0)
    if values.dtype.kind != "f":
        means = np.rint(means)
    return Pixels(np.where(kept[..., None], means.astype(values.dtype), values[at]), kept)


def resize_classes(classes: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return a square window of classes with ``side`` pixels along each axis.

    Args:
        classes: (N, N) uint8.
        side: rows and columns of the result.

    Returns:
        (side, side) uint8: of the pixels that come together in one the class with the largest
        area, and the nearest pixel's class where the window grows.
    """
    if side >= len(classes):
        return np.asarray(classes[_nearest(len(classes), side)])
    present = np.flatnonzero(np.bincount(classes.reshape(-1), minlength=256))
    areas = _resized((classes[..., None] == present).astype(np.float32), side)
    return np.asarray(present[areas.argmax(axis=-1)], dtype=np.uint8)


def _resized(pixels: NDArray[Any], side: int) -> NDArray[Any]:
    how = cv2.INTER_AREA if side < len(pixels) else cv2.INTER_LINEAR
    bands = [
        cv2.resize(np.ascontiguousarray(part), (side, side), interpolation=how)
        for part in np.split(pixels, range(_TOGETHER, pixels.shape[-1], _TOGETHER), axis=-1)
    ]
    return np.concatenate([part.reshape(side, side, -1) for part in bands], axis=-1)


def _nearest(length: int, side: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows and columns of the pixels nearest to those of a resized square."""
    centres = ((np.arange(side) + 0.5) * (length / side)).astype(np.intp)
    return centres[:, None], centres
