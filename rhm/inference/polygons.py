"""Polygonisation: from a raster of building probabilities to scored footprints.

A footprint is a connected component (4 neighbours) of the pixels whose probability reaches the
threshold, or a part of one that was split at its necks. Its score is the mean probability of these
pixels themselves, not of the pixels inside the final outline. Areas and tolerances are measured in
metres, in a plane centred on the raster; the result is in the CRS of the raster. Only a few rows
are read at a time, and only buildings that continue below them are kept in memory.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from pyproj.enums import TransformDirection
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterioWindow

from rhm.data.footprints import metric_crs, polygon_parts
from rhm.data.rasters.gdal_options import GDAL_ERRORS, open_dataset
from rhm.data.rasters.georeference import is_square, to_degrees
from rhm.data.rasters.raster import describe
from rhm.data.rasters.raster_info import RasterInfo
from rhm.data.rasters.windows import in_bands
from rhm.data.vectors.antimeridian import contiguous, turn_of
from rhm.errors import RasterError
from rhm.inference.layers.vector_files import Footprints
from rhm.inference.pixel_grid import PixelGrid
from rhm.inference.regularization import regularize
from rhm.inference.regularization.territory import Territory
from rhm.inference.settings.keywords import taking
from rhm.inference.settings.polygon_config import PolygonConfig as PolygonConfig
from rhm.inference.tracing.components import Outlines, Tracer
from rhm.inference.tracing.watershed import LearnedSeparation, Splitting, Watershed

_REACH = 10.0
"""Distance within which straightened walls may meet a neighbour's, in tolerances."""

ScoreFunction = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Function from mean probabilities of footprints to their scores, both (N,)."""

_BOUNDARY_BAND = "boundary probability"


class PredictedRows(NamedTuple):
    """A band of rows of a prediction, from which footprints are traced.

    Attributes:
        building: (rows, width) bool, True where the image shows a building.
        probability: (rows, width) floating-point building probability.
        inside: (rows, width) floating-point probability of the inside of a building, if the model
            has classes that separate buildings.
    """

    building: NDArray[np.bool_]
    probability: NDArray[Any]
    inside: NDArray[Any] | None = None


def inside_of(
    probability: NDArray[Any], further: Sequence[NDArray[Any]] | NDArray[Any]
) -> NDArray[Any] | None:
    """Return the probability of the inside of buildings, or None without further maps.

    Args:
        probability: building probability.
        further: further maps, of which the first is the probability of boundary.
    """
    return np.asarray(probability - further[0]) if len(further) else None


class Ground:
    """The location of a raster's outlines, and the plane in which they are measured.

    A raster without a CRS, or without a location on Earth, is measured in pixels.

    Args:
        raster: properties of the raster.
    """

    def __init__(self, raster: RasterInfo) -> None:
        self._crs = raster.crs
        self._to_coordinates = PixelGrid.of_info(raster).to_coordinates
        self._plane = None
        self._middle = np.array([raster.width / 2, raster.height / 2])
        self._turn = None
        (centre,) = self._to_coordinates(self._middle[None])
        if self._crs is not None and to_degrees(self._crs, *centre[:, None]) is not None:
            place = gpd.GeoSeries([shapely.Point(centre)], crs=self._crs)
            self._plane = metric_crs(place)
            self._turn = turn_of(place.crs)
            self._middle_x = float(centre[0])

    @cached_property
    def pixel_m(self) -> tuple[float, float]:
        """Height and width, in metres, of the pixel at the raster's centre.

        They are those of a rectangle as large as the pixel, and equal if it is nearly a square.
        """
        corners = self._middle + np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        pixel = self._measured(np.array([shapely.Polygon(corners)]))[0]
        side = math.sqrt(shapely.area(pixel))
        top_left, top_right, _, bottom_left, _ = shapely.get_coordinates(pixel)
        aspect = math.dist(top_left, top_right) / math.dist(top_left, bottom_left)
        stretch = 1.0 if is_square(aspect) else math.sqrt(aspect)
        return side / stretch, side * stretch

    def reach_px(self, config: PolygonConfig) -> float:
        """Return how far below the pixels of most buildings straightened walls may lie, in rows."""
        return _REACH * config.regularize_m / self.pixel_m[0]

    def watershed(self, config: PolygonConfig, *, learned: bool = False) -> Splitting | None:
        """Return how connected components are split; None if they are not.

        Args:
            config: options of polygonisation.
            learned: whether the model has classes that separate buildings.
        """
        if learned and config.separate:
            return LearnedSeparation(config.separate)
        if not config.split_m:
            return None
        height_m, width_m = self.pixel_m
        return Watershed(config.split_m / height_m, config.fixed_threshold, width_m / height_m)

    def footprints(
        self, outlines: Outlines, config: PolygonConfig, territory: Territory
    ) -> Footprints:
        """Place outlines on the ground, clean and measure them, and filter by score and area.

        Args:
            outlines: outlines in pixel coordinates.
            config: tolerances, minimum score and minimum area.
            territory: regularised footprints of the same raster that came before.
        """
        if config.regularize_m > 0:
            return self._regularized(outlines, config, territory)
        if config.simplify_m > 0:
            measured, source = self._simplified(outlines, config.simplify_m)
            placed, scores = self._returned(measured), outlines.scores[source]
        else:
            placed, scores = self.placed(outlines.polygons), outlines.scores
            measured = self._measured(outlines.polygons)
        areas = shapely.area(measured)
        kept = (scores >= config.min_score) & (areas >= config.min_area_m2)
        return Footprints(_valid(placed[kept]), scores[kept], areas[kept])

    def _simplified(
        self, outlines: Outlines, tolerance_m: float
    ) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """Simplify outlines in the plane in which they are measured; shared borders stay shared.

        Returns:
            (M,) polygons, and (M,) the index of the outline that each belongs to.
        """
        together = outlines.split
        measured = np.empty(len(outlines), dtype=object)
        alone = self._measured(outlines.polygons[~together])
        measured[~together] = shapely.simplify(alone, tolerance_m)
        if together.any():
            # With a vertex at every pixel, neighbours meet vertex by vertex, as a coverage must.
            dense = shapely.segmentize(outlines.polygons[together], 1.0)
            dense = shapely.transform(dense, np.rint)
            dense = self._measured(dense)
            # One component at a time: others in the same array would make a difference.
            edges = np.flatnonzero(np.diff(outlines.component[together])) + 1
            measured[together] = np.concatenate(
                [shapely.coverage_simplify(part, tolerance_m) for part in np.split(dense, edges)]
            )
        return polygon_parts(measured)

    def _regularized(
        self, outlines: Outlines, config: PolygonConfig, territory: Territory
    ) -> Footprints:
        kept = np.flatnonzero(outlines.scores >= config.min_score)
        traced = self._measured(outlines.polygons[kept])
        straight = regularize(traced, tolerance_m=config.regularize_m)
        large = shapely.area(straight) >= config.min_area_m2
        kept, traced, straight = kept[large], traced[large], straight[large]
        _, first, _, last = shapely.bounds(outlines.polygons[kept]).reshape(-1, 4).T
        # Straightened walls may lie beyond the pixels; those of large buildings the farthest.
        reach = np.maximum(self.reach_px(config), last - first)
        free, source = territory.claim(straight, traced, last + reach)
        areas = shapely.area(free)
        large = areas >= config.min_area_m2
        placed = _valid(self._returned(free[large]))
        return Footprints(placed, outlines.scores[kept[source]][large], areas[large])

    def placed(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Transform geometries (N,) from pixel coordinates, (column, row), to the raster's CRS."""
        return np.asarray(shapely.transform(pixels, self._to_coordinates), dtype=object)

    def _measured(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Transform geometries from pixel coordinates to the plane in which they are measured."""
        if self._plane is None:
            return pixels
        return self._moved(self.placed(pixels), TransformDirection.FORWARD)

    def _returned(self, measured: NDArray[Any]) -> NDArray[Any]:
        """Transform geometries from the plane in which they are measured to the raster's CRS."""
        if self._plane is None:
            return self.placed(measured)
        placed = self._moved(measured, TransformDirection.INVERSE)
        if self._turn is None:
            return placed
        return contiguous(placed, self._middle_x, self._turn.length)

    @cached_property
    def _to_plane(self) -> Transformer:
        # Making one takes as long as all footprints of a small scene, so one serves both ways.
        return Transformer.from_crs(self._crs, self._plane, always_xy=True)

    def _moved(self, geometries: NDArray[Any], direction: TransformDirection) -> NDArray[Any]:
        """Transform geometries between the raster's CRS and the plane."""

        def moved(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.column_stack(
                self._to_plane.transform(xy[:, 0], xy[:, 1], direction=direction)
            )

        return np.asarray(shapely.transform(geometries, moved), dtype=object)


def footprints(
    bands: Iterable[PredictedRows],
    width: int,
    ground: Ground,
    config: PolygonConfig,
    *,
    learned: bool = False,
    calibration: ScoreFunction | None = None,
    on_too_large: Callable[[int], None] | None = None,
) -> Iterator[Footprints]:
    """Trace the buildings of a raster that is read from top to bottom.

    Args:
        bands: consecutive bands of rows.
        width: number of columns of the raster.
        ground: location of the raster.
        config: options of polygonisation; the threshold was already applied to the bands.
        learned: whether the bands have the probability of the inside of buildings.
        calibration: calibration of the scores; by default, they are mean probabilities.
        on_too_large: called with the number of components that were too large to be split.

    Yields:
        The footprints that end with each band, and finally the remaining ones. In total, they are
        in the order of the last pixels of their components, row by row, and do not depend on how
        the raster was divided into bands.
    """
    tracer = Tracer(width, ground.watershed(config, learned=learned))
    territory = Territory()

    def placed(outlines: Outlines) -> Footprints:
        if on_too_large is not None and outlines.too_large.any():
            on_too_large(int(outlines.too_large.sum()))
        if calibration is not None:
            outlines = replace(outlines, scores=calibration(outlines.scores))
        return ground.footprints(outlines, config, territory)

    for band in bands:
        yield placed(tracer.feed(*band))
        territory.release(tracer.open_row - ground.reach_px(config))
    yield placed(tracer.finish())


@taking(PolygonConfig)
def polygonize(probability: str | os.PathLike[str], config: PolygonConfig) -> gpd.GeoDataFrame:
    """Trace the buildings of a probability raster as scored polygons.

    A raster without a CRS, or without a location on Earth, is measured in pixels: ``area_m2``,
    ``min_area_m2`` and the tolerances are then in pixels. The geometry is in the coordinates of
    the raster's transform all the same.

    Args:
        probability: raster with one band of probabilities in [0, 1], after its scale and offset
            if it has them, or that of a model with classes. Nodata pixels belong to no building.
        config: the fields of :class:`PolygonConfig`, each as a keyword.

    Returns:
        A frame in the CRS of the raster with the columns ``score`` (float64, mean probability
        inside), ``area_m2`` (float64) and ``geometry`` (valid polygons), in the order of the last
        pixels of their components, row by row.

    Raises:
        RasterError: the raster cannot be read, or does not contain probabilities.
        ConfigError: an option is not allowed.
    """
    info = describe(probability)
    try:
        with open_dataset(probability) as raster:
            learned = _separates(raster)
            bands = _bands(raster, config.fixed_threshold, learned=learned)
            batches = footprints(bands, raster.width, Ground(info), config, learned=learned)
            polygons, scores, areas = map(np.concatenate, zip(*batches, strict=True))
    except (*GDAL_ERRORS, OSError) as error:
        raise RasterError(f"cannot read probabilities from {probability}: {error}") from error
    return gpd.GeoDataFrame({"score": scores, "area_m2": areas}, geometry=polygons, crs=info.crs)


def _separates(raster: DatasetReader) -> bool:
    """Return whether a raster has the further maps of a model with classes.

    Raises:
        RasterError: it has bands of another kind.
    """
    if raster.count > 1 and raster.descriptions[1] == _BOUNDARY_BAND:
        return True
    if raster.count != 1:
        raise RasterError(f"{raster.name} has {raster.count} bands; a probability raster has one")
    return False


def _bands(raster: DatasetReader, threshold: float, *, learned: bool) -> Iterator[PredictedRows]:
    """Yield bands of rows of a raster.

    Raises:
        RasterError: the raster does not contain probabilities.
    """
    block = raster.block_shapes[0][0]
    # Reads whole blocks, so that each is decoded only once.
    for row in range(0, raster.height, block):
        window = RasterioWindow(0, row, raster.width, min(block, raster.height - row))
        maps = raster.read([1, 2] if learned else [1], window=window)
        valid = raster.read_masks(1, window=window) > 0
        for rows in in_bands(*maps.shape[1:]):
            known = valid[rows]
            values = [_decoded(raster, number, each[rows]) for number, each in enumerate(maps)]
            for each in values:
                known &= np.isfinite(each)
                _check_probabilities(each, known, raster.name)
            probability, *further = values
            inside = inside_of(probability, further)
            yield PredictedRows(known & (probability >= threshold), probability, inside)


def _decoded(raster: DatasetReader, number: int, stored: NDArray[Any]) -> NDArray[np.float32]:
    """Return the probabilities of stored values of a band, counted from 0."""
    scale, offset = raster.scales[number], raster.offsets[number]
    if (scale, offset) != (1.0, 0.0):
        # In float64 first, so that level 127 of 254 is one half, whatever the tag's digits.
        stored = (stored * np.float64(scale) + offset).astype(np.float32)
    return stored.astype(np.float32, copy=False)


def _check_probabilities(
    probability: NDArray[np.float32], valid: NDArray[np.bool_], name: str
) -> None:
    low = probability.min(initial=1.0, where=valid)
    high = probability.max(initial=0.0, where=valid)
    if low < -1e-6 or high > 1 + 1e-6:
        raise RasterError(
            f"{name} holds values up to {max(high, -low):g}, not probabilities; give the "
            "probability raster of a prediction, with its scale"
        )


def _valid(polygons: NDArray[Any]) -> NDArray[Any]:
    """Repair polygons that a rounding error of the transformation has made invalid."""
    broken = ~shapely.is_valid(polygons)
    if broken.any():
        polygons = polygons.copy()
        polygons[broken] = [_largest(shapely.make_valid(polygon)) for polygon in polygons[broken]]
    return polygons


def _largest(geometry: Any) -> Any:
    parts, _ = polygon_parts(np.array([geometry], dtype=object))
    return parts[np.argmax(shapely.area(parts))]
