"""True buildings, buildings traced from pixels, and requirements on outlines."""

from functools import partial
from typing import Any

import cv2
import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from shapely import Polygon, affinity, box

from rhm.data.footprints import burn
from rhm.inference.regularization import regularize
from rhm.inference.tracing.components import trace

UTM = "EPSG:32645"


PIXEL = 0.4


TOLERANCE = 1.0  # two and a half pixels


L_SHAPE = Polygon([(0, 0), (16, 0), (16, 7), (8, 7), (8, 14), (0, 14)])


U_SHAPE = Polygon([(0, 0), (18, 0), (18, 12), (12, 12), (12, 5), (6, 5), (6, 12), (0, 12)])


COURT = box(0, 0, 20, 16) - box(6, 5, 13, 11)


CUT_CORNER = Polygon([(0, 0), (15, 0), (15, 6), (9, 12), (0, 12)])


LEANING = Polygon([(0, 0), (16, 0), (11, 10), (0, 10)])


def array(*polygons: Any) -> NDArray[Any]:
    array = np.empty(len(polygons), dtype=object)
    array[:] = polygons
    return array


def overlap(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    # Of outlines that differ in the last bit, GEOS may lose the overlay in one of the two orders.
    common = np.maximum(
        shapely.area(shapely.intersection(one, other)),
        shapely.area(shapely.intersection(other, one)),
    )
    iou: NDArray[np.float64] = common / (shapely.area(one) + shapely.area(other) - common)
    return iou


def corner_angles(polygon: Any) -> NDArray[np.float64]:
    """Degrees between successive walls of a shell."""
    walls = np.diff(shapely.get_coordinates(polygon.exterior), axis=0)
    heading = np.degrees(np.arctan2(walls[:, 1], walls[:, 0]))
    angles: NDArray[np.float64] = np.abs((np.diff(heading, append=heading[0]) + 180) % 360 - 180)
    return angles


def heading(polygon: Any) -> float:
    """Degrees of the longest wall from an axis, -45 to 45."""
    walls = np.diff(shapely.get_coordinates(polygon.exterior), axis=0)
    x, y = walls[np.argmax(np.hypot(*walls.T))]
    return float((np.degrees(np.arctan2(y, x)) + 45) % 90 - 45)


def as_traced(
    building: Any, rng: np.random.Generator, jitter_px: float = 0.5, pixel: float = PIXEL
) -> Any:
    """The outline of a building as traced from pixels: ragged, corners rounded."""
    left, bottom, right, top = building.bounds
    width, height = int((right - left) / pixel) + 13, int((top - bottom) / pixel) + 13
    grid = Affine(pixel, 0, left - 6 * pixel, 0, -pixel, top + 6 * pixel)
    mask = burn([building], grid @ Affine.scale(0.25), 4 * height, 4 * width)
    blurred = cv2.GaussianBlur(mask.astype(np.float64), (0, 0), 6.0)[2::4, 2::4]
    noise = cv2.GaussianBlur(rng.standard_normal(blurred.shape), (0, 0), 1.5)
    # The blur rises by about a quarter a pixel across a wall.
    probability = np.clip(blurred + 0.25 * jitter_px * noise * 3 * np.sqrt(np.pi), 0, 1)
    outlines = trace(probability, np.ones(blurred.shape, bool)).polygons
    return affinity.affine_transform(outlines[np.argmax(shapely.area(outlines))], grid.to_shapely())


def placed(building: Any, rng: np.random.Generator) -> Any:
    return affinity.rotate(
        affinity.translate(building, *rng.uniform(0, 99, 2)), rng.uniform(0, 360)
    )


clean = partial(regularize, tolerance_m=TOLERANCE)


def assert_acceptable(found: NDArray[Any], given: NDArray[Any], min_iou: float) -> None:
    assert len(found) == len(given)
    assert (shapely.get_type_id(found) == shapely.GeometryType.POLYGON.value).all()
    assert shapely.is_valid(found).all()
    assert not shapely.is_empty(found).any()
    assert (overlap(found, given) >= min_iou - 1e-5).all()
