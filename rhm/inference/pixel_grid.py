"""The pixels of a raster, and the part of them that another raster has."""

from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.io import DatasetReader
from rasterio.transform import GCPTransformer

from rhm.data.rasters.georeference import to_degrees
from rhm.data.rasters.raster_info import RasterInfo

_PART_OF_PIXEL = 0.01
_NEAR_DEGREES = 0.01


@dataclass(frozen=True)
class PixelGrid:
    """The number of pixels of a raster, and where on Earth they are.

    Attributes:
        height: height in pixels.
        width: width in pixels.
        crs: coordinate reference system of the transform or the control points.
        transform: transform from column and row; the identity if there is none.
        gcps: ground control points, in place of a transform.
    """

    height: int
    width: int
    crs: CRS | None
    transform: Affine
    gcps: tuple[GroundControlPoint, ...] = ()

    @classmethod
    def of(cls, raster: DatasetReader) -> "PixelGrid":
        """Return the grid of an open raster."""
        gcps, crs = raster.gcps if raster.transform.is_identity else ((), None)
        crs = crs if gcps else raster.crs
        return cls(raster.height, raster.width, crs, raster.transform, tuple(gcps))

    @classmethod
    def of_info(cls, info: RasterInfo) -> "PixelGrid":
        """Return the grid of a raster with these properties."""
        return cls(info.height, info.width, info.crs, info.transform, info.gcps)

    def to_coordinates(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the coordinates (N, 2) of corners of pixels (N, 2), (column, row)."""
        cols, rows = points.T
        if self.gcps:
            with GCPTransformer(list(self.gcps)) as transformer:
                return np.column_stack(transformer.xy(rows, cols, offset="ul"))
        a, b, c, d, e, f = self.transform[:6]
        # Not as a matrix product, whose rounding depends on the place of a point in the array:
        # a corner that two footprints share has the same coordinates in both.
        return np.column_stack([a * cols + b * rows + c, d * cols + e * rows + f])

    def corner_of(self, part: "PixelGrid") -> tuple[int, int] | None:
        """Return the row and column at which a part of this grid begins; None if it is none.

        If one of the two has no place on Earth, a grid of the same size is taken for the same one.
        """
        alike = (self.height, self.width) == (part.height, part.width)
        if not (self._placed and part._placed):
            return (0, 0) if alike else None
        if self.crs != part.crs and not (alike and self._near(part)):
            return None
        return self._corner(part)

    def _near(self, part: "PixelGrid") -> bool:
        """Return whether a grid in another CRS is about where this one is.

        Formats change the wording of a CRS, so that those of a scene and its results need not be
        equal. Zones of one projection have the same coordinates for different places.
        """
        middle = np.array([[self.width / 2, self.height / 2]])
        ours, theirs = (
            None if grid.crs is None else to_degrees(grid.crs, *grid.to_coordinates(middle).T)
            for grid in (self, part)
        )
        if ours is None or theirs is None:
            return False
        return bool(np.abs(np.subtract(ours, theirs)).max() < _NEAR_DEGREES)

    @property
    def _placed(self) -> bool:
        return self.crs is not None and bool(self.gcps or not self.transform.is_identity)

    def contains(self, part: "PixelGrid") -> bool:
        """Return whether all pixels of another grid of the same scene are pixels of this one."""
        return self._corner(part) is not None

    def _corner(self, part: "PixelGrid") -> tuple[int, int] | None:
        shift = self._shift_to(part)
        if shift is None:
            return None
        row, col = (round(value) for value in shift)
        exact = max(abs(shift[0] - row), abs(shift[1] - col)) < _PART_OF_PIXEL
        inside = 0 <= row <= self.height - part.height and 0 <= col <= self.width - part.width
        return (row, col) if exact and inside else None

    def _shift_to(self, part: "PixelGrid") -> tuple[float, float] | None:
        if self.gcps or part.gcps:
            ours = {(gcp.x, gcp.y): gcp for gcp in self.gcps}
            pairs = [(ours.get((gcp.x, gcp.y)), gcp) for gcp in part.gcps]
            shifts = [(one.row - gcp.row, one.col - gcp.col) for one, gcp in pairs if one]
            return shifts[0] if shifts and len(shifts) == len(pairs) else None
        if self.transform.is_identity or part.transform.is_identity:
            return None
        a, b, col, d, e, row = tuple(~self.transform @ part.transform)[:6]
        drift = max(abs(a - 1), abs(b), abs(d), abs(e - 1)) * max(part.height, part.width)
        return (row, col) if drift < _PART_OF_PIXEL else None
