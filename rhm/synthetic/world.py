"""The sample world: two synthetic towns, each imaged by two sensors, written as real files.

    FOLDER/TOWN_SENSOR/images/TOWN_SENSOR_NN.tif        tiles, none of which overlap
    FOLDER/TOWN_SENSOR/footprints/TOWN_SENSOR_NN.gpkg   layer "buildings", clipped to the tile
    FOLDER/scenes/birch_satellite.tif, .gpkg            a larger scene on separate ground

Tile NN of a town shows the same ground with both sensors. The sensors differ mainly in the
radiometric response of each band, which histogram matching can undo, but a linear stretch cannot.
"""

import math
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import geopandas
import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from rasterio.transform import Affine

from rhm.errors import ConfigError
from rhm.files import atomic_path
from rhm.synthetic.render import Image, noise_field, render
from rhm.synthetic.town import TOWNS, Layout, Town
from rhm.synthetic.town_plan import lay_out

SCENE = ("birch", "satellite")
_GAP_PX = 16  # between tiles, so that few buildings are cut by two of them
_SMALLEST_PX = 64
_SMALLEST_PART_M2 = 1.0


@dataclass(frozen=True)
class Response:
    """The radiometric response of a band, which increases strictly from ``low`` to ``high``.

    Attributes:
        low: response to no light, as a share of the largest value.
        high: response to full reflectance, as a share of the largest value.
        gamma: exponent; below 1 it brightens the shadows, above 1 it darkens them.
        saturation: above 0; the larger it is, the earlier bright surfaces saturate.
    """

    low: float
    high: float
    gamma: float
    saturation: float

    def __call__(self, reflectance: Image) -> Image:
        """Return shares of the largest value for reflectance in 0..1 of any shape."""
        rise = np.expm1(-self.saturation * reflectance**self.gamma) / np.expm1(-self.saturation)
        answer: Image = self.low + (self.high - self.low) * rise
        return answer


@dataclass(frozen=True)
class Sensor:
    """A camera above the town, and the atmosphere between.

    Attributes:
        name: name that its files contain.
        dtype: dtype of the stored values.
        largest: largest value that it can store.
        responses: responses of the red, green and blue bands.
        haze: share of light added by the atmosphere, per band; it varies smoothly by a fifth.
        blur_px: sigma of the point spread function in pixels.
        noise: standard deviation on a surface of medium brightness, as a share of ``largest``.
    """

    name: str
    dtype: Literal["uint8", "uint16"]
    largest: int
    responses: tuple[Response, Response, Response]
    haze: tuple[float, float, float]
    blur_px: float
    noise: float

    def see(self, reflectance: Image, *, rng: np.random.Generator) -> npt.NDArray[Any]:
        """Convert reflectance (H, W, 3) in 0..1 to stored values (H, W, 3) of ``dtype``.

        Blur, haze, band responses, noise and rounding are applied in this order.
        """
        light = cv2.GaussianBlur(reflectance, (0, 0), self.blur_px)
        thickness = 1 + 0.2 * noise_field(light.shape[:2], 1.0, (200.0, 400.0), rng=rng)
        values = np.empty(light.shape, self.dtype)
        for band, (response, haze) in enumerate(zip(self.responses, self.haze, strict=True)):
            veil = np.clip(haze * thickness, 0.0, 1.0)
            answer = response(np.clip(light[..., band] * (1 - veil) + veil, 0.0, 1.0))
            # Photon noise grows with the square root of the signal.
            spread = self.noise * np.sqrt(2 * answer)
            answer += spread * rng.standard_normal(answer.shape, dtype=np.float32)
            values[..., band] = np.clip(np.rint(answer * self.largest), 0, self.largest)
        return values


SENSORS: dict[str, Sensor] = {
    "aerial": Sensor(
        name="aerial",
        dtype="uint8",
        largest=255,
        responses=(
            Response(low=0.02, high=1.0, gamma=0.62, saturation=0.9),
            Response(low=0.02, high=1.0, gamma=0.62, saturation=0.9),
            Response(low=0.03, high=1.0, gamma=0.60, saturation=0.9),
        ),
        haze=(0.004, 0.007, 0.012),
        blur_px=0.6,
        noise=0.006,
    ),
    "satellite": Sensor(
        name="satellite",
        dtype="uint16",
        largest=2047,
        responses=(
            Response(low=0.20, high=0.95, gamma=0.42, saturation=3.5),
            Response(low=0.05, high=0.60, gamma=1.40, saturation=0.6),
            Response(low=0.20, high=0.85, gamma=1.70, saturation=0.3),
        ),
        haze=(0.02, 0.04, 0.09),
        blur_px=0.95,
        noise=0.005,
    ),
}


@dataclass(frozen=True)
class _Window:
    """A piece of a town's rendered image, in pixels."""

    top: int
    left: int
    size: int

    def bounds_m(self, gsd_m: float) -> tuple[float, float, float, float]:
        """Bounds in town coordinates: left, top, right, bottom."""
        right, bottom = self.left + self.size, self.top + self.size
        return self.left * gsd_m, self.top * gsd_m, right * gsd_m, bottom * gsd_m


def write_sample_world(
    folder: str | os.PathLike[str],
    *,
    tile_size: int = 256,
    tiles_per_domain: int = 16,
    scene_size: int = 768,
    gsd_m: float = 0.5,
    domains: Collection[str] | None = None,
    seed: int = 0,
) -> list[Path]:
    """Write the sample world, replacing files of the same names.

    Args:
        folder: folder to write to; it is created if necessary.
        tile_size: width and height of a tile in pixels.
        tiles_per_domain: number of tiles of each town with each sensor.
        scene_size: width and height of the scene in pixels.
        gsd_m: ground sampling distance in metres.
        domains: domains to write, such as ``alder_aerial``, with the same files as in the whole
            world; by default all of them.
        seed: the same seed and sizes give the same pixels and polygons.

    Returns:
        Sorted paths of all image and footprint files.

    Raises:
        ConfigError: a size, the number of tiles or the sampling distance is out of range, or there
            is no such domain.
        OutputError: the folder cannot be created or written to.
    """
    wanted = set(DOMAINS if domains is None else domains)
    if unknown := sorted(wanted - set(DOMAINS)):
        raise ConfigError(
            f"the sample world has no domain {', '.join(unknown)}: choose from {', '.join(DOMAINS)}"
        )
    if min(tile_size, scene_size) < _SMALLEST_PX or tiles_per_domain < 1 or not gsd_m > 0:
        raise ConfigError(
            f"cannot draw a sample world of {tiles_per_domain} tiles of {tile_size} pixels and a "
            f"scene of {scene_size} at {gsd_m} m: choose at least 1 tile, {_SMALLEST_PX} pixels, "
            "and a ground sampling distance greater than 0"
        )
    streams = np.random.SeedSequence(seed).spawn(len(TOWNS))
    written = []
    for town, stream in zip(TOWNS.values(), streams, strict=True):
        tiles = _tile_windows(tile_size, tiles_per_domain)
        scene = _scene_window(tiles, scene_size) if town.name == SCENE[0] else None
        if any(_domain(town, sensor) in wanted for sensor in SENSORS.values()):
            written += _write_town(Path(folder), town, tiles, scene, gsd_m, wanted, stream)
    return sorted(written)


def _write_town(
    folder: Path,
    town: Town,
    tiles: Sequence[_Window],
    scene: _Window | None,
    gsd_m: float,
    wanted: Collection[str],
    stream: np.random.SeedSequence,
) -> list[Path]:
    """Render a town once, image it with each wanted sensor, and cut it into files."""
    windows = [*tiles, scene] if scene else tiles
    shape = (
        max(window.top + window.size for window in windows),
        max(window.left + window.size for window in windows),
    )
    plan_rng, view_rng, *sensor_rngs = (
        np.random.default_rng(child) for child in stream.spawn(2 + len(SENSORS))
    )
    layout = lay_out(town, (shape[1] * gsd_m, shape[0] * gsd_m), rng=plan_rng)
    reflectance = render(town, layout, shape, gsd_m, rng=view_rng)
    written = []
    for sensor, rng in zip(SENSORS.values(), sensor_rngs, strict=True):
        domain = _domain(town, sensor)
        if domain not in wanted:
            continue
        image = sensor.see(reflectance, rng=rng)
        for number, tile in enumerate(tiles):
            name = f"{domain}_{number:02d}"
            image_path = folder / domain / "images" / f"{name}.tif"
            footprints_path = folder / domain / "footprints" / f"{name}.gpkg"
            _write_image(image_path, image, tile, town, gsd_m)
            _write_footprints(footprints_path, layout, tile, town, gsd_m)
            written += [image_path, footprints_path]
        if scene and sensor.name == SCENE[1]:
            image_path = folder / "scenes" / f"{domain}.tif"
            footprints_path = image_path.with_suffix(".gpkg")
            _write_image(image_path, image, scene, town, gsd_m)
            _write_footprints(footprints_path, layout, scene, town, gsd_m)
            written += [image_path, footprints_path]
    return written


def _domain(town: Town, sensor: Sensor) -> str:
    return f"{town.name}_{sensor.name}"


DOMAINS = tuple(_domain(town, sensor) for town in TOWNS.values() for sensor in SENSORS.values())
"""Domains of the sample world."""


def _tile_windows(tile_size: int, count: int) -> list[_Window]:
    """Return the windows of tiles in a square arrangement with gaps between them."""
    columns, step = math.isqrt(count - 1) + 1, tile_size + _GAP_PX
    return [_Window(n // columns * step, n % columns * step, tile_size) for n in range(count)]


def _scene_window(tiles: Sequence[_Window], scene_size: int) -> _Window:
    """Return the window of the scene, to the right of all tiles."""
    return _Window(0, max(tile.left + tile.size for tile in tiles) + _GAP_PX, scene_size)


def _write_image(
    path: Path, image: npt.NDArray[Any], window: _Window, town: Town, gsd_m: float
) -> None:
    """Write a window of the image of a town as a tiled GeoTIFF."""
    rows = slice(window.top, window.top + window.size)
    columns = slice(window.left, window.left + window.size)
    left, top, _, _ = window.bounds_m(gsd_m)
    easting, northing = town.origin_xy_m
    with (
        atomic_path(path) as temporary,
        rasterio.open(
            temporary,
            "w",
            driver="GTiff",
            width=window.size,
            height=window.size,
            count=image.shape[2],
            dtype=image.dtype,
            crs=f"EPSG:{town.epsg}",
            transform=Affine(gsd_m, 0, easting + left, 0, -gsd_m, northing - top),
            tiled=True,
            blockxsize=256,
            blockysize=256,
            compress="deflate",
            predictor=2,
            photometric="RGB",
        ) as dataset,
    ):
        dataset.write(np.moveaxis(image[rows, columns], 2, 0))


def _write_footprints(
    path: Path, layout: Layout, window: _Window, town: Town, gsd_m: float
) -> None:
    """Write the buildings, clipped to a window, as polygons in the town's reference system."""
    footprints = np.array([building.footprint for building in layout.buildings], dtype=object)
    clipped = shapely.get_parts(
        shapely.intersection(footprints, shapely.box(*window.bounds_m(gsd_m)))
    )
    clipped = clipped[shapely.area(clipped) >= _SMALLEST_PART_M2]
    to_crs = np.array([1.0, -1.0])
    polygons = shapely.transform(clipped, lambda xy: xy * to_crs + town.origin_xy_m)
    table = geopandas.GeoDataFrame(geometry=shapely.normalize(polygons), crs=f"EPSG:{town.epsg}")
    with atomic_path(path) as temporary:
        table.to_file(temporary, layer="buildings", driver="GPKG", geometry_type="Polygon")
