"""Images, as an indexer finds them and as a catalog lists them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
from rasterio.dtypes import dtype_rev

from rhm.data.labels import Label, parse_building_values
from rhm.data.rasters.georeference import ONE, GridScale, scale_between
from rhm.data.rasters.raster import Raster
from rhm.errors import CatalogError, RasterError
from rhm.required_files import asks_servers

SPLITS = ("train", "val", "test")
"""Names of the splits; an empty name means that the image has no split yet."""

VALUES = ("building_values", "boundary_values", "contact_values")
"""Attributes of a source that list values of its mask."""

FLAGS = ("black_is_nodata", "instances")
"""Attributes of a source that are true or false."""

_LIMITS: dict[str, tuple[float, float]] = {
    "width": (1, 1 << 31),
    "height": (1, 1 << 31),
    "bands": (1, 1 << 16),
    "gsd_m": (1e-9, 1e5),
    "pixel_aspect": (1e-4, 1e4),
}


@dataclass(frozen=True)
class Source:
    """An image as an indexer found it, before it is opened.

    Attributes:
        image: path of the image.
        label: path of its mask or footprints, or None if it has none.
        domain: name of the city, sensor or campaign, whichever is the unit of domain shift.
        group: name of the ground that the image shows; all images of a group share a split.
        split: train, val or test if the layout of the dataset prescribes it, otherwise empty.
        gsd_m: ground sampling distance in metres, used if the file does not specify it; or None.
        black_is_nodata: whether pixels that are zero in all bands are nodata.
        building_values: values of buildings in the mask; see ``rhm.data.labels.Label``.
        boundary_values: values in the mask that mark the boundary of buildings.
        contact_values: values in the mask that mark background between near buildings.
        instances: whether each value of the mask is a building of its own.
    """

    image: Path
    label: Path | None
    domain: str
    group: str
    split: str = ""
    gsd_m: float | None = None
    black_is_nodata: bool = False
    building_values: str = ""
    boundary_values: str = ""
    contact_values: str = ""
    instances: bool = False

    @property
    def name(self) -> str:
        """File name of the image, without suffix."""
        return self.image.stem

    def open(
        self,
        scale: float | GridScale = ONE,
        *,
        bands: Sequence[int] | None = None,
        mapped: bool = False,
    ) -> Raster:
        """Open the image on a grid of ``scale`` times its resolution; see ``Raster``."""
        return Raster(
            self.image,
            bands=bands,
            black_is_nodata=self.black_is_nodata,
            scale=scale,
            mapped=mapped,
        )

    def open_label(self, raster: Raster, *, mapped: bool = False) -> Label:
        """Open the label on the grid on which the image is open; see ``Label``.

        Raises:
            CatalogError: there is no label.
            RasterError: the mask cannot be read, or does not fit the image.
            VectorError: the footprints cannot be read, or cannot be placed on the image.
        """
        if self.label is None:
            raise CatalogError(f"{self.image} has no label")
        return Label(
            self.label,
            raster,
            mapped=mapped,
            building_values=self.building_values,
            boundary_values=self.boundary_values,
            contact_values=self.contact_values,
            instances=self.instances,
        )


@dataclass(frozen=True)
class Tile(Source):
    """An image of the catalog: a source, with the properties that were read from its file.

    Attributes:
        width: number of columns.
        height: number of rows.
        bands: number of bands, without alpha.
        dtype: data type of the pixels, by its numpy name.
        crs: coordinate reference system as authority code or WKT; empty if there is none.
        nodata: declared nodata value, or None.
        building_fraction: share of the valid pixels that are building; None without a label.
        pixel_aspect: how many times as wide as high pixels are on the ground; 1 if unknown.
    """

    width: int = 0
    height: int = 0
    bands: int = 0
    dtype: str = ""
    crs: str = ""
    nodata: float | None = None
    building_fraction: float | None = None
    pixel_aspect: float = 1.0

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "Tile":
        """Return the image of a row of a catalog, whose texts are str.

        Raises:
            ValueError: a value is impossible; the message names its column.
            TypeError: a value has another type.
            ArithmeticError: a number is infinite.
        """
        _check_texts(row)
        image = row["image"]
        row["image"] = Path(image)
        row["label"] = Path(row["label"]) if row["label"] else None
        for name in ("gsd_m", "nodata", "building_fraction"):
            row[name] = None if math.isnan(row[name]) else float(row[name])
        for name in ("width", "height", "bands"):
            row[name] = int(row[name])
        row["pixel_aspect"] = float(row["pixel_aspect"])
        _check_limits(row)
        for name in FLAGS:
            row[name] = flag_of(row[name])
            if isinstance(row[name], str):
                raise ValueError(f"{name} of {image} is text: store true or false")
        if row["split"] not in (*SPLITS, ""):
            raise ValueError(f"split of {image} is '{row['split']}': choose {', '.join(SPLITS)}")
        check_dtype_name(row["dtype"])
        _check_values(row)
        return cls(**row)

    def check_possible(self) -> None:
        """Check that a catalog with this image can be read again.

        Raises:
            CatalogError: its pixels have an impossible size or shape on the ground.
        """
        try:
            _check_limits(vars(self))
        except ValueError as error:
            raise CatalogError(
                f"{error}, which cannot be: correct its georeference, or the metres per pixel that "
                "--gsd or the table gives"
            ) from error

    def check(self, raster: Raster) -> None:
        """Check that the image still matches the catalog.

        Raises:
            CatalogError: the number of bands, the dtype or the size has changed.
        """
        found = (len(raster.info.bands), raster.info.dtype)
        if found != (self.bands, self.dtype):
            raise CatalogError(
                f"{self.image} has {found[0]} bands of {found[1]}, but the catalog lists "
                f"{self.bands} of {self.dtype}: rebuild the catalog with `rhm data index`"
            )
        height, width = raster.stored_shape
        if (height, width) != (self.height, self.width):
            raise CatalogError(
                f"{self.image} is {width} x {height} pixels, but the catalog lists {self.width} x "
                f"{self.height}: rebuild the catalog with `rhm data index`"
            )

    def scale_to(self, gsd_m: float | None) -> GridScale:
        """Return the ``Raster`` scale that makes this image's pixels squares of ``gsd_m`` metres.

        The scale is 1 if either size is unknown, and along each axis that it would change by less
        than 1 %.
        """
        return scale_between(self.gsd_m, gsd_m, self.pixel_aspect)

    def gsd_at(self, gsd_m: float | None) -> float | None:
        """Return the ground sampling distance in metres of the grid of ``scale_to``.

        It is None if that of the image is unknown: then the grid is the image's own, whatever was
        wanted.
        """
        return None if self.gsd_m is None else gsd_m or self.gsd_m


def flag_of(stored: Any) -> Any:
    """Return whether a stored value is true, and texts as they are; a missing value is false."""
    # It may be NaN, which Python takes for true, and which differs from itself.
    return stored if isinstance(stored, str) else bool(pandas.notna(stored) and stored == 1)


def _check_texts(row: Mapping[str, Any]) -> None:
    for name, value in row.items():
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{name} contains a zero character")
    if not row["image"]:
        raise ValueError("an image has no path")
    for name in (row["image"], row["label"]):
        if asks_servers(name):
            raise ValueError(f"{name} is not a file of this machine: fetch it first")


def _check_limits(row: Mapping[str, Any]) -> None:
    """Check the numbers of an image.

    Raises:
        ValueError: one of them is impossible; the message names it.
    """
    for name, (low, high) in _LIMITS.items():
        if row[name] is not None and not low <= row[name] <= high:
            raise ValueError(f"{name} of {row['image']} is {row[name]:g}")


def _check_values(row: dict[str, Any]) -> None:
    """Check the values of a mask in a row of a catalog.

    Raises:
        ValueError: they are no values of a mask; the message names their column.
    """
    for name in VALUES:
        try:
            parse_building_values(row[name])
        except RasterError as error:
            raise ValueError(f"{name} of {row['image']}: {error}") from error


def check_dtype_name(name: str) -> None:
    """Check that a data type is one that rasters have.

    Raises:
        ValueError: it is not.
    """
    if name not in dtype_rev:
        raise ValueError(f"no raster has the dtype '{name}'")
