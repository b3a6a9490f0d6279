"""A town seen from directly above: a layout rendered as an image of reflectance."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import shapely

from rhm.synthetic.coverage import coverage
from rhm.synthetic.town import Box, Building, Colour, Layout, Points, Town

Image = npt.NDArray[np.float32]

_CAR_COLOURS: tuple[Colour, ...] = (
    (0.62, 0.62, 0.62),
    (0.38, 0.39, 0.40),
    (0.05, 0.05, 0.06),
    (0.16, 0.17, 0.18),
    (0.30, 0.05, 0.05),
    (0.06, 0.10, 0.24),
)
_POOL: Colour = (0.10, 0.34, 0.42)
# Light that remains in shadow: that of the sky, which is bluer than that of the sun.
_SHADE = np.array([0.34, 0.38, 0.46], np.float32)


def render(
    town: Town, layout: Layout, shape: tuple[int, int], gsd_m: float, *, rng: np.random.Generator
) -> Image:
    """Render ``layout`` as seen from above.

    Args:
        town: colours of the town and position of the sun.
        layout: positions of all objects.
        shape: height and width in pixels.
        gsd_m: metres per pixel.
        rng: random generator for textures and the colours of cars and trees.

    Returns:
        Reflectance in 0..1, (H, W, 3) float32, bands red, green, blue.
    """
    canvas = Canvas.blank(shape, gsd_m, rng=rng)
    _paint_ground(canvas, town, layout)
    for car in layout.cars:
        _paint_car(canvas, car, rng=rng)
    _shade_ground(canvas, town, layout)
    for building in layout.buildings:
        _paint_roof(canvas, town, building, rng=rng)
    _paint_trees(canvas, town, layout.trees, rng=rng)
    return np.clip(canvas.pixels, 0.0, 1.0, out=canvas.pixels)


@dataclass(frozen=True)
class Canvas:
    """Pixels (H, W, 3), a noise field (H, W) with mean zero, and the metres per pixel."""

    pixels: Image
    noise: Image
    gsd_m: float

    @classmethod
    def blank(cls, shape: tuple[int, int], gsd_m: float, *, rng: np.random.Generator) -> "Canvas":
        """Return a black canvas with noise at several scales, as on lawns and sand."""
        noise = noise_field(shape, gsd_m, (gsd_m, 1.5, 6.0, 30.0), rng=rng)
        return cls(np.zeros((*shape, 3), np.float32), noise, gsd_m)

    def fill(
        self, points: Points, colour: Colour, *, opacity: float = 1.0, texture: float = 0.05
    ) -> None:
        """Fill a polygon (N, 2), in metres, with antialiased edges.

        ``texture`` is the strength with which the noise field modulates the colour.
        """
        if len(points) == 0:  # what remains of a narrow lot inside its hedge
            return
        window, mask = self.stencil(points)
        if mask.size:
            shades = np.maximum(1 + texture * self.noise[window], 0.1)[..., None]
            weight = (mask * np.float32(opacity))[..., None]
            pixels = self.pixels[window]
            pixels += weight * (np.array(colour, np.float32) * shades - pixels)

    def darken(self, shadows: Sequence[Points], softness_m: float) -> None:
        """Remove the direct sunlight from polygons (N, 2), in metres."""
        dark = np.zeros(self.noise.shape, np.float32)
        for points in shadows:
            window, mask = self.stencil(points)
            np.maximum(dark[window], mask, out=dark[window])
        soft = cv2.GaussianBlur(dark, (0, 0), max(0.3, softness_m / self.gsd_m))
        self.pixels[:] *= 1 - soft[..., None] * (1 - _SHADE)

    def stencil(self, points: Points) -> tuple[tuple[slice, slice], Image]:
        """Return the window around a polygon, clipped to the canvas, and its coverage, 0..1."""
        height, width = self.noise.shape
        low = np.clip(np.floor(points.min(axis=0) / self.gsd_m), 0, (width, height))
        high = np.clip(np.ceil(points.max(axis=0) / self.gsd_m), 0, (width, height))
        (left, top), (right, bottom) = low.astype(int), high.astype(int)
        shape = max(0, bottom - top), max(0, right - left)
        window = slice(top, bottom), slice(left, right)
        if not all(shape):
            return window, np.zeros(shape, np.float32)
        return window, coverage(points / self.gsd_m - low, shape)


def noise_field(
    shape: tuple[int, int], gsd_m: float, scales_m: Sequence[float], *, rng: np.random.Generator
) -> Image:
    """Return noise (H, W) float32 with mean 0 and variance near 1, in equal parts at each scale."""
    noise = np.zeros(shape, np.float32)
    for scale_m in scales_m:
        cells = [max(2, round(side * gsd_m / scale_m)) for side in shape]
        coarse = rng.standard_normal(cells, dtype=np.float32)
        noise += cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return noise / np.float32(np.sqrt(len(scales_m)))


def _paint_ground(canvas: Canvas, town: Town, layout: Layout) -> None:
    everywhere = Box(
        np.array(layout.size_m) / 2,
        np.array([layout.size_m[0], 0.0]),
        np.array([0.0, layout.size_m[1]]),
    )
    canvas.fill(everywhere.corners, town.asphalt, texture=0.05)
    for line, width_m in layout.streets:
        if width_m > town.street_width_m:
            _paint_centre_line(canvas, line, town)
    for block in layout.blocks:
        canvas.fill(shapely.get_coordinates(block), town.pavement, texture=0.06)
    for lot in layout.lots:
        outline = shapely.get_coordinates(lot.polygon)
        if lot.use == "homes":
            canvas.fill(outline, town.foliage, opacity=0.5, texture=0.2)
            outline = shapely.get_coordinates(lot.polygon.buffer(-0.45, join_style="mitre"))
        canvas.fill(outline, lot.ground, texture=0.06 if lot.use == "halls" else 0.15)
        if lot.drive is not None:
            canvas.fill(_strip(lot.drive, 3.0), town.pavement, texture=0.08)
        if lot.pool is not None:
            rim = Box(lot.pool.centre, lot.pool.long * 1.25, lot.pool.short * 1.45)
            canvas.fill(rim.corners, town.pavement)
            canvas.fill(lot.pool.corners, _POOL, texture=0.03)


def _paint_centre_line(canvas: Canvas, line: shapely.LineString, town: Town) -> None:
    for start in np.arange(0.0, line.length, 9.0):
        ends = [line.interpolate(start).coords[0], line.interpolate(start + 3.5).coords[0]]
        if ends[0] != ends[1]:
            canvas.fill(_strip(np.array(ends), 0.4), (0.5, 0.5, 0.48), opacity=0.6)


def _strip(ends: Points, width_m: float) -> Points:
    """Return the corners (4, 2) of a strip along the line between two points (2, 2)."""
    along = ends[1] - ends[0]
    side = np.array([-along[1], along[0]]) / np.hypot(*along) * width_m / 2
    return np.array([ends[0] - side, ends[0] + side, ends[1] + side, ends[1] - side])


def _paint_car(canvas: Canvas, car: Box, *, rng: np.random.Generator) -> None:
    colour = _CAR_COLOURS[rng.choice(len(_CAR_COLOURS), p=[0.3, 0.2, 0.15, 0.15, 0.1, 0.1])]
    canvas.fill(car.corners, colour, texture=0.0)
    canvas.fill(car.part((0.15, 0.45), (-0.8, 0.8)), (0.04, 0.05, 0.06), opacity=0.8, texture=0.0)


def _shade_ground(canvas: Canvas, town: Town, layout: Layout) -> None:
    """Draw the shadows of buildings on the ground: each wing swept away from the sun."""
    away = -town.sun_xy / np.tan(np.radians(town.sun_elevation_deg))
    shadows = []
    for building in layout.buildings:
        for wing in building.wings:
            swept = np.concatenate([wing.corners, wing.corners + away * building.height_m])
            shadows.append(shapely.get_coordinates(shapely.MultiPoint(swept).convex_hull)[:-1])
    canvas.darken(shadows, softness_m=0.3)


def _paint_roof(
    canvas: Canvas, town: Town, building: Building, *, rng: np.random.Generator
) -> None:
    for wing in building.wings:
        if building.flat:
            _paint_flat_roof(canvas, town, wing, building.colour, rng=rng)
        else:
            _paint_gable(canvas, town, wing, building.colour)


def _paint_gable(canvas: Canvas, town: Town, wing: Box, colour: Colour) -> None:
    """Draw two slopes, brighter the more they face the sun, and the ridge between them."""
    canvas.fill(wing.corners, colour, texture=0.05)
    elevation, pitch = np.radians(town.sun_elevation_deg), np.radians(32.0)
    for side in (-1, 1):
        facing = np.cos(pitch) * np.sin(elevation) + np.sin(pitch) * np.cos(elevation) * (
            side * wing.across @ town.sun_xy
        )
        light = 0.30 + 0.85 * max(float(facing), 0.0) / np.sin(elevation)
        slope = wing.part((-1, 1), (0, side))
        canvas.fill(slope, _scaled(colour, light), texture=0.07)
    canvas.fill(wing.part((-1, 1), (-0.06, 0.06)), _scaled(colour, 1.25), opacity=0.6)


def _paint_flat_roof(
    canvas: Canvas, town: Town, wing: Box, colour: Colour, *, rng: np.random.Generator
) -> None:
    """Draw a parapet around a slightly darker deck with one or more boxes of machinery."""
    canvas.fill(wing.corners, _scaled(colour, 1.12), texture=0.03)
    rim = 0.6 / np.array([np.hypot(*wing.long), np.hypot(*wing.short)])
    inner = 1 - np.minimum(rim, 0.3)
    canvas.fill(wing.part((-inner[0], inner[0]), (-inner[1], inner[1])), _scaled(colour, 0.92))
    area_m2 = 4 * np.hypot(*wing.long) * np.hypot(*wing.short)
    for _ in range(rng.poisson(0.6 + area_m2 / 220)):
        place = wing.centre + rng.uniform(-0.7, 0.7, 2) @ np.stack([wing.long, wing.short])
        size = rng.uniform(0.6, 1.5, 2)
        along, across = wing.along * size[0], wing.across * size[1]
        canvas.fill(Box(place - 0.9 * town.sun_xy, along, across).corners, _scaled(colour, 0.4))
        canvas.fill(Box(place, along, across).corners, _scaled(colour, rng.uniform(0.7, 1.3)))


def _paint_trees(canvas: Canvas, town: Town, trees: Points, *, rng: np.random.Generator) -> None:
    """Draw the shadows of all crowns, then the crowns, lit from the direction of the sun."""
    away = -town.sun_xy / np.tan(np.radians(town.sun_elevation_deg))
    angles = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    round_about = np.column_stack([np.cos(angles), np.sin(angles)])
    shadows = [tree[:2] + tree[2] * (1.3 * away + round_about) for tree in trees]
    canvas.darken(shadows, softness_m=0.5)
    for tree in trees:
        _paint_crown(canvas, town, tree, rng=rng)


def _paint_crown(canvas: Canvas, town: Town, tree: Points, *, rng: np.random.Generator) -> None:
    """Draw a round crown with a wavy outline."""
    lobes, phases = np.array([3, 5, 8]), rng.uniform(0, 2 * np.pi, 3)
    sizes, tint = rng.uniform(0.03, 0.10, 3), np.exp(rng.normal(0, 0.2))
    low = np.maximum(np.floor((tree[:2] - 1.4 * tree[2]) / canvas.gsd_m), 0).astype(int)
    high = np.ceil((tree[:2] + 1.4 * tree[2]) / canvas.gsd_m).astype(int) + 1
    window = (slice(low[1], max(high[1], 0)), slice(low[0], max(high[0], 0)))
    pixels, noise = canvas.pixels[window], canvas.noise[window]
    if not noise.size:
        return
    rows, columns = np.indices(noise.shape)
    x = ((columns + low[0] + 0.5) * canvas.gsd_m - tree[0]) / tree[2]
    y = ((rows + low[1] + 0.5) * canvas.gsd_m - tree[1]) / tree[2]
    angle, distance = np.arctan2(y, x), np.hypot(x, y)
    edge = 1 + np.sum(sizes * np.sin(lobes * angle[..., None] + phases), axis=-1)
    cover = np.clip((edge - distance) * tree[2] / canvas.gsd_m * 0.7 + 0.5, 0, 1)[..., None]
    light = 1.0 + 0.55 * (x * town.sun_xy[0] + y * town.sun_xy[1]) + 0.28 * noise
    crown = tint * np.array(town.foliage) * np.maximum(light, 0.25)[..., None]
    pixels += (cover * (crown - pixels)).astype(np.float32)


def _scaled(colour: Colour, factor: float) -> Colour:
    red, green, blue = colour
    return red * factor, green * factor, blue * factor
