"""A synthetic town: its properties, and the positions of its streets, buildings and trees.

All coordinates are in metres, with x to the east and y to the south from the upper left corner,
which is the upper left corner of the rendered image.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import shapely

Colour = tuple[float, float, float]
Points = npt.NDArray[np.float64]
Use = Literal["homes", "halls", "park"]


@dataclass(frozen=True)
class Town:
    """The properties of a town; colours are RGB reflectances in 0..1.

    Attributes:
        name: name that its files begin with.
        epsg: EPSG code of its coordinate reference system.
        origin_xy_m: easting and northing of the upper left corner.
        angle_deg: rotation of the street grid.
        sun_azimuth_deg: direction of the sun, clockwise from north.
        sun_elevation_deg: elevation of the sun.
        irregularity: relative deviation of the cuts between blocks; 0 for an exact grid.
        block_m2: largest area of a block.
        lot_m2: largest area of a lot with one house.
        street_width_m: width of an ordinary street from kerb to kerb.
        flat_share: share of houses with a flat roof.
        gable_colours: colours of pitched roofs.
        flat_colours: colours of flat roofs.
        grounds: colours of lots, one of which is chosen for each lot.
        asphalt: colour of streets.
        pavement: colour of sidewalks, drives and yards.
        foliage: colour of trees and hedges.
        trees_per_hectare: density of trees on lots; parks have twice as many.
        lined_share: share of blocks with trees along the kerb.
        pool_share: share of homes with a pool.
    """

    name: str
    epsg: int
    origin_xy_m: tuple[float, float]
    angle_deg: float
    sun_azimuth_deg: float
    sun_elevation_deg: float
    irregularity: float
    block_m2: float
    lot_m2: float
    street_width_m: float
    flat_share: float
    gable_colours: tuple[Colour, ...]
    flat_colours: tuple[Colour, ...]
    grounds: tuple[Colour, ...]
    asphalt: Colour
    pavement: Colour
    foliage: Colour
    trees_per_hectare: float
    lined_share: float
    pool_share: float

    @property
    def sun_xy(self) -> Points:
        """Unit vector (2,) on the ground that points towards the sun."""
        azimuth = np.radians(self.sun_azimuth_deg)
        return np.array([np.sin(azimuth), -np.cos(azimuth)])


TOWNS: dict[str, Town] = {
    "alder": Town(
        name="alder",
        epsg=32633,
        origin_xy_m=(412_000.0, 5_655_000.0),
        angle_deg=17.0,
        sun_azimuth_deg=152.0,
        sun_elevation_deg=44.0,
        irregularity=0.18,
        block_m2=9000.0,
        lot_m2=660.0,
        street_width_m=7.5,
        flat_share=0.12,
        gable_colours=(
            (0.26, 0.11, 0.08),
            (0.20, 0.09, 0.07),
            (0.17, 0.12, 0.09),
            (0.12, 0.09, 0.08),
            (0.17, 0.17, 0.18),
            (0.10, 0.10, 0.11),
        ),
        flat_colours=((0.24, 0.24, 0.24), (0.15, 0.15, 0.16), (0.36, 0.35, 0.33)),
        grounds=((0.070, 0.115, 0.045), (0.085, 0.125, 0.055), (0.110, 0.130, 0.065)),
        asphalt=(0.115, 0.115, 0.120),
        pavement=(0.235, 0.225, 0.210),
        foliage=(0.032, 0.062, 0.024),
        trees_per_hectare=50.0,
        lined_share=0.4,
        pool_share=0.04,
    ),
    "birch": Town(
        name="birch",
        epsg=32636,
        origin_xy_m=(664_000.0, 3_522_000.0),
        angle_deg=-31.0,
        sun_azimuth_deg=128.0,
        sun_elevation_deg=56.0,
        irregularity=0.03,
        block_m2=5200.0,
        lot_m2=480.0,
        street_width_m=6.5,
        flat_share=0.62,
        gable_colours=((0.36, 0.18, 0.11), (0.42, 0.22, 0.14), (0.30, 0.15, 0.10)),
        flat_colours=(
            (0.66, 0.64, 0.60),
            (0.54, 0.52, 0.48),
            (0.74, 0.73, 0.71),
            (0.46, 0.40, 0.33),
            (0.33, 0.32, 0.31),
        ),
        grounds=((0.370, 0.290, 0.195), (0.330, 0.255, 0.170), (0.400, 0.330, 0.240)),
        asphalt=(0.190, 0.180, 0.170),
        pavement=(0.400, 0.370, 0.320),
        foliage=(0.065, 0.085, 0.045),
        trees_per_hectare=20.0,
        lined_share=0.12,
        pool_share=0.10,
    ),
}


@dataclass(frozen=True)
class Box:
    """A rotated rectangle: its centre and two half axes, each (2,), the longer one first."""

    centre: Points
    long: Points
    short: Points

    @classmethod
    def around(cls, polygon: Any) -> "Box":
        """Return the smallest rectangle around a shapely polygon (rotating calipers)."""
        corners = shapely.get_coordinates(polygon.minimum_rotated_rectangle)[:4]
        first, second = (corners[1] - corners[0]) / 2, (corners[2] - corners[1]) / 2
        if np.hypot(*first) < np.hypot(*second):
            first, second = second, first
        return cls(corners.mean(axis=0), first, second)

    @cached_property
    def corners(self) -> Points:
        """The corners in order, (4, 2)."""
        signs = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
        corners: Points = self.centre + signs @ np.stack([self.long, self.short])
        return corners

    @property
    def along(self) -> Points:
        """The unit vector of the long side, (2,)."""
        return _unit(self.long)

    @property
    def across(self) -> Points:
        """The unit vector of the short side, (2,)."""
        return _unit(self.short)

    def part(self, along: tuple[float, float], across: tuple[float, float]) -> Points:
        """Return the corners (4, 2) of the part between two shares (-1..1) of each half axis."""
        (a0, a1), (b0, b1) = along, across
        shares = np.array([[a0, b0], [a1, b0], [a1, b1], [a0, b1]])
        corners: Points = self.centre + shares @ np.stack([self.long, self.short])
        return corners


def _unit(vector: Points) -> Points:
    unit: Points = vector / np.hypot(*vector)
    return unit


@dataclass(frozen=True)
class Building:
    """One building: its wings (the main one last), its height and its roof."""

    wings: tuple[Box, ...]
    height_m: float
    flat: bool
    colour: Colour

    @cached_property
    def footprint(self) -> Any:
        """The footprint on the ground, a shapely polygon."""
        return shapely.union_all([shapely.Polygon(wing.corners) for wing in self.wings])


@dataclass(frozen=True)
class Lot:
    """A piece of a block, the objects on it, and the drive from its building to the street."""

    polygon: Any
    use: Use
    ground: Colour
    building: Building | None
    drive: Points | None
    pool: Box | None


@dataclass(frozen=True)
class Layout:
    """The positions of all objects of a town, in metres.

    Attributes:
        size_m: width and height of the town.
        streets: shapely line and width in metres of each street.
        blocks: the ground between the streets, as shapely polygons.
        lots: the pieces of the blocks.
        trees: x, y and crown radius of each tree, (N, 3).
        cars: cars parked along the streets and in the yards of halls.
    """

    size_m: tuple[float, float]
    streets: tuple[tuple[Any, float], ...]
    blocks: tuple[Any, ...]
    lots: tuple[Lot, ...]
    trees: Points
    cars: tuple[Box, ...]

    @property
    def buildings(self) -> list[Building]:
        """All buildings, in the order of their lots."""
        return [lot.building for lot in self.lots if lot.building is not None]
