"""Resampling of windows to another number of pixels, by the rules of ``Raster``.

Pixels are averaged if a window shrinks and interpolated if it grows. Classes are never mixed.
Nodata pixels do not influence others, and remain nodata.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rhm.data.rasters.pixels import Pixels

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
        area in it, and among equal ones that of the pixel in its middle; if the window grows along
        both axes, it has the class of the nearest pixel.
    """
    if side >= max(classes.shape):
        return classes[np.ix_(*(_nearest(length, side) for length in classes.shape))]
    middle = classes[np.ix_(*(_nearest(length, side) for length in classes.shape))]
    largest, own = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
    result = np.zeros((side, side), np.uint8)
    for present in np.flatnonzero(np.bincount(classes.reshape(-1), minlength=256)):
        area = _resized((classes == present)[..., None].astype(np.float32), side)[..., 0]
        result[area > largest] = present
        np.maximum(largest, area, out=largest)
        own[middle == present] = area[middle == present]
    # So that areas stay what they are on average.
    return np.where(own > largest - _ROUNDING, middle, result)


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

    def touched(self, length: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return which of ``length`` pixels each cell touches, and how much of each lies in it.

        Returns:
            (number, K) pixels, the last of which may be repeated, and (number, K) parts of them,
            zero for those that are repeated.
        """
        return _touched(self.first + self.step * np.arange(self.number + 1), length)

    def middles(self, length: int) -> NDArray[np.intp]:
        """Return the pixel in the middle of each cell, (number,)."""
        middles = self.first + self.step * (np.arange(self.number) + 0.5)
        return np.asarray(np.clip(middles + _TOUCHED, 0, length - 1).astype(np.intp))


class Kernel(NamedTuple):
    """What the pixels of a resampled axis are made of.

    Attributes:
        pixels: (number, K) pixels, the last of which may be repeated.
        weights: (number, K) their weights, which add up to 1; zero for those that are repeated.
        nearest: (number,) the nearest pixel.
    """

    pixels: NDArray[np.intp]
    weights: NDArray[np.float64]
    nearest: NDArray[np.intp]

    @classmethod
    def of(cls, first: int, number: int, step: float, length: int) -> "Kernel":
        """Return the kernel that averages along an axis that shrinks, and interpolates otherwise.

        What a pixel is made of depends on its position on the whole axis only, and not on the
        pixels that are asked for with it.

        Args:
            first: first pixel of the resampled axis.
            number: number of pixels.
            step: number of pixels of the axis in one of the resampled axis.
            length: number of pixels of the axis.
        """
        middles = step * (np.arange(first, first + number) + 0.5)
        nearest = np.clip(middles + _TOUCHED, 0, length - 1).astype(np.intp)
        if step >= 1.0:
            pixels, parts = _touched(step * np.arange(first, first + number + 1), length)
            return cls(pixels, parts / parts.sum(axis=1, keepdims=True), nearest)
        below = np.floor(middles - 0.5)
        pixels = np.clip(below[:, None] + [0, 1], 0, length - 1).astype(np.intp)
        share = middles - 0.5 - below
        return cls(pixels, np.stack([1.0 - share, share], axis=1), nearest)

    @property
    def span(self) -> tuple[int, int]:
        """The first pixel, and the one after the last."""
        return int(self.pixels.min()), int(self.pixels.max()) + 1

    def counted_from(self, first: int) -> "Kernel":
        """Return the kernel for an axis that begins at pixel ``first``."""
        return Kernel(self.pixels - first, self.weights, self.nearest - first)

    def along(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return floating-point means (number, ...) of rows (length, ...)."""
        dtype = np.result_type(rows.dtype, np.float32)
        weights = self.weights.astype(dtype).reshape(*self.weights.shape, *[1] * (rows.ndim - 1))
        found = rows[self.pixels[:, 0]] * weights[:, 0]
        for each in range(1, self.pixels.shape[1]):
            found += rows[self.pixels[:, each]] * weights[:, each]
        return np.asarray(found)


def resample_pixels(pixels: Pixels, rows: Kernel, cols: Kernel) -> Pixels:
    """Return pixels of imagery on another grid.

    Args:
        pixels: (H, W) pixels of one of ``rhm.colour.levels.DTYPES``.
        rows: what the rows of the result are made of.
        cols: what its columns are made of.

    Returns:
        Pixels of the same dtype. A pixel is valid if the nearest one of the given pixels is valid,
        and is then a mean of valid pixels only. An invalid pixel has the value of the nearest one,
        which preserves nodata values.
    """

    def means(planes: NDArray[Any]) -> NDArray[Any]:
        across = cols.along(rows.along(planes).swapaxes(0, 1))
        return across.swapaxes(0, 1)

    values, valid = pixels
    nearest = np.ix_(rows.nearest, cols.nearest)
    kept = valid[nearest]
    if valid.all():
        found = means(values)
    else:
        weights = means(valid[..., None].astype(np.float32))
        # So that a pixel among valid ones does not depend on others that are read with it.
        weights[~kept | (weights[..., 0] > 1.0 - _ROUNDING)] = 1.0
        found = means(np.where(valid[..., None], values, values.dtype.type(0))) / weights
    if values.dtype.kind != "f":
        found = np.rint(found)
    result = found.astype(values.dtype)
    result[~kept] = values[nearest][~kept]
    return Pixels(np.ascontiguousarray(result), kept)


def _touched(edges: NDArray[Any], length: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return which of ``length`` pixels lie between adjacent edges, and how much of each.

    See ``Cells.touched``.
    """
    edges = np.clip(edges, 0.0, length)
    begins = np.minimum(np.floor(edges[:-1] + _TOUCHED), length - 1).astype(np.intp)
    ends = np.maximum(np.ceil(edges[1:] - _TOUCHED).astype(np.intp), begins + 1)
    pixels = begins[:, None] + np.arange((ends - begins).max())
    parts = np.minimum(pixels + 1, edges[1:, None]) - np.maximum(pixels, edges[:-1, None])
    parts = np.where(pixels < ends[:, None], np.maximum(parts, 0.0), 0.0)
    return np.minimum(pixels, ends[:, None] - 1), parts


GroupOf = Callable[[Pixels], NDArray[np.uint8]]
"""Function that returns the group of the class of each pixel, (H, W), for (H, W) pixels."""


def shrink_classes(pixels: Pixels, rows: Cells, cols: Cells, group_of: GroupOf) -> Pixels:
    """Return the class that has the largest area in each cell of a coarser grid.

    First, the group of classes with the largest area is found, and then the class in this group:
    where two houses and the ground between them have a third each, the cell is building. GDAL's
    mode counts every pixel that a cell touches as a whole one, which is wrong at edges unless a
    cell has a whole number of pixels.

    Args:
        pixels: (H, W) pixels whose values, in all bands together, are classes. Nodata is a class.
        rows: cells along the rows.
        cols: cells along the columns.
        group_of: groups of the classes.

    Returns:
        (rows.number, cols.number) pixels. Among equal areas, the class of the pixel in the middle
        is taken, which leaves the areas of all classes what they are on average.
    """
    codes, classes = _coded(pixels)
    shape = codes.shape
    result = codes[np.ix_(rows.middles(shape[0]), cols.middles(shape[1]))]
    if classes.valid.size > 1:
        down, across = rows.touched(shape[0]), cols.touched(shape[1])
        mixed = _mixed(codes, down[0], across[0])
        if len(mixed[0]):
            row, col = mixed
            seen = codes[down[0][row][:, :, None], across[0][col][:, None, :]].astype(np.intp)
            parts = down[1][row][:, :, None] * across[1][col][:, None, :]
            flat = len(row), -1
            groups = group_of(classes)[0]
            result[mixed] = _largest(seen.reshape(flat), parts.reshape(flat), groups, result[mixed])
    return Pixels(classes.values[0, result], classes.valid[0, result])


def _mixed(
    codes: NDArray[Any], rows: NDArray[np.intp], cols: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns of the cells that touch pixels of several classes."""
    lowest = highest = codes[rows[:, 0]]
    for part in rows.T[1:]:
        here = codes[part]
        lowest, highest = np.minimum(lowest, here), np.maximum(highest, here)
    least, most = lowest[:, cols[:, 0]], highest[:, cols[:, 0]]
    for part in cols.T[1:]:
        least = np.minimum(least, lowest[:, part])
        most = np.maximum(most, highest[:, part])
    row, col = np.nonzero(least != most)
    return row, col


def _largest(
    codes: NDArray[np.intp],
    areas: NDArray[np.float64],
    groups: NDArray[np.uint8],
    middle: NDArray[Any],
) -> NDArray[Any]:
    """Return the class with the largest area in the group with the largest area, for each cell.

    Args:
        codes: (cells, K) classes of the pixels that each cell touches.
        areas: (cells, K) areas of these pixels in it.
        groups: (classes,) group of each class.
        middle: (cells,) class of the pixel in the middle, which is taken among equal ones.
    """
    group = groups[codes]
    present = np.unique(groups)
    sums = np.array([np.where(group == each, areas, 0.0).sum(axis=1) for each in present])
    own = sums[np.searchsorted(present, groups[middle]), np.arange(len(middle))]
    best = np.where(
        own >= sums.max(axis=0) - _TOUCHED, groups[middle], present[np.argmax(sums, axis=0)]
    )
    inside = (group == best[:, None]) & (areas > 0.0)
    lowest = np.where(inside, codes, len(groups)).min(axis=1)
    several = np.flatnonzero(lowest != np.where(inside, codes, 0).max(axis=1))
    if len(several):
        # One row for each class in each cell.
        cell, place = np.nonzero(inside[several])
        code = codes[several][cell, place]
        keys, of_area = np.unique(cell * len(groups) + code, return_inverse=True)
        totals = np.rint(np.bincount(of_area, areas[several][cell, place]) / _TOUCHED)
        cell, code = np.divmod(keys, len(groups))
        # In each cell, the largest comes last, and the middle after others as large.
        order = np.lexsort([-code, code == middle[several][cell], totals, cell])
        lowest[several] = code[order[np.append(np.flatnonzero(np.diff(cell[order])), -1)]]
    return np.asarray(lowest)


def _coded(pixels: Pixels) -> tuple[NDArray[Any], Pixels]:
    """Return the number of the class of each pixel, (H, W), and a pixel of each class, (1, K)."""
    values, valid = pixels
    codes: NDArray[Any] = np.zeros(valid.shape, np.uint8)
    for band in np.moveaxis(values, -1, 0):
        found = _numbered(band)
        # Only numbers that occur, so that they stay small however many bands there are.
        codes = _numbered(codes.astype(np.int64) * (int(found.max()) + 1) + found)
    if not valid.all():
        wide = codes.astype(np.int64)
        wide[~valid] = int(codes.max()) + 1
        codes = _numbered(wide)
    examples = np.zeros(int(codes.max()) + 1, np.intp)
    examples[codes.reshape(-1)] = np.arange(codes.size)
    flat = values.reshape(-1, values.shape[-1])
    return codes, Pixels(flat[None, examples], valid.reshape(-1)[None, examples])


def _numbered(numbers: NDArray[Any]) -> NDArray[Any]:
    """Return the rank of each number among those that there are, in as few bytes as possible."""
    whole = numbers.dtype.kind in "iu" and numbers.min() >= 0 and numbers.max() <= _COUNTABLE
    # Much faster than to sort them.
    flat = numbers.reshape(-1)
    present = np.flatnonzero(np.bincount(flat)) if whole else np.unique(flat)
    dtype = np.uint8 if len(present) <= 1 << 8 else np.int64
    if not whole:
        return np.searchsorted(present, numbers).astype(dtype)
    ranks = np.zeros(int(present[-1]) + 1, dtype)
    ranks[present] = np.arange(len(present))
    return np.asarray(ranks[numbers])


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
