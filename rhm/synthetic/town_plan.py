"""The plan of a synthetic town: random streets, lots, buildings, trees and cars."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
import shapely.affinity

from rhm.synthetic.town import Box, Building, Colour, Layout, Lot, Points, Town, Use

_USES: tuple[Use, ...] = ("homes", "halls", "park")


def lay_out(town: Town, size_m: tuple[float, float], *, rng: np.random.Generator) -> Layout:
    """Lay out ``town`` over a rectangle of ``size_m`` (width, height).

    The ground is repeatedly cut across its longer side, with streets along the cuts, into blocks.
    The blocks are cut into lots in the same way (Parish and Mueller, "Procedural modeling of
    cities", SIGGRAPH 2001).

    Args:
        town: properties of the town.
        size_m: size of the town; objects on its edge are complete.
        rng: random generator for everything else.

    Returns:
        The layout; no two of its buildings touch.
    """
    canvas = shapely.box(0, 0, *size_m)
    reach = np.hypot(*size_m) / 2 + 20
    around = shapely.affinity.rotate(
        shapely.box(*(np.array(size_m) / 2 - reach), *(np.array(size_m) / 2 + reach)),
        town.angle_deg,
    )
    blocks, streets = _cut_up(
        around, town.block_m2, town.irregularity, rng=rng, street_width_m=town.street_width_m
    )
    blocks = [block for block in blocks if block.intersects(canvas)]
    streets = [street for street in streets if street[0].intersects(canvas)]
    lots = [lot for block in blocks for lot in _lots_of_block(block, town, rng=rng)]
    return Layout(
        size_m=size_m,
        streets=tuple(streets),
        blocks=tuple(blocks),
        lots=tuple(lots),
        trees=np.concatenate([_plant(lots, town, rng=rng), _line_streets(blocks, town, rng=rng)]),
        cars=(*_cars_on_streets(streets, rng=rng), *_cars_in_yards(lots, rng=rng)),
    )


def _cut_up(
    ground: Any,
    largest_m2: float,
    irregularity: float,
    *,
    rng: np.random.Generator,
    street_width_m: float = 0.0,
) -> tuple[list[Any], list[tuple[Any, float]]]:
    """Cut ``ground`` until no piece exceeds ``largest_m2``; return the pieces and the streets."""
    pending, pieces, streets = _polygons(ground), [], []
    while pending:
        piece = pending.pop()
        if piece.area <= largest_m2:
            pieces.append(piece)
            continue
        box = Box.around(piece)
        turn = rng.uniform(-1, 1) * irregularity
        normal = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ box.along
        along = np.array([-normal[1], normal[0]]) * 2 * np.hypot(*box.long)
        middle = box.centre + box.long * rng.uniform(-2, 2) * irregularity
        # The cuts between large pieces are the town's main streets.
        width = street_width_m * (1.6 if piece.area > 12 * largest_m2 else 1.0)
        for side in (-1, 1):
            near = middle + side * normal * width / 2
            far = near + side * normal * 4 * np.hypot(*box.long)
            half_plane = shapely.Polygon([near - along, near + along, far + along, far - along])
            pending.extend(_polygons(piece.intersection(half_plane)))
        line = shapely.LineString([middle - along, middle + along]).intersection(piece)
        if line.length > 0:
            streets.append((line, width))
    return pieces, streets


def _polygons(geometry: Any) -> list[Any]:
    """Return the polygons of a geometry, without slivers."""
    return [part for part in shapely.get_parts(geometry) if part.area > 1.0]


def _lots_of_block(block: Any, town: Town, *, rng: np.random.Generator) -> list[Lot]:
    use = _USES[rng.choice(len(_USES), p=[0.80, 0.13, 0.07])]
    largest_m2 = {"homes": town.lot_m2, "halls": 4200.0, "park": block.area}[use]
    inside = block.buffer(-2.0, join_style="mitre")
    pieces, _ = _cut_up(inside, largest_m2, town.irregularity / 3, rng=rng)
    return [_lot(piece, use, block, town, rng=rng) for piece in pieces]


def _lot(polygon: Any, use: Use, block: Any, town: Town, *, rng: np.random.Generator) -> Lot:
    ground = _vary(town.grounds[rng.integers(len(town.grounds))], 0.10, rng=rng)
    if use == "park":
        return Lot(polygon, use, ground, building=None, drive=None, pool=None)
    if use == "halls":
        ground = _vary(town.pavement if rng.random() < 0.5 else town.asphalt, 0.10, rng=rng)
    building = _build(polygon, use, town, rng=rng)
    drive = pool = None
    if building is not None and use == "homes":
        start = shapely.Point(building.wings[-1].centre)
        way_out = shapely.shortest_line(start, block.exterior)
        drive = shapely.get_coordinates(way_out)
        if rng.random() < town.pool_share:
            pool = _place_pool(polygon, building, rng=rng)
    return Lot(polygon, use, ground, building, drive, pool)


def _build(lot: Any, use: Use, town: Town, *, rng: np.random.Generator) -> Building | None:
    """Return a building inside the lot, or None if the lot is too irregular or small."""
    allowed = lot.buffer(-1.2)
    frame = Box.around(lot)
    along, across = frame.along, frame.across
    if rng.random() < 0.35 and use == "homes":
        along, across = across, along
    for attempt in range(12):
        wings = _wings(frame, along, across, use, shrink=0.97**attempt, rng=rng)
        footprint = shapely.union_all([shapely.Polygon(wing.corners) for wing in wings])
        smallest_m2, largest_m2 = (80.0, 220.0) if use == "homes" else (480.0, 2000.0)
        if smallest_m2 <= footprint.area <= largest_m2 and allowed.contains(footprint):
            flat = bool(use == "halls" or rng.random() < town.flat_share)
            colours = town.flat_colours if flat else town.gable_colours
            colour = _vary(colours[rng.integers(len(colours))], 0.12, rng=rng)
            height_m = rng.uniform(6, 11) if use == "halls" else rng.uniform(3.5, 7.5)
            return Building(wings, float(height_m), flat, colour)
    return None


def _wings(
    frame: Box, along: Points, across: Points, use: Use, *, shrink: float, rng: np.random.Generator
) -> tuple[Box, ...]:
    """Return one rectangle near the middle of the lot, or two that form an L."""
    if use == "halls":
        half = 0.5 * shrink * np.array([rng.uniform(30, 60), rng.uniform(18, 34)])
    else:
        half = 0.5 * shrink * np.array([rng.uniform(11.5, 18), rng.uniform(8, 11.5)])
    wander = 0.18 * rng.uniform(-1, 1, 2)
    centre = frame.centre + wander[0] * frame.long + wander[1] * frame.short
    main = Box(centre, along * half[0], across * half[1])
    if rng.random() > 0.45:
        return (main,)
    reach, breadth = half[1] * rng.uniform(0.6, 1.0), half[0] * rng.uniform(0.35, 0.5)
    side, end = rng.choice([-1.0, 1.0], 2)
    main = Box(centre - side * across * reach / 2, main.long, main.short)
    # The wing starts under the main roof so that the two outlines join without a gap.
    middle = main.centre + end * along * (half[0] - breadth) + side * across * half[1]
    axes = (
        (across * reach, along * breadth) if reach >= breadth else (along * breadth, across * reach)
    )
    return Box(middle, *axes), main


def _place_pool(lot: Any, building: Building, *, rng: np.random.Generator) -> Box | None:
    free = lot.buffer(-1.0).difference(building.footprint.buffer(1.5))
    main = building.wings[-1]
    for centre in _scatter(lot, 8, rng=rng):
        long, short = main.along * rng.uniform(3.0, 4.5), main.across * rng.uniform(1.6, 2.3)
        pool = Box(centre, long, short)
        if free.contains(shapely.Polygon(pool.corners)):
            return pool
    return None


def _plant(lots: Sequence[Lot], town: Town, *, rng: np.random.Generator) -> Points:
    """Return trees (N, 3) on the lots; crowns may overhang buildings and pools."""
    trees = [np.empty((0, 3))]
    for lot in lots:
        density = town.trees_per_hectare * {"homes": 1.0, "halls": 0.25, "park": 2.0}[lot.use]
        points = _scatter(lot.polygon, rng.poisson(density * lot.polygon.area / 1e4), rng=rng)
        # Trees stand in groups: each has up to three others within a few metres.
        points = np.repeat(points, rng.choice([1, 2, 4], len(points), p=[0.5, 0.3, 0.2]), axis=0)
        points = points + rng.normal(0, 2.2, points.shape)
        radii = np.clip(rng.lognormal(np.log(2.4), 0.38, len(points)), 0.9, 5.0)
        taken = [lot.building.footprint] if lot.building else []
        taken += [shapely.Polygon(lot.pool.corners)] if lot.pool else []
        gaps = shapely.distance(shapely.points(points), shapely.union_all(taken))
        free = shapely.contains_xy(lot.polygon, points) & ~(gaps < 0.6 * radii)
        trees.append(np.column_stack([points, radii])[free])
    return np.concatenate(trees)


def _line_streets(blocks: Sequence[Any], town: Town, *, rng: np.random.Generator) -> Points:
    """Return the trees (N, 3) along the kerbs."""
    trees = [np.empty((0, 3))]
    for block in blocks:
        if rng.random() < town.lined_share:
            kerb = block.buffer(-1.2, join_style="mitre").exterior
            distances = np.arange(6.0, kerb.length, 11.0)
            distances = distances[rng.random(len(distances)) < 0.75]
            points = shapely.get_coordinates(shapely.line_interpolate_point(kerb, distances))
            trees.append(np.column_stack([points, rng.uniform(1.4, 2.8, len(points))]))
    return np.concatenate(trees)


def _scatter(polygon: Any, count: int, *, rng: np.random.Generator) -> Points:
    """Return at most ``count`` random points (N, 2) inside ``polygon``."""
    low, high = np.array(polygon.bounds).reshape(2, 2)
    points = rng.uniform(low, high, (count, 2))
    inside: Points = points[shapely.contains_xy(polygon, points)]
    return inside


def _cars_on_streets(
    streets: Sequence[tuple[Any, float]], *, rng: np.random.Generator
) -> list[Box]:
    cars = []
    for line, width_m in streets:
        direction = np.subtract(line.coords[-1], line.coords[0]) / line.length
        normal = np.array([-direction[1], direction[0]])
        for distance in np.arange(12, line.length - 12, 6.5):
            if rng.random() < 0.3:
                offset = rng.choice([-1, 1]) * (width_m / 2 - 1.2)
                centre = np.array(line.interpolate(distance).coords[0]) + offset * normal
                cars.append(Box(centre, direction * 2.2, normal * 0.9))
    return cars


def _cars_in_yards(lots: Sequence[Lot], *, rng: np.random.Generator) -> list[Box]:
    """Return cars parked side by side along the long sides of halls."""
    cars = []
    for lot in lots:
        if lot.use != "halls" or lot.building is None:
            continue
        hall = lot.building.wings[-1]
        along, across = hall.along, hall.across
        free = lot.polygon.difference(lot.building.footprint.buffer(1.0))
        for side in (-1, 1):
            row = hall.centre + side * (hall.short + across * 6.0)
            for shift in np.arange(-np.hypot(*hall.long), np.hypot(*hall.long), 2.7):
                car = Box(row + along * shift, across * 2.2, along * 0.9)
                if rng.random() < 0.45 and free.contains(shapely.Polygon(car.corners)):
                    cars.append(car)
    return cars


def _vary(colour: Colour, share: float, *, rng: np.random.Generator) -> Colour:
    """Return a colour that is brighter or darker by about ``share``, with a slightly varied hue."""
    factors = np.exp(rng.normal(0, share)) * np.exp(rng.normal(0, share / 7, 3))
    red, green, blue = np.clip(np.array(colour) * factors, 0.0, 0.95).tolist()
    return red, green, blue
