"""Prediction of one labelled image, and the counts that its scores are computed from."""

from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import shapely.geometry
from numpy.typing import NDArray
from rasterio import features

from rhm.colour.histogram import Histogram
from rhm.data.catalog import Tile
from rhm.data.footprints import polygon_parts
from rhm.data.labels import IGNORE, Label
from rhm.data.radiometry import Scaling, shift_for
from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.raster import Raster
from rhm.errors import CatalogError
from rhm.evaluation.outlines.average_precision import Detections
from rhm.evaluation.outlines.covered_area import covered_areas
from rhm.evaluation.outlines.default_footprints import ASSUMED_PIXEL_M, default_footprints
from rhm.evaluation.outlines.outline_counts import OutlineCounts
from rhm.evaluation.scores import BOUNDARY_WIDTHS_M, Shift
from rhm.inference.runtime.backends import DescribedNetwork
from rhm.inference.tiling.stream import Grid, Tiling, predict_blocks
from rhm.inference.tracing.components import trace
from rhm.models.building_classes import maps_of
from rhm.models.spec import ModelSpec
from rhm.training.metrics import (
    BoundaryCounts,
    CalibrationBins,
    ConfusionCounts,
    FloatArray,
    ObjectScores,
    boundary_iou,
    matched_predictions,
    object_scores,
)

MIN_OBJECT_PX = 20.0
"""Minimum area of a building in square pixels; smaller ones are not counted, as in SpaceNet."""

SIMPLIFY_M = 0.5
"""Tolerance of the simplification of outlines before they are scored as polygons, in metres; that
of ``rhm predict``, for which a pixel of unknown size counts as one metre, too. True outlines that
come from a mask are simplified in the same way."""
SCORE_BINS = 10
"""Number of bins of calibrated scores in which footprints are counted."""

LEVELS = 200
"""Number of levels of probability in which pixels are counted, and of comparable thresholds."""


@dataclass(frozen=True)
class TileScores:
    """The counts of one image, from which all scores are computed.

    Attributes:
        tile: image and its label.
        pixels: counts of pixels by truth and prediction.
        objects: counts of buildings that were found, falsely predicted, and missed.
        boundaries: counts of boundary pixels, for each of ``BOUNDARY_WIDTHS_M``.
        outlines: sums over outlines, as polygons.
        detections: predicted polygons, matched at all IoU thresholds of COCO.
        calibration: counts of pixels by probability, in ``LEVELS`` bins.
        histogram: histogram of the image as the model sees it, with 256 levels.
        promises: footprints by calibrated score, in ``SCORE_BINS`` bins, with the numbers of
            correct ones as buildings; None if the model does not calibrate scores.
    """

    tile: Tile
    pixels: ConfusionCounts
    objects: ObjectScores
    boundaries: tuple[BoundaryCounts, ...]
    outlines: OutlineCounts
    detections: Detections
    calibration: CalibrationBins
    histogram: Histogram
    promises: CalibrationBins | None = None


@dataclass(frozen=True)
class Seen:
    """An image as the model sees it, with truth and prediction on the same grid.

    Attributes:
        pixels: (H, W, bands) uint8 values from black to white.
        valid: (H, W) bool validity.
        gsd_m: ground sampling distance of these pixels in metres; None if unknown.
        truth: (H, W) uint8 mask, 1 on buildings.
        probability: (H, W) float32 probabilities.
        true_objects: outlines of the true buildings, in pixel coordinates.
        objects: outlines of the predicted buildings, in pixel coordinates, as ``rhm predict``
            traces and splits them by default; not simplified.
        confidences: scores of ``objects``.
        drawn: whether the true buildings were drawn as polygons, and not traced from a mask.
        promises: as in ``TileScores``.
    """

    pixels: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    gsd_m: float | None
    truth: NDArray[np.uint8]
    probability: NDArray[np.float32]
    true_objects: NDArray[Any]
    objects: NDArray[Any]
    confidences: NDArray[np.float64] = field(repr=False)
    drawn: bool = False
    promises: CalibrationBins | None = None


def see(
    model: DescribedNetwork,
    tile: Tile,
    *,
    shift: Shift | None,
    tiling: Tiling,
    threshold: float | None = None,
    predicted: Path | None = None,
) -> Seen:
    """Predict an image at the resolution of the model, unchanged or under a shift.

    Args:
        model: model in ``eval`` mode.
        tile: labelled image.
        shift: shift to apply, or None.
        tiling: options of the tiles.
        threshold: minimum probability of a building pixel; by default that of the model.
        predicted: file with the maps, if they were predicted before.

    Raises:
        CatalogError: the image has no label.
        RasterError: the image or its mask cannot be read.
        ModelFileError: the image does not have the bands that the model takes.
    """
    if tile.label is None:
        raise CatalogError(f"{tile.image} has no label to compare with")
    scale = tile.scale_to(model.spec.gsd_m)
    with tile.open(scale) as raster, tile.open_label(raster) as label:
        tile.check(raster)
        scaling = model.spec.scaling_of(raster)
        if predicted is None:
            pixels, maps = predict_maps(
                model, raster, tile.name, scaling=scaling, shift=shift, tiling=tiling
            )
        else:
            pixels, maps = _read(raster, tile.name, shift), np.load(predicted)
        truth = label.read()
        valid = pixels.valid & (truth != IGNORE)
        true = true_objects(label, truth, valid, raster)
        drawn = label.footprints is not None
    used = model.spec.threshold if threshold is None else threshold
    gsd_m = tile.gsd_at(model.spec.gsd_m)
    objects, confidences = default_footprints(maps, valid, threshold=used, gsd_m=gsd_m)
    shown = scaling.bytes_table().apply(pixels.values)
    return Seen(
        pixels=shown,
        valid=valid,
        gsd_m=gsd_m,
        truth=truth,
        probability=maps[0],
        true_objects=true,
        objects=objects,
        confidences=confidences,
        drawn=drawn,
        promises=_promises(model.spec, true, objects, confidences),
    )


def _promises(
    spec: ModelSpec, true: NDArray[Any], predicted: NDArray[Any], scores: FloatArray
) -> CalibrationBins | None:
    """Return the footprints by calibrated score; see ``TileScores.promises``."""
    if spec.score_calibration is None:
        return None
    correct = matched_predictions(true, predicted, scores)
    return CalibrationBins.of(spec.score_calibration(scores), correct, bins=SCORE_BINS)


def count(seen: Seen, tile: Tile, threshold: float) -> TileScores:
    """Return the counts of pixels, objects, outlines and probabilities of an image."""
    predicted = seen.probability >= threshold
    truth = seen.truth == 1
    pixels = ConfusionCounts.of(truth, predicted, seen.valid)
    outlines, detections = _polygons(seen, pixels.iou)
    return TileScores(
        tile=tile,
        pixels=pixels,
        objects=object_scores(
            seen.true_objects, seen.objects, min_area=MIN_OBJECT_PX, scores=seen.confidences
        ),
        boundaries=tuple(
            boundary_iou(truth, predicted, seen.valid, _width_px(width, seen.gsd_m))
            for width in BOUNDARY_WIDTHS_M
        ),
        outlines=outlines,
        detections=detections,
        calibration=CalibrationBins.of(seen.probability, truth, seen.valid, bins=LEVELS),
        histogram=Histogram.of(seen.pixels, valid=seen.valid),
        promises=seen.promises,
    )


def _polygons(seen: Seen, iou: float) -> tuple[OutlineCounts, Detections]:
    """Return the sums over outlines, and the matched predictions, of an image."""
    tolerance = SIMPLIFY_M / (seen.gsd_m or ASSUMED_PIXEL_M)
    true, _ = _large(seen.true_objects, 0.0 if seen.drawn else tolerance)
    found, kept = _large(seen.objects, tolerance)
    # Of an image of which nothing is known, no outline is right or wrong.
    known = bool(seen.valid.any())
    outlines = OutlineCounts.of(true, found, iou, seen.gsd_m) if known else OutlineCounts()
    return outlines, Detections.of(true, found, seen.confidences[kept])


def _large(polygons: NDArray[Any], tolerance: float) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the polygons that are counted, valid and simplified, and their numbers."""
    parts, source = polygon_parts(shapely.simplify(polygons, tolerance))
    large = shapely.area(parts) >= MIN_OBJECT_PX
    return parts[large], source[large]


def _width_px(width_m: float, gsd_m: float | None) -> int:
    """Return a width in whole pixels, at least one; unknown ones are ``ASSUMED_PIXEL_M`` large."""
    return max(1, round(width_m / (gsd_m or ASSUMED_PIXEL_M)))


def pooled_histogram(scores: list[TileScores]) -> Histogram:
    """Return the histogram of several images together."""
    return reduce(Histogram.merge, (of_image.histogram for of_image in scores))


def predict_image(
    model: DescribedNetwork,
    raster: Raster,
    name: str,
    *,
    scaling: Scaling,
    shift: Shift | None,
    tiling: Tiling,
) -> tuple[Pixels, NDArray[np.float32]]:
    """Return pixels (H, W) and building probabilities (H, W) float32; see ``predict_maps``."""
    pixels, maps = predict_maps(model, raster, name, scaling=scaling, shift=shift, tiling=tiling)
    return pixels, maps[0]


def predict_maps(
    model: DescribedNetwork,
    raster: Raster,
    name: str,
    *,
    scaling: Scaling,
    shift: Shift | None,
    tiling: Tiling,
) -> tuple[Pixels, NDArray[np.float32]]:
    """Predict a whole image, unchanged or under a shift.

    Args:
        model: model in ``eval`` mode.
        raster: image, open on the grid of the model.
        name: name of the image, which determines the shift together with its seed.
        scaling: value range of the image, from the description of the model.
        shift: shift to apply, or None.
        tiling: options of the tiles.

    Returns:
        Pixels (H, W) that were predicted, and maps (M, H, W) float32.

    Raises:
        RasterError: the image cannot be read.
    """
    pixels = _read(raster, name, shift)
    scene = pixels.histogram() if model.spec.needs_histogram else None
    table = model.spec.input_table(scaling, scene)
    height, width = pixels.valid.shape
    maps = np.empty((len(maps_of(model.spec.classes)), height, width), dtype=np.float32)
    for block in predict_blocks(model, pixels.part, Grid(height, width, tiling), table):
        maps[:, *block.window.slices] = block.maps
    return pixels, maps


def _read(raster: Raster, name: str, shift: Shift | None) -> Pixels:
    pixels = raster.read()
    return pixels if shift is None else shifted(shift, name, pixels)


def shifted(shift: Shift, name: str, pixels: Pixels) -> Pixels:
    """Return the pixels of an image under a shift, which its name determines."""
    if not pixels.valid.any():
        return pixels
    moved = shift_for(pixels.histogram(), shift.family, name, seed=shift.seed)
    return Pixels(moved.apply(pixels.values, valid=pixels.valid), pixels.valid)


def true_objects(
    label: Label, truth: NDArray[np.uint8], valid: NDArray[np.bool_], raster: Raster
) -> NDArray[Any]:
    """Return the true buildings: the footprints of the label, or the patches of its mask.

    Footprints are cut at the edge of the image, and each part counts as a building. Buildings of
    which nodata or pixels without a label hide half or more of what is left are left out, and the
    others are cut there; those of a mask are traced where the image is valid. A mask that tells
    buildings apart keeps those apart that touch.
    """
    if label.outlines is None:
        numbers = label.read_instances()
        if numbers is None:
            return trace((truth == 1).astype(np.float32), valid).polygons
        shown = features.shapes(numbers, mask=valid & (numbers > 0), connectivity=4)
        return np.array([shapely.geometry.shape(outline) for outline, _ in shown], dtype=object)
    drawn = _within(label.outlines, raster.info.height, raster.info.width)
    if valid.all() or not len(drawn):
        return drawn
    blank = trace((~valid).astype(np.float32), np.ones_like(valid)).polygons
    hidden = covered_areas(drawn, blank) / shapely.area(drawn)
    return _without(drawn[hidden < 0.5], blank)


def _without(polygons: NDArray[Any], blank: NDArray[Any]) -> NDArray[Any]:
    """Return the parts of polygons that lie outside other polygons."""
    result = polygons.copy()
    numbers, others = shapely.STRtree(blank).query(polygons, predicate="intersects")
    for number in np.unique(numbers):
        cover = shapely.union_all(blank[others[numbers == number]])
        result[number] = shapely.difference(polygons[number], cover)
    return _with_area(result)


def _within(outlines: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Return the parts of polygons in pixels that lie on the image."""
    inside = shapely.intersection(outlines, shapely.box(0, 0, width, height))
    return _with_area(inside)


def _with_area(geometries: NDArray[Any]) -> NDArray[Any]:
    parts = shapely.get_parts(geometries)
    return np.asarray(parts[shapely.area(parts) > 0])
