"""Small rasters for tests, written as real files."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

UTM = "EPSG:32633"
HALF_METRE = Affine(0.5, 0.0, 500_000.0, 0.0, -0.5, 5_000_000.0)
UNDECODABLE = (
    b'<VRTDataset rasterXSize="8" rasterYSize="8"><GeoTransfor\xde>0, 1, 0, 0, 0, 1</GeoTransform>'
    b'<VRTRasterBand dataType="Byte" band="1"></VRTRasterBand></VRTDataset>'
)
"""A damaged mosaic; GDAL quotes the byte that is not UTF-8."""


def write_raster(
    path: Path,
    pixels: NDArray[Any],
    *,
    crs: Any = UTM,
    transform: Affine = HALF_METRE,
    mask: NDArray[np.bool_] | None = None,
    alpha: bool = False,
    overviews: tuple[int, ...] = (),
    resampling: str = "average",
    **profile: Any,
) -> Path:
    """Write pixels (H, W) or (H, W, bands); the suffix chooses the format.

    With ``alpha`` the last band is an alpha band; ``mask`` becomes an internal mask. ``gcps`` take
    the place of the transform.
    """
    bands = pixels[..., None] if pixels.ndim == 2 else pixels
    driver = {".tif": "GTiff", ".png": "PNG", ".jpg": "JPEG"}[path.suffix]
    place = {} if crs is None else {"crs": crs, "transform": transform}
    if "gcps" in profile:
        del place["transform"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path,
            "w",
            driver=driver,
            height=bands.shape[0],
            width=bands.shape[1],
            count=bands.shape[2],
            dtype=bands.dtype,
            **place,
            **profile,
        ) as dataset:
            if alpha:
                grey = [ColorInterp.gray] * (bands.shape[2] - 1)
                dataset.colorinterp = [*grey, ColorInterp.alpha]
            dataset.write(np.moveaxis(bands, -1, 0))
            if mask is not None:
                dataset.write_mask(mask)
        if overviews:
            with rasterio.open(path, "r+") as dataset:
                dataset.build_overviews(overviews, rasterio.enums.Resampling[resampling])
    path.with_name(f"{path.name}.aux.xml").unlink(missing_ok=True)
    return path


def noise(
    height: int, width: int, bands: int = 3, *, dtype: str = "uint8", seed: int = 0
) -> NDArray[Any]:
    """Return random pixels (height, width, bands), none of them zero."""
    rng = np.random.default_rng(seed)
    high = {"uint8": 256, "uint16": 2048}[dtype]
    return rng.integers(1, high, (height, width, bands)).astype(dtype)


def warped(places: NDArray[Any], width: int) -> NDArray[Any]:
    """Return coordinates of (column, row) on an image that is bent by up to three pixels.

    No affine transform fits them to better than a pixel.
    """
    cols, rows = places.T
    bent = cols + 3.0 * (2.0 * cols / width - 1.0) ** 2
    return np.column_stack(HALF_METRE @ (bent, rows))


def warped_gcps(height: int, width: int) -> list[GroundControlPoint]:
    """Return the ground control points of such an image."""
    grid = np.meshgrid(np.linspace(0, width, 5), np.linspace(0, height, 4))
    places = np.column_stack([each.ravel() for each in grid])
    pairs = zip(places, warped(places, width), strict=True)
    return [GroundControlPoint(row, col, x, y) for (col, row), (x, y) in pairs]
