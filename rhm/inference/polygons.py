"""From a raster of building probabilities to scored footprints.

A footprint is a connected component (4 neighbours) of the pixels whose probability reaches the
threshold. Its score is the mean probability of those pixels: measured, not guessed from the
outline. Areas and tolerances are metres in a local metric CRS; the result is in the raster's CRS.
"""

import os
import warnings
from pathlib import Path
from typing import Any

import cv2
import geopandas as gpd
import numpy as np
import pyarrow.parquet
import pyogrio
import pyogrio.errors
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.features import shapes

from rhm.data.footprints import areas_m2, metric_crs, polygon_parts
from rhm.data.ground import to_degrees
from rhm.errors import ConfigError, OutputError, RasterError
from rhm.files import atomic_path

LAYER = "buildings"
"""The layer's name in formats that have layers."""

FORMATS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON", ".parquet": "Parquet"}
"""Suffix -> GDAL's name of the format that :func:`write_footprints` gives it."""


def polygonize(
    probability: str | os.PathLike[str],
    *,
    threshold: float = 0.5,
    min_area_m2: float = 0.0,
    simplify_m: float = 0.0,
    min_score: float = 0.0,
) -> gpd.GeoDataFrame:
    """Trace the buildings of a probability raster as scored polygons.

    A raster without CRS, or without a place on Earth, is measured in pixels: ``area_m2``,
    ``min_area_m2`` and ``simplify_m`` then count pixels; the geometry is in the coordinates of
    the raster's transform all the same.

    Args:
        probability: raster with one band of probabilities in [0, 1], after its scale and offset
            if it has them. Nodata belongs to no building.
        threshold: a pixel is building where its probability is at least this.
        min_area_m2: smaller polygons, as measured after simplification, are left out.
        simplify_m: tolerance of the Douglas-Peucker simplification, which keeps polygons valid
            and holes apart; 0 keeps every corner of every pixel.
        min_score: polygons with a lower score are left out.

    Returns:
        A frame in the raster's CRS with the columns ``score`` (float64, mean probability inside),
        ``area_m2`` (float64) and ``geometry`` (valid polygons), ordered by each building's
        first pixel, row by row.

    Raises:
        RasterError: the raster cannot be read, or does not hold probabilities.
        ConfigError: the threshold or the minimum score is outside [0, 1], or a length or area
            is negative.
    """
    _check_options(threshold, min_score, min_area_m2, simplify_m)
    values, valid, transform, crs = _read_probability(probability)
    pixel_outlines, scores = trace(values, valid, threshold=threshold)
    kept = scores >= min_score
    pixel_outlines, scores = pixel_outlines[kept], scores[kept]
    outlines, areas, source = _measured(pixel_outlines, transform, crs, simplify_m)
    large = areas >= min_area_m2
    return gpd.GeoDataFrame(
        {"score": scores[source][large], "area_m2": areas[large]},
        geometry=outlines[large],
        crs=crs,
    )


def trace(
    probability: NDArray[Any],
    valid: NDArray[np.bool_],
    transform: Affine | None = None,
    *,
    threshold: float = 0.5,
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Trace the 4-connected components where the probability is at least the threshold.

    Args:
        probability: (H, W) floating-point probabilities.
        valid: (H, W); where False, a pixel belongs to no component.
        transform: from (column, row) of pixel corners to the coordinates of the result; the
            identity if None.
        threshold: least probability of a building pixel.

    Returns:
        (N,) valid shapely polygons, holes kept, ordered by their first pixel, row by row; and
        (N,) scores: the mean probability of each component's pixels.
    """
    building = np.asarray(valid, dtype=bool) & (probability >= threshold)
    count, labels = cv2.connectedComponents(building.astype(np.uint8), connectivity=4)
    inside = labels[building]
    if not inside.size:
        return np.empty(0, dtype=object), np.empty(0)
    sizes = np.bincount(inside, minlength=count)[1:]
    sums = np.bincount(inside, weights=probability[building], minlength=count)[1:]
    first_pixel = np.empty(count, dtype=np.intp)
    # The last of repeated assignments stands: going backwards, it is a label's first pixel.
    first_pixel[inside[::-1]] = np.flatnonzero(building)[::-1]
    polygons = np.empty(count, dtype=object)
    traced = shapes(labels, mask=building, connectivity=4, transform=transform or Affine.identity())
    for outline, label in traced:
        polygons[int(label)] = shapely.geometry.shape(outline)
    order = np.argsort(first_pixel[1:])
    # A ring that touches itself at a corner becomes a ring with a hole: the same ground.
    return shapely.make_valid(polygons[1:][order]), np.clip(sums / sizes, 0.0, 1.0)[order]


def write_footprints(frame: gpd.GeoDataFrame, path: str | os.PathLike[str]) -> None:
    """Write footprints in the format of the path's suffix, all of them or nothing.

    ``.gpkg`` (GeoPackage, layer ``buildings``), ``.fgb`` (FlatGeobuf) and ``.parquet``
    (GeoParquet) keep the frame's CRS; ``.geojson`` is WGS 84 by definition (RFC 7946).

    Raises:
        OutputError: the suffix is none of these, a GeoJSON has no CRS to come from, or the file
            cannot be written.
    """
    path = Path(path)
    driver = FORMATS.get(path.suffix.lower())
    if driver is None:
        raise OutputError(f"cannot write {path}: the suffix must be one of {', '.join(FORMATS)}")
    if driver == "GeoJSON":
        if frame.crs is None:
            raise OutputError(
                f"cannot write {path}: GeoJSON needs longitudes and latitudes, and the scene has "
                "no CRS; choose .gpkg"
            )
        frame = frame.to_crs("EPSG:4326")
    with atomic_path(path) as temporary:
        try:
            _write(frame, temporary, driver)
        except (pyogrio.errors.DataSourceError, pyogrio.errors.FeatureError, OSError) as error:
            reason = " ".join(str(error).split())
            raise OutputError(f"cannot write {path}: {reason}") from error


def count_footprints(path: str | os.PathLike[str]) -> int:
    """Return how many footprints a file of :func:`write_footprints` holds."""
    if Path(path).suffix == ".parquet":
        return int(pyarrow.parquet.read_metadata(path).num_rows)
    return int(pyogrio.read_info(path, force_feature_count=True)["features"])


def _write(frame: gpd.GeoDataFrame, path: Path, driver: str) -> None:
    if driver == "Parquet":
        frame.to_parquet(path, index=False)
        return
    single = frame.geom_type.isin(["Polygon"]).all()
    options = {"RFC7946": "YES", "COORDINATE_PRECISION": 9} if driver == "GeoJSON" else {}
    with warnings.catch_warnings():
        # A scene without CRS gives footprints without CRS: known, and said where it matters.
        warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
        frame.to_file(
            path,
            driver=driver,
            layer=LAYER,
            engine="pyogrio",
            index=False,
            geometry_type="Polygon" if single else "MultiPolygon",  # an empty layer has one too
            promote_to_multi=not single,
            layer_options=options,
        )


def _check_options(
    threshold: float, min_score: float, min_area_m2: float, simplify_m: float
) -> None:
    for name, value in (("threshold", threshold), ("min_score", min_score)):
        if not 0.0 <= value <= 1.0:
            raise ConfigError(f"{name} must be a probability between 0 and 1, not {value}")
    for name, value in (("min_area_m2", min_area_m2), ("simplify_m", simplify_m)):
        if not 0.0 <= value < np.inf:
            raise ConfigError(f"{name} must be a number from 0 up, not {value}")


def _read_probability(
    path: str | os.PathLike[str],
) -> tuple[NDArray[np.float32], NDArray[np.bool_], Affine, Any]:
    """Return (H, W) probabilities, their (H, W) validity, the transform and the CRS or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as raster:
                if raster.count != 1:
                    raise RasterError(
                        f"{path} has {raster.count} bands; a probability raster has one"
                    )
                stored, valid = raster.read(1), raster.read_masks(1) > 0
                scale, offset = raster.scales[0], raster.offsets[0]
                transform, crs = raster.transform, raster.crs or None
    except (RasterioError, OSError) as error:
        raise RasterError(f"cannot read probabilities from {path}: {error}") from error
    if (scale, offset) != (1.0, 0.0):
        # In float64 first: 127 of 254 levels is then exactly 0.5, whatever the tag's last digit.
        stored = (stored * np.float64(scale) + offset).astype(np.float32)
    probability = stored.astype(np.float32, copy=False)
    valid &= np.isfinite(probability)
    low = probability.min(initial=1.0, where=valid)
    high = probability.max(initial=0.0, where=valid)
    if low < -1e-6 or high > 1 + 1e-6:
        raise RasterError(
            f"{path} holds values up to {max(high, -low):g}, not probabilities; give the "
            "probability raster of a prediction, with its scale"
        )
    return probability, valid, transform, crs


def _measured(
    pixel_outlines: NDArray[Any], transform: Affine, crs: Any, simplify_m: float
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.intp]]:
    """Place outlines on the ground, simplify and measure them.

    Returns:
        (M,) polygons in ``crs``, their (M,) areas and the (M,) index of each one's outline.
    """
    source = np.arange(len(pixel_outlines))
    if not source.size:
        return pixel_outlines, np.empty(0), source
    if crs is None or not _is_on_earth(crs, transform):
        if simplify_m > 0:
            pixel_outlines, source = polygon_parts(shapely.simplify(pixel_outlines, simplify_m))
        return _placed(pixel_outlines, transform), shapely.area(pixel_outlines), source
    ground = gpd.GeoSeries(_placed(pixel_outlines, transform), crs=crs)
    if simplify_m > 0:
        plane = ground.to_crs(metric_crs(ground))
        simple = shapely.simplify(plane.to_numpy(), simplify_m)
        on_ground = gpd.GeoSeries(simple, crs=plane.crs).to_crs(ground.crs)
        parts, source = polygon_parts(on_ground.to_numpy())
        ground = gpd.GeoSeries(parts, crs=ground.crs)
    return ground.to_numpy(), areas_m2(ground), source


def _is_on_earth(crs: Any, transform: Affine) -> bool:
    return to_degrees(crs, [transform.c], [transform.f]) is not None


def _placed(geometries: NDArray[Any], transform: Affine) -> NDArray[Any]:
    """Move geometries from pixel coordinates, (column, row), to the raster's."""
    linear = np.array([[transform.a, transform.b], [transform.d, transform.e]])
    origin = np.array([transform.c, transform.f])
    placed = shapely.transform(geometries, lambda points: points @ linear.T + origin)
    return np.asarray(placed, dtype=object)
