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


_ROUNDING = 1e-5
"""What a sum of shares may lack of 1."""


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
    if valid.all():
        return Pixels(_resized(values, side), np.ones((side, side), dtype=bool))
    nearest = _nearest(len(values), side)
    kept = valid[np.ix_(nearest, nearest)]
    known = values.copy()
    known[~valid] = 0
    result = _resized(known, side)
    rows, cols = np.nonzero(~kept)
    result[rows, cols] = values[nearest[rows], nearest[cols]]
    weights = _resized(valid[..., None].astype(np.float32), side)[..., 0]
    beside = kept & (weights < 1.0 - _ROUNDING)
    # In float32 integers of 16 bits are exact.
    sums = _resized(known.astype(np.float32), side)[beside]
    means = sums / weights[beside, None]
    result[beside] = means if values.dtype.kind == "f" else np.rint(means)
    return Pixels(result, kept)


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
        nearest = _nearest(len(classes), side)
        return classes[np.ix_(nearest, nearest)]
    largest = np.zeros((side, side), np.float32)
    result = np.zeros((side, side), np.uint8)
    for present in np.flatnonzero(np.bincount(classes.reshape(-1), minlength=256)):
        area = _resized((classes == present)[..., None].astype(np.float32), side)[..., 0]
        result[area > largest] = present
        np.maximum(largest, area, out=largest)
    return result


def _resized(pixels: NDArray[Any], side: int) -> NDArray[Any]:
    how = cv2.INTER_AREA if side < len(pixels) else cv2.INTER_LINEAR
    bands = [
        cv2.resize(np.ascontiguousarray(part), (side, side), interpolation=how)
        for part in np.split(pixels, range(_TOGETHER, pixels.shape[-1], _TOGETHER), axis=-1)
    ]
    parts = [part.reshape(side, side, -1) for part in bands]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _nearest(length: int, side: int) -> NDArray[np.intp]:
    """Return the row, or column, of the pixels nearest to those of a resized axis."""
    return ((np.arange(side) + 0.5) * (length / side)).astype(np.intp)
