"""Rasters, read by windows together with their validity masks.

A raster is read on the grid of its file or, if a ``scale`` is given, on a grid of another
resolution. All windows and sizes then refer to that grid, and no other code needs to know.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil, floor, sqrt
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Interleaving, MaskFlags, Resampling
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasterio.windows import Window as RasterioWindow

from rhm.colour.levels import DTYPES
from rhm.data.rasters.gdal_options import (
    GDAL_ERRORS,
    mappable,
    open_dataset,
    reading,
    stores_nothing,
)
from rhm.data.rasters.georeference import ONE, GridScale, scaled_gcps
from rhm.data.rasters.pixels import Pixels, any_differs, bands_last
from rhm.data.rasters.raster_info import (
    RasterInfo,
    check_no_palette,
    describe_dataset,
    unmasking_alpha,
)
from rhm.data.rasters.resampling import (
    Cells,
    GroupOf,
    Kernel,
    resample_pixels,
    shrink_classes,
)
from rhm.data.rasters.windows import Window
from rhm.errors import RasterError

# GDAL does not resample windows of few pixels, so at least this many are requested.
_RESAMPLED_PX = 128

_AT_ONCE = 1 << 19
"""Number of values that are resampled at once, here instead of by GDAL: they fit into a cache."""

_ROUNDING = 1e-6
"""Largest rounding error of a position in pixels."""


class Raster:
    """An open raster; use it as a context manager.

    Attributes:
        group_of: groups of the classes of a categorical raster on a coarser grid; see
            ``resampling.shrink_classes``.

    Args:
        path: path of the raster, or anything else that GDAL opens.
        bands: 1-based indices of the bands to read, in this order; by default, all except alpha.
        black_is_nodata: whether pixels that are zero in all of these bands are nodata.
        scale: number of pixels of the grid per pixel of the file, along both axes or each.
        shape: number of rows and columns of the grid, instead of a scale.
        categorical: whether values are classes, which must not be averaged.
        mapped: whether an uncompressed GeoTIFF is read from the file cache of the operating
            system. This is faster, but if the open file is truncated, the process crashes.

    Raises:
        RasterError: the file is missing, is not a raster, lacks a band, its bands differ in dtype
            or are complex, or its CRS cannot be understood.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        bands: Sequence[int] | None = None,
        black_is_nodata: bool = False,
        scale: float | GridScale = ONE,
        shape: tuple[int, int] | None = None,
        categorical: bool = False,
        mapped: bool = False,
    ) -> None:
        down, across = scale if isinstance(scale, GridScale) else (scale, scale)
        mapped = mapped and (down, across) == ONE and shape is None
        self._dataset = open_dataset(path, mapped=mapped)
        try:
            stored = describe_dataset(self._dataset, path, bands)
            if not categorical:
                check_no_palette(self._dataset, stored)
        except RasterError:
            self.close()
            raise
        height, width = shape or (
            max(1, round(stored.height * down)),
            max(1, round(stored.width * across)),
        )
        # Pixels of the file per pixel of the grid, along each axis: 1 / scale, except for rounding.
        self._step = (stored.height / height, stored.width / width)
        self._resampling = _resampling(self._step, categorical)
        self.group_of: GroupOf | None = None
        self._black_is_nodata = black_is_nodata
        self._stored = stored
        self._dtype = np.dtype(stored.dtype)
        self._nodata = _comparable_nodata(self._dataset, stored)
        self._alpha = unmasking_alpha(self._dataset)
        # GDAL leaves out the nodata value in each band by itself, weighs the pixels beside what a
        # mask hides wrongly, and uses another kernel where one axis shrinks and the other grows.
        self._in_pixels = (
            stored.masked
            or black_is_nodata
            or self._dtype.kind == "f"
            or min(self._step) < 1.0 < max(self._step)
        )
        mapped = mapped and mappable(self._dataset)
        self._pixel_by_pixel = mapped and _together_and_rising(self._dataset, stored.bands)
        if stored.overviews and max(self._step) > 1.0:
            # GDAL would choose an overview for each window, and adjacent windows would not match.
            self.close()
            self._dataset = open_dataset(path, overviews=False)
        self.info = replace(
            stored,
            height=height,
            width=width,
            transform=stored.transform @ Affine.scale(self._step[1], self._step[0]),
            masked=stored.masked or black_is_nodata,
            gcps=stored.gcps if self._step == (1.0, 1.0) else scaled_gcps(stored.gcps, self._step),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._dataset.close()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self._dtype

    @property
    def resampled(self) -> bool:
        """Whether the grid differs from that of the file."""
        return self._step != (1.0, 1.0)

    @property
    def stored(self) -> RasterInfo:
        """Properties of the file, whatever the scale."""
        return self._stored

    @property
    def stored_shape(self) -> tuple[int, int]:
        """Number of rows and columns of the file, whatever the scale."""
        return self._stored.height, self._stored.width

    def read(self, window: Window | None = None) -> Pixels:
        """Read the pixels of a window and their validity.

        Args:
            window: window on the grid of this raster; by default the whole raster. Pixels beyond
                the edges are zero and invalid.

        Returns:
            Contiguous values (height, width, bands) in the dtype of the file, and validity
            (height, width) bool. Floating-point pixels are invalid unless all bands are finite.

        Raises:
            RasterError: the dtype is not one of ``levels.DTYPES``, or a block cannot be read.
        """
        whole = Window(0, 0, self.info.height, self.info.width)
        window = window or whole
        inside = window.common(whole)
        if inside == window:
            return self._read_inside(window)
        pixels = Pixels.blank(window.height, window.width, len(self.info.bands), self.dtype)
        if inside.height > 0 and inside.width > 0:
            pixels.put(self._read_inside(inside), inside.within(window))
        return pixels

    def is_unstored(self, window: Window) -> bool:
        """Return whether a window is known to be nodata without reading it.

        Args:
            window: window on the grid of this raster, inside it.
        """
        if self._nodata is None or self._step != (1.0, 1.0):
            return False
        return stores_nothing(self._dataset, window)

    def read_decimated(self, max_pixels: int) -> Pixels:
        """Read few, evenly spread pixels of the whole raster, enough for a histogram.

        They are read from overviews if there are any, which limits the time for files of any
        size; otherwise every block is decoded. Values are never averaged here, but overviews that
        were made by averaging lack the extreme values of the file.

        Args:
            max_pixels: maximum number of pixels, which is nearly reached.

        Returns:
            Values (rows, columns, bands) and validity (rows, columns), as from ``read``.

        Raises:
            RasterError: the dtype is not one of ``levels.DTYPES``, or a block cannot be read.
        """
        height, width = self.stored_shape
        rows = max(1, min(height, round(height * sqrt(max_pixels / (height * width)))))
        cols = max(1, min(width, max_pixels // rows))
        rows = max(1, min(rows, max_pixels // cols))
        whole = Window(0, 0, height, width)
        with open_dataset(self.info.path) as dataset:
            return self._read(dataset, whole, (rows, cols), Resampling.nearest)

    def check_dtype(self) -> None:
        """Check that rhm can read the data type of the pixels.

        Raises:
            RasterError: the type is not in ``rhm.colour.levels.DTYPES``.
        """
        if self._dtype not in DTYPES:
            known = ", ".join(dtype.name for dtype in DTYPES)
            raise RasterError(
                f"{self.info.path} is {self.info.dtype}: rhm reads {known} imagery; "
                "convert it first"
            )

    def _read_inside(self, window: Window) -> Pixels:
        shape = (window.height, window.width)
        if not self.resampled:
            return self._read(self._dataset, window, shape, self._resampling)
        if self._resampling is Resampling.mode:
            return self._read_classes(window)
        if self._in_pixels and self._resampling is not Resampling.nearest:
            return self._read_resampled(window)
        row, height = _grown(window.row, window.height, self.info.height)
        col, width = _grown(window.col, window.width, self.info.width)
        step_row, step_col = self._step
        source = (row * step_row, col * step_col, height * step_row, width * step_col)
        grown = self._read(self._dataset, source, (height, width), self._resampling)
        values, valid = grown.part(window.within(Window(row, col, height, width)))
        return Pixels(np.ascontiguousarray(values), valid)

    def _read_resampled(self, window: Window) -> Pixels:
        """Read a window of another resolution, in which nodata pixels influence no others."""
        result = Pixels.blank(*window[2:], len(self.info.bands), self.dtype)
        cols = Kernel.of(window.col, window.width, self._step[1], self._stored.width)
        left, right = cols.span
        for part in self._parts(window):
            first = window.row + part.row
            rows = Kernel.of(first, part.height, self._step[0], self._stored.height)
            top, bottom = rows.span
            pixels = self._read_stored(Window(top, left, bottom - top, right - left))
            resampled = resample_pixels(pixels, rows.counted_from(top), cols.counted_from(left))
            result.put(resampled, part)
        return result

    def _read_classes(self, window: Window) -> Pixels:
        """Read a window in which every pixel is larger than those of the file."""
        result = Pixels.blank(*window[2:], len(self.info.bands), self.dtype)
        cols, left, right = self._cells(window.col, window.width, axis=1)
        for part in self._parts(window):
            rows, top, bottom = self._cells(window.row + part.row, part.height, axis=0)
            pixels = self._read_stored(Window(top, left, bottom - top, right - left))
            result.put(shrink_classes(pixels, rows, cols, self.group_of or _together), part)
        return result

    def _parts(self, window: Window) -> Iterator[Window]:
        """Yield the parts of a window, counted from its start, that are read at once."""
        # A row is as wide as the window, or as what it is made of.
        width = window.width * max(1.0, self._step[0] * self._step[1])
        at_once = max(1, int(_AT_ONCE / (width * len(self.info.bands))))
        for first in range(0, window.height, at_once):
            yield Window(first, 0, min(at_once, window.height - first), window.width)

    def _read_stored(self, window: Window) -> Pixels:
        """Read a window on the grid of the file."""
        return self._read(self._dataset, window, window[2:], Resampling.nearest)

    def _cells(self, first: int, count: int, axis: int) -> tuple[Cells, int, int]:
        """Return pixels of the grid as cells of those of the file, and where these begin and end.

        The cells are counted from the first of these pixels.
        """
        step, length = self._step[axis], self.stored_shape[axis]
        begin = min(floor(first * step + _ROUNDING), length - 1)
        end = min(length, max(begin + 1, ceil((first + count) * step - _ROUNDING)))
        return Cells(first * step - begin, step, count), begin, end

    def _read(
        self,
        dataset: DatasetReader,
        source: tuple[float, float, float, float],
        shape: tuple[int, int],
        resampling: Resampling,
    ) -> Pixels:
        """Read a part (row, column, height, width) of the file into an array of ``shape``."""
        self.check_dtype()
        info = self.info
        row, col, height, width = source
        window = RasterioWindow(col, row, width, height)
        if self._pixel_by_pixel:
            planes = np.empty((*shape, len(info.bands)), self._dtype).transpose(2, 0, 1)
        else:
            planes = np.empty((len(info.bands), *shape), self._dtype)
        try:
            with reading(dataset):
                dataset.read(list(info.bands), window=window, out=planes, resampling=resampling)
                valid = self._valid(dataset, window, planes, resampling)
        except (*GDAL_ERRORS, ValueError) as error:
            raise RasterError(
                f"{info.path} cannot be read at row {row:.0f}, column {col:.0f}, "
                f"{height:.0f} x {width:.0f} pixels (a damaged or truncated file?)"
            ) from error
        return Pixels(bands_last(planes), valid)

    def _valid(
        self,
        dataset: DatasetReader,
        window: RasterioWindow,
        planes: NDArray[Any],
        resampling: Resampling,
    ) -> NDArray[np.bool_]:
        """Return the validity of pixels (bands, H, W) that were read."""
        shape = planes.shape[1:]
        if not self._stored.masked:
            valid = np.ones(shape, dtype=bool)
        elif self._nodata is not None and resampling is Resampling.nearest:
            valid = any_differs(planes, self._nodata)
        else:
            valid = dataset.dataset_mask(window=window, out_shape=shape) > 0
        for alpha in self._alpha:
            opacity = dataset.read(alpha, window=window, out_shape=shape)
            valid &= opacity > 0
        if self._black_is_nodata:
            valid &= any_differs(planes, 0)
        if self._dtype.kind == "f":
            valid &= np.isfinite(planes).all(axis=0)
        return valid


def _together(pixels: Pixels) -> NDArray[np.uint8]:
    """Return one group for all classes."""
    return np.zeros(pixels.valid.shape, np.uint8)


def describe(path: str | os.PathLike[str]) -> RasterInfo:
    """Return the properties of the raster at ``path``, without reading pixels.

    Raises:
        RasterError: the file is missing or not a raster.
    """
    with open_dataset(path) as dataset:
        return describe_dataset(dataset, path)


def _resampling(step: tuple[float, float], categorical: bool) -> Resampling:
    if step == (1.0, 1.0):
        return Resampling.nearest
    if categorical:
        return Resampling.mode if max(step) > 1.0 else Resampling.nearest
    # GDAL's bilinear interpolation averages along an axis that shrinks while the other grows.
    return Resampling.average if min(step) >= 1.0 else Resampling.bilinear


def _comparable_nodata(dataset: DatasetReader, info: RasterInfo) -> int | None:
    """Return the nodata value if comparing the bands with it gives the mask of the dataset."""
    flags = dataset.mask_flag_enums
    if any(of_band != [MaskFlags.nodata] for of_band in flags) or info.nodata is None:
        return None
    all_bands = sorted(info.bands) == list(range(1, dataset.count + 1))
    one_value = set(dataset.nodatavals) == {info.nodata}
    integers = np.dtype(info.dtype).kind in "iu" and float(info.nodata).is_integer()
    return int(info.nodata) if all_bands and one_value and integers else None


def _together_and_rising(dataset: DatasetReader, bands: tuple[int, ...]) -> bool:
    """Return whether GDAL should fill arrays pixel by pixel instead of band by band.

    GDAL copies fastest between arrays of the same layout, and its block cache is stored by band.
    GDAL 3.10 confuses the order of the bands if all of them are read in another order.
    """
    rising = list(bands) == sorted(set(bands))
    return rising and dataset.interleaving is Interleaving.pixel


def _grown(first: int, length: int, limit: int) -> tuple[int, int]:
    """Return the start and length of a span of pixels, extended to a minimum within ``limit``."""
    enough = min(limit, max(length, _RESAMPLED_PX))
    return min(first, limit - enough), enough
