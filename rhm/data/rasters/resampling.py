"""Resampling of windows to another number of pixels, by the rules of ``Raster``.

Pixels are averaged if a window shrinks and interpolated if it grows. Classes are never mixed.
Nodata pixels do not influence others, and remain nodata.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rhm.data.rasters.pixels import Pixels

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_TOGETHER = 4
"""Number of bands that OpenCV can resize at once, whatever their dtype."""


_ROUNDING = 1e-5
"""Largest rounding error of a sum of weights of 1."""

_TOUCHED = 1e-9
"""Smallest part of a pixel that is no rounding error."""

_COUNTABLE = 1 << 16
"""Largest number that is counted to find which numbers there are."""


def resize_pixels(pixels: Pixels, side: int) -> Pixels:
    """Return a window of imagery with ``side`` pixels along each axis.

    Args:
        pixels: (H, W) pixels of one of ``rhm.colour.levels.DTYPES``.
        side: number of rows and columns of the result.

    Returns:
        (side, side) pixels of the same dtype. A pixel is valid if the nearest pixel of the window
        is valid, and is then a mean of valid pixels only. An invalid pixel has the value of the
        nearest pixel, which preserves nodata values.
    """
    values, valid = pixels
    if valid.all():
        return Pixels(_resized(values, side), np.ones((side, side), dtype=bool))
    rows_of, cols_of = (_nearest(length, side) for length in valid.shape)
    kept = valid[np.ix_(rows_of, cols_of)]
    known = values.copy()
    known[~valid] = 0
    result = _resized(known, side)
    rows, cols = np.nonzero(~kept)
    result[rows, cols] = values[rows_of[rows], cols_of[cols]]
    weights = _resized(valid[..., None].astype(np.float32), side)[..., 0]
    beside = kept & (weights < 1.0 - _ROUNDING)
    # float32 represents 16-bit integers exactly.
    sums = _resized(known.astype(np.float32), side)[beside]
    means = sums / weights[beside, None]
    result[beside] = means if values.dtype.kind == "f" else np.rint(means)
    return Pixels(result, kept)


def resize_classes(classes: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return a window of classes with ``side`` pixels along each axis.

    Args:
        classes: (H, W) uint8 classes.
        side: number of rows and columns of the result.

    Returns:
        (side, side) uint8 classes. If the window shrinks, a pixel has the class with the largest
        area in it, and among equal ones the lowest; if the window grows along both axes, it has the
        class of the nearest pixel.
    """
    if side >= max(classes.shape):
        return classes[np.ix_(*(_nearest(length, side) for length in classes.shape))]
    largest = np.zeros((side, side), np.float32)
    result = np.zeros((side, side), np.uint8)
    for present in np.flatnonzero(np.bincount(classes.reshape(-1), minlength=256)):
        area = _resized((classes == present)[..., None].astype(np.float32), side)[..., 0]
        result[area > largest] = present
        np.maximum(largest, area, out=largest)
    return result


class Cells(NamedTuple):
    """Cells of a coarser grid along one axis.

    Attributes:
        first: where the first cell begins, in pixels.
        step: length of a cell in pixels.
        number: number of cells.
    """

    first: float
    step: float
    number: int

    def weights(self, length: int) -> "csr_array":
        """Return the part of each of ``length`` pixels that lies in each cell, (number, length)."""
        # It takes time to import, and images need none of it.
        from scipy.sparse import csr_array

        edges = np.clip(self.first + self.step * np.arange(self.number + 1), 0.0, length)
        begins = np.minimum(np.floor(edges[:-1] + _TOUCHED), length - 1).astype(np.intp)
        ends = np.maximum(np.ceil(edges[1:] - _TOUCHED).astype(np.intp), begins + 1)
        rows = np.repeat(np.arange(self.number), ends - begins)
        pointers = np.concatenate([[0], np.cumsum(ends - begins)])
        cols = np.arange(pointers[-1]) + (begins - pointers[:-1])[rows]
        parts = np.minimum(cols + 1, edges[1:][rows]) - np.maximum(cols, edges[:-1][rows])
        # A cell of which rounding leaves nothing has the class of the pixel beside it.
        parts = np.maximum(parts, _TOUCHED)
        return csr_array((parts, cols, pointers), shape=(self.number, length))


def shrink_classes(pixels: Pixels, rows: Cells, cols: Cells) -> Pixels:
    """Return the class that has the largest area in each cell of a coarser grid.

    GDAL's mode counts every pixel that a cell touches as a whole one, which is wrong at edges
    unless a cell has a whole number of pixels.

    Args:
        pixels: (H, W) pixels whose values, in all bands together, are classes. Nodata is a class.
        rows: cells along the rows.
        cols: cells along the columns.

    Returns:
        (rows.number, cols.number) pixels. Among equal areas, the class with the lowest values is
        taken, and nodata last.
    """
    codes, classes = _coded(pixels)
    if classes.valid.size == 1:
        result = np.zeros((rows.number, cols.number), np.intp)
    else:
        result = _largest(codes, rows.weights(len(codes)), cols.weights(codes.shape[1]))
    return Pixels(classes.values[0, result], classes.valid[0, result])


def _coded(pixels: Pixels) -> tuple[NDArray[np.intp], Pixels]:
    """Return the number of the class of each pixel, (H, W), and a pixel of each class, (1, K)."""
    values, valid = pixels
    codes = np.zeros(valid.shape, np.intp)
    for band in np.moveaxis(values, -1, 0):
        present = _present(band)
        # Only numbers that occur, so that they stay small however many bands there are.
        codes = codes * len(present) + np.searchsorted(present, band)
        codes = np.searchsorted(_present(codes), codes)
    if not valid.all():
        codes[~valid] = codes.max() + 1
        codes = np.searchsorted(_present(codes), codes)
    examples = np.zeros(int(codes.max()) + 1, np.intp)
    examples[codes.reshape(-1)] = np.arange(codes.size)
    flat = values.reshape(-1, values.shape[-1])
    return codes, Pixels(flat[None, examples], valid.reshape(-1)[None, examples])


def _present(numbers: NDArray[Any]) -> NDArray[Any]:
    """Return the different numbers of an array, rising."""
    if numbers.dtype.kind == "f" or numbers.min() < 0 or numbers.max() > _COUNTABLE:
        return np.unique(numbers)
    # Much faster than to sort them.
    return np.flatnonzero(np.bincount(numbers.reshape(-1)))


def _largest(codes: NDArray[np.intp], down: "csr_array", across: "csr_array") -> NDArray[np.intp]:
    """Return the class with the largest area in each cell."""
    from scipy.ndimage import find_objects

    largest = np.zeros((down.shape[0], across.shape[0]))
    result = np.zeros(largest.shape, np.intp)
    for code, box in enumerate(find_objects(codes + 1)):
        of_rows, rows = _over(down, box[0])
        of_cols, cols = _over(across, box[1])
        here = (codes[box] == code).astype(np.float64)
        area = (of_cols @ (of_rows @ here).T).T
        better = area > largest[rows, cols] + _TOUCHED
        result[rows, cols][better] = code
        np.maximum(largest[rows, cols], area, out=largest[rows, cols])
    return result


def _over(weights: "csr_array", pixels: slice) -> "tuple[csr_array, slice]":
    """Return the weights of some pixels in the cells that they touch, and these cells."""
    within = weights[:, pixels]
    touched = np.flatnonzero(np.diff(within.indptr))
    cells = slice(int(touched[0]), int(touched[-1]) + 1)
    return within[cells], cells


def _resized(pixels: NDArray[Any], side: int) -> NDArray[Any]:
    height, width = pixels.shape[:2]
    if min(height, width) < side < max(height, width):
        # OpenCV averages along both axes or along none.
        first = (side, width) if height > width else (height, side)
        return _resized_alike(_resized_alike(pixels, *first), side, side)
    return _resized_alike(pixels, side, side)


def _resized_alike(pixels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Resize pixels that shrink along no axis, or grow along none."""
    shrinks = height < pixels.shape[0] or width < pixels.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    bands = [
        cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=how)
        for part in np.split(pixels, range(_TOGETHER, pixels.shape[-1], _TOGETHER), axis=-1)
    ]
    parts = [part.reshape(height, width, -1) for part in bands]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _nearest(length: int, side: int) -> NDArray[np.intp]:
    """Return the indices of the pixels that are nearest to those of a resized axis."""
    return ((np.arange(side) + 0.5) * (length / side)).astype(np.intp)
