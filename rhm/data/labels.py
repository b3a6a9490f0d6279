"""Labels: where the buildings of an image are, read from a mask or from any vector file."""

import functools
import os
from pathlib import Path
from typing import Any

import cv2
import geopandas
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.transform import Affine

from rhm.augmentation.mask_values import MARKED_BOUNDARY, MARKED_CONTACT, numbered
from rhm.data.footprints import burn, burn_numbers, polygon_parts, read_footprints
from rhm.data.rasters.georeference import extent, offset_px, to_pixels
from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import Window
from rhm.data.vectors.vector_layer import OTHER_VECTOR_SUFFIXES, VECTOR_FORMATS
from rhm.errors import RasterError, VectorError

VECTOR_SUFFIXES = frozenset(VECTOR_FORMATS)
"""Suffixes of labels that contain footprints."""

_RASTER_TOO = frozenset({".vrt"})  # a suffix of masks as well

BuildingValues = tuple[tuple[int, ...], ...]
"""Values of buildings in a mask, each with a number for every band."""

_LARGEST_VALUE = 65535

# Programs disagree on whether coordinates are those of the corner or the centre of a pixel.
_MOST_OFFSET_PX = 1.5

IGNORE = 255
"""Value of label pixels whose truth is unknown: nodata, and pixels beyond the image."""


class Label:
    """The label of one image; use it as a context manager.

    Args:
        path: mask of the same size as the image, or vector file of footprints in any coordinate
            reference system. In a mask, pixels that are zero in all bands or transparent are
            background, a declared nodata value other than zero is ``IGNORE``, and all other
            pixels are building, unless ``building_values`` says which are.
        raster: the open image, on the grid on which labels are wanted.
        mapped: whether to read an uncompressed mask straight from the system's file cache; see
            ``Raster``.
        building_values: values of a mask that are building, separated by spaces: numbers, or
            colours such as ``0,0,255`` if the mask has several bands; by default, all but zero
            and those of contact.
        boundary_values: values of a mask that mark the boundary of buildings, which is building.
        contact_values: values of a mask that mark background between near buildings.
        instances: whether each value of a mask is a building of its own.

    Raises:
        RasterError: the mask cannot be read, differs from the image in size, lies elsewhere, or
            does not have the bands of the building values.
        VectorError: the footprints cannot be read, or cannot be placed on the image.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        raster: Raster,
        *,
        mapped: bool = False,
        building_values: str = "",
        boundary_values: str = "",
        contact_values: str = "",
        instances: bool = False,
    ) -> None:
        self._values = parse_building_values(building_values)
        self._boundary = parse_building_values(boundary_values)
        self._contact = parse_building_values(contact_values)
        self._instances = instances
        self._info = raster.info
        self._mask: Raster | None = None
        self._footprints: geopandas.GeoDataFrame | None = None
        suffix = Path(path).suffix.lower()
        if suffix in VECTOR_SUFFIXES | (OTHER_VECTOR_SUFFIXES - _RASTER_TOO):
            self._footprints = _footprints_over(path, raster)
            self._shapes, self._source = _in_pixels(self._footprints, raster)
            self._tree = shapely.STRtree(self._shapes)
        else:
            grid = (raster.info.height, raster.info.width)
            self._mask = Raster(
                path,
                shape=None if grid == raster.stored_shape else grid,
                categorical=True,
                mapped=mapped,
            )
            self._mask.group_of = self._group_of
            try:
                _check_size(self._mask, raster)
                _check_place(self._mask, raster)
                for values in (self._values, self._boundary, self._contact):
                    _check_values(self._mask, values)
            except RasterError:
                self._mask.close()
                raise

    def __enter__(self) -> "Label":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._mask is not None:
            self._mask.close()

    @property
    def mask(self) -> Raster | None:
        """The open mask; None if the label consists of footprints."""
        return self._mask

    @property
    def footprints(self) -> geopandas.GeoDataFrame | None:
        """The footprints that touch the image, in its CRS; None if the label is a mask."""
        return self._footprints

    @property
    def outlines(self) -> NDArray[Any] | None:
        """The footprints, (N,) valid polygons, as (column, row) on the grid of the raster.

        It is None if the label is a mask. Polygons may reach beyond the image.
        """
        return None if self._mask is not None else self._shapes

    def read(self, window: Window | None = None) -> NDArray[np.uint8]:
        """Return the truth, (height, width) uint8: 1 on buildings and 0 elsewhere.

        It is ``IGNORE`` where a mask declares nodata.

        Args:
            window: window in the grid of the raster; by default, the whole raster. There are no
                buildings beyond the image.
        """
        window = window or Window(0, 0, self._info.height, self._info.width)
        if self._mask is not None:
            return self.truth_of(self._mask.read(window), window)
        found, *grid = self._nearby(window)
        return self._blank_beyond(burn(self._shapes[found], *grid), window)

    def read_numbers(self, window: Window | None = None) -> NDArray[np.uint8]:
        """Return the truth, (height, width) uint8, in which buildings are told apart if possible.

        The values are those of ``rhm.augmentation.mask_values``: footprints, and the values of a
        mask with ``instances``, have numbers; all buildings of other masks are 1.

        Args:
            window: window as of ``read``.
        """
        window = window or Window(0, 0, self._info.height, self._info.width)
        if self._mask is None:
            found, *grid = self._nearby(window)
            truth = burn_numbers(self._shapes[found], numbered(self._source[found]), *grid)
            return self._blank_beyond(truth, window)
        stored = self._mask.read(window)
        truth = self.truth_of(stored, window)
        building = truth == 1
        if self._instances:
            truth[building] = numbered(_combined(stored.values))[building]
        truth[building & _is_one_of(stored.values, self._boundary)] = MARKED_BOUNDARY
        truth[(truth == 0) & _is_one_of(stored.values, self._contact)] = MARKED_CONTACT
        return truth

    def read_instances(self) -> NDArray[np.int32] | None:
        """Return a number from 1 for each building of a mask, (height, width) int32, else 0.

        Buildings are told apart by their values (``instances``), or by the boundaries between their
        insides (``boundary_values``); pixels of a boundary belong to the nearest inside.

        Returns:
            The numbers; None if the label consists of footprints, or of a mask that does not tell
            buildings apart.
        """
        if self._mask is None or not (self._instances or self._boundary):
            return None
        stored = self._mask.read(window := Window(0, 0, self._info.height, self._info.width))
        building = self.truth_of(stored, window) == 1
        inside = building & ~_is_one_of(stored.values, self._boundary)
        if self._instances:
            numbers = np.zeros(inside.shape, np.int32)
            _, values = np.unique(_combined(stored.values)[inside], return_inverse=True)
            numbers[inside] = values + 1
            if not self._boundary:
                return numbers
        else:
            numbers = _components(inside)
        # It takes time to import, and few labels need it.
        from skimage import segmentation

        flat = np.zeros_like(numbers)
        grown = np.asarray(segmentation.watershed(flat, numbers, mask=building))  # type: ignore[no-untyped-call]
        # A boundary that surrounds nothing is a small building.
        rest = _components(building & (grown == 0))
        return np.asarray(np.where(rest > 0, rest + numbers.max(), grown), dtype=np.int32)

    def truth_of(self, stored: Pixels, window: Window) -> NDArray[np.uint8]:
        """Return the truth of a window whose mask has been read; see ``read``."""
        return self._truth(stored, self._inside(window))

    def _group_of(self, stored: Pixels) -> NDArray[np.uint8]:
        """Return the truth of pixels of the mask, whatever its scale."""
        return self._truth(stored, np.ones(stored.valid.shape, dtype=bool))

    def _truth(self, stored: Pixels, inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
        pixels, valid = stored
        if not self._values:
            building = (_any_band(pixels) & valid).view(np.uint8)
            if self._contact:
                building[_is_one_of(pixels, self._contact)] = 0
        else:
            # A value that is building is known, even if the file declares it as nodata.
            valid = inside
            values = self._values + self._boundary
            building = (_is_one_of(pixels, values) & valid).view(np.uint8)
            valid = stored.valid | (building == 1)
        if self._mask is not None and self._mask.info.nodata:
            building[~valid & inside] = IGNORE
        return building

    def _blank_beyond(self, truth: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
        """Remove the parts of footprints that reach beyond the image from a window's truth."""
        if window.common(Window(0, 0, self._info.height, self._info.width)) != window:
            truth[~self._inside(window)] = 0
        return truth

    def _inside(self, window: Window) -> NDArray[np.bool_]:
        rows = np.arange(window.row, window.row + window.height)
        cols = np.arange(window.col, window.col + window.width)
        row_inside = (rows >= 0) & (rows < self._info.height)
        return row_inside[:, None] & (cols >= 0) & (cols < self._info.width)

    def _nearby(self, window: Window) -> tuple[NDArray[np.intp], Affine, int, int]:
        """Return the numbers of the polygons in a window, its transform, height and width."""
        row, col, height, width = window
        box = shapely.box(col, row, col + width, row + height)
        # In the order of the file, so that overlaps are the same in every window.
        return np.sort(self._tree.query(box)), Affine.translation(col, row), height, width


def _components(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the number of each pixel's component (4 neighbours), 0 where the mask is False."""
    _, numbers = cv2.connectedComponents(mask.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    return np.asarray(numbers, dtype=np.int32)


def _any_band(pixels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where pixels (H, W, bands) are non-zero in at least one band, (H, W)."""
    # Band by band: any(axis=-1) takes twenty times as long.
    return functools.reduce(np.logical_or, (pixels[..., b] != 0 for b in range(pixels.shape[-1])))


def _combined(pixels: NDArray[Any]) -> NDArray[np.int64]:
    """Return one number for the values of all bands of pixels (H, W, bands), (H, W)."""
    combined = np.zeros(pixels.shape[:2], dtype=np.int64)
    for band in range(pixels.shape[-1]):
        # A prime, so that colours that differ in one band rarely have the same number.
        combined = combined * 257 + pixels[..., band].astype(np.int64)
    return combined


def _is_one_of(pixels: NDArray[Any], values: BuildingValues) -> NDArray[np.bool_]:
    """Return where pixels (H, W, bands) have one of several values in all bands, (H, W)."""
    found = np.zeros(pixels.shape[:2], dtype=bool)
    for value in values:
        found |= functools.reduce(
            np.logical_and, (pixels[..., band] == number for band, number in enumerate(value))
        )
    return found


def parse_building_values(text: str) -> BuildingValues:
    """Return the values in a text such as ``1 2`` or ``0,0,255``.

    Raises:
        RasterError: the text has another form.
    """
    try:
        values = tuple(tuple(map(int, word.split(","))) for word in text.split())
    except ValueError:
        values = ((-1,),)
    if any(not 0 <= number <= _LARGEST_VALUE for value in values for number in value):
        raise RasterError(
            f"'{text}' are no values of a mask: give whole numbers, or colours such as 0,0,255"
        )
    return values


def _check_values(mask: Raster, values: BuildingValues) -> None:
    bands = len(mask.info.bands)
    wrong = next((value for value in values if len(value) != bands), None)
    if wrong is not None:
        raise RasterError(
            f"label {mask.info.path} has {bands} bands, and the building value "
            f"{','.join(map(str, wrong))} is for {len(wrong)}: give one number for each band"
        )


def _check_place(mask: Raster, image: Raster) -> None:
    """Check that a georeferenced mask lies on its image.

    Raises:
        RasterError: it is more than a pixel beside it.
    """
    # On the grids of the files, so that a mask fits at every scale or at none.
    offset = offset_px(mask.stored, image.stored)
    if offset is not None and offset > _MOST_OFFSET_PX:
        distance = f"{offset:.0f} pixels"
        if image.stored.gsd_m is not None:
            distance += f" ({offset * image.stored.gsd_m:.3g} m)"
        raise RasterError(
            f"label {mask.info.path} lies {distance} beside its image {image.info.path}: use the "
            "mask of this image, or remove a wrong georeference (gdal_edit.py -unsetgt)"
        )


def _check_size(mask: Raster, image: Raster) -> None:
    if mask.stored_shape != image.stored_shape:
        (height, width), (image_height, image_width) = mask.stored_shape, image.stored_shape
        raise RasterError(
            f"label {mask.info.path} is {width} x {height} pixels, but its image "
            f"{image.info.path} is {image_width} x {image_height}: use a mask of the same size"
        )


def _footprints_over(path: str | os.PathLike[str], raster: Raster) -> geopandas.GeoDataFrame:
    info = raster.info
    if info.crs is None:
        raise VectorError(
            f"{info.path} has no coordinate reference system, so the footprints of {path} "
            "cannot be placed on it: assign one to the image, or use a mask"
        )
    bounds = extent(info.height, info.width, info.transform, info.gcps)
    return read_footprints(path, info.crs, bounds)


def _in_pixels(
    footprints: geopandas.GeoDataFrame, raster: Raster
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return polygons on the grid of a raster, and the number of the footprint of each."""
    info = raster.info
    moved = to_pixels(footprints.geometry.to_numpy(), info.transform, info.gcps)
    if info.gcps and not shapely.is_valid(moved).all():
        return polygon_parts(moved)
    return moved, np.arange(len(moved))
