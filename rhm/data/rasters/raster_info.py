"""Properties of raster files: size, bands, place on Earth, and what marks nodata."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import CRSError
from rasterio.io import DatasetReader
from rasterio.rpc import RPC
from rasterio.transform import Affine, GCPTransformer, from_gcps

from rhm.data.rasters.gdal_options import GDAL_ERRORS
from rhm.data.rasters.georeference import ground_sampling_distance, pixel_aspect
from rhm.errors import RasterError, one_line, printable

MOST_PX = 1 << 26
"""Largest height and width that is read, the equator at 0.6 m. A larger one is damage, and work and
memory in proportion to it would have no end."""

_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


@dataclass(frozen=True)
class RasterInfo:
    """Properties of a raster file.

    Attributes:
        path: path as given by the caller.
        height: number of rows.
        width: number of columns.
        bands: 1-based indices of the bands of imagery, without alpha; red, green and blue come
            first, in this order, if the file says which bands these are.
        dtype: data type of the bands, by its numpy name.
        crs: coordinate reference system, or None.
        transform: affine transform from (column, row) of pixels to coordinates. If the file has
            ground control points instead, their best fit; if it has neither, or its pixels have no
            area, the identity.
        nodata: declared nodata value, or None.
        masked: whether the file declares nodata by a value, a mask or an alpha band.
        block_shape: number of rows and columns of a stored block.
        overviews: decimation factors of the stored overviews.
        gcps: ground control points, if the file has these instead of a transform.
        rpcs: rational polynomial coefficients, or None; they refer to pixels of the file.
        assumed_gsd_m: ground sampling distance in metres if the file does not specify it, or None.
    """

    path: str
    height: int
    width: int
    bands: tuple[int, ...]
    dtype: str
    crs: CRS | None
    transform: Affine
    nodata: float | None
    masked: bool
    block_shape: tuple[int, int]
    overviews: tuple[int, ...]
    gcps: tuple[GroundControlPoint, ...] = ()
    rpcs: RPC | None = None
    assumed_gsd_m: float | None = None

    @cached_property
    def gsd_m(self) -> float | None:
        """Ground sampling distance in metres at the centre.

        Without a location on Earth, the one that is assumed, or None.
        """
        # Computed on demand, because it takes longer than opening the file.
        if self.crs is None:
            return self.assumed_gsd_m
        found = ground_sampling_distance(self.crs, self.transform, self.height, self.width)
        return self.assumed_gsd_m if found is None else found

    @cached_property
    def pixel_aspect(self) -> float:
        """How many times as wide as high pixels are on the ground; 1 if that is unknown."""
        if self.crs is None:
            return 1.0
        return pixel_aspect(self.crs, self.transform, self.height, self.width)


def _transform_through(gcps: Sequence[GroundControlPoint]) -> Affine | None:
    """Return the transform that fits ground control points best.

    None if they determine none, because there are too few or they lie on a line.
    """
    try:
        with GCPTransformer(list(gcps)):
            return from_gcps(gcps)
    except GDAL_ERRORS:
        return None


def check_no_palette(dataset: DatasetReader, info: RasterInfo) -> None:
    """Check that the pixels are values of imagery.

    Raises:
        RasterError: they are numbers of colours.
    """
    if any(dataset.colorinterp[band - 1] is ColorInterp.palette for band in info.bands):
        raise RasterError(
            f"{info.path} stores numbers of colours in a table (a palette), not pixel values: "
            "expand it first (gdal_translate -expand rgb)"
        )


def _imagery(dataset: DatasetReader) -> tuple[int, ...]:
    """Return the bands without alpha, with red, green and blue first if the file names them."""
    meanings = dict(enumerate(dataset.colorinterp, start=1))
    bands = [band for band, meaning in meanings.items() if meaning is not ColorInterp.alpha]
    named = [[band for band in bands if meanings[band] is colour] for colour in _COLOURS]
    if any(len(of_colour) != 1 for of_colour in named):
        return tuple(bands)
    colours = [band for (band,) in named]
    return (*colours, *(band for band in bands if band not in colours))


def unmasking_alpha(dataset: DatasetReader) -> tuple[int, ...]:
    """Return the alpha bands that GDAL makes no mask of.

    It does so only of uint8 and uint16, beside one or three bands, and without other nodata.
    """
    return tuple(
        band
        for band, meaning in enumerate(dataset.colorinterp, start=1)
        if meaning is ColorInterp.alpha
        and not any(MaskFlags.alpha in of_band for of_band in dataset.mask_flag_enums)
    )


def describe_dataset(
    dataset: DatasetReader,
    path: str | os.PathLike[str],
    chosen: Sequence[int] | None = None,
) -> RasterInfo:
    """Return the properties of an open raster.

    Args:
        dataset: open dataset.
        path: path as given by the caller.
        chosen: 1-based indices of the bands; by default, all except alpha.

    Raises:
        RasterError: the raster lacks a band, its bands differ in dtype, its pixels are complex, it
            is too large, its coordinate reference system is not understood, or what it says of
            itself is damaged.
    """
    try:
        return _describe(dataset, path, chosen)
    except (*GDAL_ERRORS, KeyError, ValueError) as error:
        # Most of what a file says is read when it is asked for.
        raise RasterError(
            f"{printable(os.fspath(path))} or a file that it refers to is damaged: "
            f"{one_line(error)}"
        ) from error


def _describe(
    dataset: DatasetReader, path: str | os.PathLike[str], chosen: Sequence[int] | None
) -> RasterInfo:
    if max(dataset.height, dataset.width) > MOST_PX:
        raise RasterError(
            f"{printable(os.fspath(path))} is said to have {dataset.height} x {dataset.width} "
            f"pixels: rasters of up to {MOST_PX} a side are read"
        )
    bands = tuple(chosen or _imagery(dataset))
    if not bands:
        raise RasterError(f"{path} has no band of imagery")
    missing = [band for band in bands if not 1 <= band <= dataset.count]
    if missing:
        raise RasterError(f"{path} has {dataset.count} bands, so no band {missing[0]}")
    dtypes = {dataset.dtypes[band - 1] for band in bands}
    if len(dtypes) > 1:
        raise RasterError(
            f"{path} has bands of {', '.join(sorted(dtypes))}: choose bands of the same dtype"
        )
    if min(dtypes).startswith("complex"):
        raise RasterError(
            f"{path} has complex pixels ({min(dtypes)}): convert them to real numbers first, such "
            "as the amplitude"
        )
    flags = dataset.mask_flag_enums
    rows, cols = dataset.block_shapes[0]
    try:
        crs, transform = dataset.crs or None, dataset.transform
        gcps, gcps_crs = dataset.gcps
    except CRSError as error:
        raise RasterError(
            f"{path} has a coordinate reference system that cannot be understood: assign another "
            "one, such as with gdal_edit.py -a_srs"
        ) from error
    fitted = None
    if gcps and transform.is_identity:
        fitted = _transform_through(gcps)
        # Points that determine no place are as good as none.
        crs, transform = (None, transform) if fitted is None else (gcps_crs or crs, fitted)
    if not transform.determinant or not all(map(math.isfinite, transform[:6])):
        # Pixels without an area have no place.
        crs, transform = None, Affine.identity()
    return RasterInfo(
        path=os.fspath(path),
        height=dataset.height,
        width=dataset.width,
        bands=bands,
        dtype=dataset.dtypes[bands[0] - 1],
        crs=crs,
        transform=transform,
        nodata=dataset.nodatavals[bands[0] - 1],
        masked=not all(MaskFlags.all_valid in of_band for of_band in flags)
        or bool(unmasking_alpha(dataset)),
        block_shape=(rows, cols),
        overviews=tuple(dataset.overviews(1)),
        gcps=() if fitted is None else tuple(gcps),
        rpcs=dataset.rpcs,
    )
