"""Counts that can be added, and scores that are computed from them.

Every measurement of an image is a :class:`Counts`, a small frozen value. The counts of several
images are added, in any order and on any worker. Scores are pure functions of count vectors of
shape (..., n), so a single call scores one total or thousands of bootstrap resamples. A score whose
denominator is zero is nan: precision if nothing is predicted, recall if the truth is empty, IoU
and F1 if both are the case.
"""

import operator
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from rhm.models.expected_iou import expected_iou

FloatArray = NDArray[np.float64]


def precision_score(counts: FloatArray) -> FloatArray:
    """Return TP / (TP + FP) of (..., n) counts that begin with TP, FP, FN."""
    return _ratio(counts[..., 0], counts[..., 0] + counts[..., 1])


def recall_score(counts: FloatArray) -> FloatArray:
    """Return TP / (TP + FN) of (..., n) counts that begin with TP, FP, FN."""
    return _ratio(counts[..., 0], counts[..., 0] + counts[..., 2])


def f1_score(counts: FloatArray) -> FloatArray:
    """Return 2 TP / (2 TP + FP + FN) of (..., n) counts that begin with TP, FP, FN."""
    return _ratio(2 * counts[..., 0], 2 * counts[..., 0] + counts[..., 1] + counts[..., 2])


def jaccard_score(counts: FloatArray) -> FloatArray:
    """Return the IoU, TP / (TP + FP + FN), of (..., n) counts that begin with TP, FP, FN."""
    return _ratio(counts[..., 0], counts[..., :3].sum(axis=-1))


def boundary_score(counts: FloatArray) -> FloatArray:
    """Return intersection / union of (..., 2) counts of a :class:`BoundaryCounts`."""
    return _ratio(counts[..., 0], counts[..., 1])


def calibration_error(counts: FloatArray) -> FloatArray:
    """Return the expected calibration error of (..., 3 * bins) counts of a CalibrationBins.

    It is the difference |mean probability - share of buildings| of the bins, averaged over pixels
    (Guo et al., On Calibration of Modern Neural Networks, ICML 2017).
    """
    pixels, probability, buildings = np.split(counts, 3, axis=-1)
    return _ratio(np.abs(probability - buildings).sum(axis=-1), pixels.sum(axis=-1))


@dataclass(frozen=True)
class Counts:
    """A value whose fields are counts, or arrays of counts of the same length."""

    def __add__(self, other: Self) -> Self:
        """Return the counts of both measurements together.

        Raises:
            ValueError: the fields are arrays of different lengths.
        """
        if self.vector.shape != other.vector.shape:
            raise ValueError("counts over different bins cannot be added")
        return type(self)(*map(operator.add, vars(self).values(), vars(other).values()))

    merge = __add__

    @property
    def vector(self) -> FloatArray:
        """The fields in order, concatenated for the score functions: (n,) float64."""
        return np.hstack(tuple(vars(self).values())).astype(np.float64)


class _DetectionScores(Counts):
    """Counts that begin with TP, FP, FN, with their scores."""

    @property
    def precision(self) -> float:
        """TP / (TP + FP); nan if nothing is predicted."""
        return float(precision_score(self.vector))

    @property
    def recall(self) -> float:
        """TP / (TP + FN); nan if the truth is empty."""
        return float(recall_score(self.vector))

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); nan if truth and prediction are empty."""
        return float(f1_score(self.vector))


@dataclass(frozen=True)
class ConfusionCounts(_DetectionScores):
    """Number of pixels by truth and prediction."""

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    true_negatives: int = 0

    @classmethod
    def of(cls, truth: ArrayLike, prediction: ArrayLike, valid: ArrayLike | None = None) -> Self:
        """Count the pixels of two masks (0 or False is background) where ``valid`` is true.

        Raises:
            ValueError: the shapes differ.
        """
        actual, predicted, counted = _masks(truth, prediction, valid)
        both, positives = _count(actual & predicted & counted), _count(predicted & counted)
        missed = _count(actual & counted) - both
        return cls(both, positives - both, missed, _count(counted) - positives - missed)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN); nan if truth and prediction are empty."""
        return float(jaccard_score(self.vector))


@dataclass(frozen=True)
class ObjectScores(_DetectionScores):
    """Number of buildings that were found, falsely predicted, and missed."""

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0


@dataclass(frozen=True)
class BoundaryCounts(Counts):
    """Number of pixels near both outlines, and near at least one of them."""

    intersection: int = 0
    union: int = 0

    @property
    def iou(self) -> float:
        """Boundary IoU; nan if both masks are empty."""
        return float(boundary_score(self.vector))


def object_scores(
    truth: Any,
    predictions: Any,
    iou: float = 0.5,
    min_area: float = 0.0,
    scores: ArrayLike | None = None,
) -> ObjectScores:
    """Match predicted buildings to true ones, as SpaceNet's building challenges do.

    Predictions are matched in order of descending confidence, and in the given order if their
    confidence is equal. Each is matched to the unmatched true building with the highest IoU,
    provided that this IoU is at least ``iou`` (Van Etten et al., SpaceNet, 2018; the solaris
    package). For several images, call this function for each and add the results.

    Args:
        truth: shapely polygons, or a GeoSeries or GeoDataFrame. Invalid polygons are repaired.
        predictions: predicted buildings, of the same types; reprojected to the CRS of ``truth`` if
            both have one.
        iou: smallest intersection over union of a match, in (0, 1].
        min_area: area below which polygons are ignored, in square metres for footprints with a CRS
            and otherwise in squared units of the coordinates. Polygons without area are always
            ignored.
        scores: confidence of each prediction; by default the column ``score``, if there is one.

    Raises:
        ValueError: ``iou`` is not in (0, 1], the numbers of scores and predictions differ, or only
            one of ``truth`` and ``predictions`` has a CRS.
    """
    if not 0 < iou <= 1:
        raise ValueError(f"iou must be in (0, 1], got {iou}")
    if scores is None and "score" in getattr(predictions, "columns", ()):
        scores = predictions["score"]
    confidence = np.zeros(len(predictions)) if scores is None else np.asarray(scores, dtype=float)
    if len(confidence) != len(predictions):
        raise ValueError(f"{len(confidence)} scores for {len(predictions)} predictions")
    crs = getattr(truth, "crs", None)
    if (crs is None) != (getattr(predictions, "crs", None) is None):
        raise ValueError("truth and predictions must both have a CRS, or neither")
    if crs is not None:
        from rhm.data.vectors.antimeridian import in_one_crs  # imports the GIS libraries

        truth, predictions = in_one_crs(truth, predictions)
    actual, _ = _objects(truth, min_area)
    predicted, kept = _objects(predictions, min_area)
    found = int(np.count_nonzero(_matched(actual, predicted, iou, confidence[kept])))
    return ObjectScores(found, len(predicted) - found, len(actual) - found)


def matched_predictions(
    truth: NDArray[Any], predictions: NDArray[Any], scores: FloatArray, iou: float = 0.5
) -> NDArray[np.bool_]:
    """Return which predictions match a true building, as ``object_scores`` counts them.

    Args:
        truth: shapely polygons.
        predictions: (N,) valid shapely polygons with an area.
        scores: (N,) confidence of each prediction.
        iou: smallest intersection over union of a match.

    Returns:
        (N,) bool.
    """
    return _matched(_objects(truth, 0.0)[0], predictions, iou, scores)


def boundary_iou(
    truth: ArrayLike, prediction: ArrayLike, valid: ArrayLike | None, width_px: int
) -> BoundaryCounts:
    """Count the valid pixels of two (H, W) masks that lie near the masks' outlines.

    These are the counts of Boundary IoU (Cheng et al., CVPR 2021). As in the authors' program, a
    mask that is cut off by the edge of the image has an outline there; the same holds at the edge
    of nodata.

    Args:
        truth: true mask.
        prediction: predicted mask.
        valid: mask of the pixels to count; by default all.
        width_px: depth of the boundary region inside a mask, in pixels of chessboard distance; the
            paper uses 2 % of the image's diagonal.

    Raises:
        ValueError: the shapes differ, or the width is below 1.
    """
    if width_px < 1:
        raise ValueError(f"width_px must be at least 1, got {width_px}")
    actual, predicted, counted = _masks(truth, prediction, valid)
    near_truth = _boundary(actual & counted, width_px)
    near_prediction = _boundary(predicted & counted, width_px)
    return BoundaryCounts(
        _count(near_truth & near_prediction), _count(near_truth | near_prediction)
    )


@dataclass(frozen=True, eq=False)
class CalibrationBins(Counts):
    """Number of pixels by predicted probability, in bins of equal width; the last includes 1.

    Attributes:
        pixels: (bins,) number of pixels.
        probability_sums: (bins,) sum of the pixels' probabilities.
        buildings: (bins,) number of the pixels that are building.
    """

    pixels: NDArray[np.int64]
    probability_sums: FloatArray
    buildings: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        probability: NDArray[np.floating[Any]],
        truth: ArrayLike,
        valid: ArrayLike | None = None,
        bins: int = 20,
    ) -> Self:
        """Count the pixels of a probability map (floating point in [0, 1] wherever valid).

        Use 20 ``bins`` for a reliability diagram, and 200 to choose a threshold.

        Raises:
            ValueError: the shapes differ.
        """
        actual, _, counted = _masks(truth, np.zeros(np.shape(probability), bool), valid)
        chosen, is_building = np.asarray(probability)[counted], actual[counted]
        # The edges have the precision of the map. A pixel is therefore in bin k or above exactly if
        # its probability reaches k/bins in a comparison.
        edges = (np.arange(1, bins) / bins).astype(chosen.dtype)
        index = np.searchsorted(edges, chosen, side="right")
        return cls(
            np.bincount(index, minlength=bins),
            np.bincount(index, weights=chosen, minlength=bins).astype(np.float64),
            np.bincount(index[is_building], minlength=bins),
        )

    def merged(self, bins: int) -> Self:
        """Return the same counts in fewer, wider bins; ``bins`` must divide their number."""
        counts = (self.pixels, self.probability_sums, self.buildings)
        return type(self)(*(field.reshape(bins, -1).sum(axis=1) for field in counts))

    @property
    def expected_calibration_error(self) -> float:
        """Expected calibration error, see :func:`calibration_error`; nan without pixels."""
        return float(calibration_error(self.vector))

    def reliability(self) -> tuple[FloatArray, FloatArray]:
        """Return (bins,) mean probabilities and (bins,) shares of buildings, nan in empty bins."""
        return _ratio(self.probability_sums, self.pixels), _ratio(self.buildings, self.pixels)

    def threshold_scores(self) -> tuple[FloatArray, FloatArray]:
        """Return thresholds k/bins and the exact IoU of probability >= threshold, both (bins,)."""
        positives = np.cumsum(self.pixels[::-1])[::-1]
        hits = np.cumsum(self.buildings[::-1])[::-1]
        thresholds = np.arange(len(self.pixels)) / len(self.pixels)
        return thresholds, _ratio(hits, positives + self.buildings.sum() - hits)

    def best_threshold(self) -> float:
        """Return the threshold with the highest IoU; among equals, the one nearest to 0.5.

        The result is nan if there are no building pixels, because then no threshold is better than
        another.
        """
        if not self.buildings.any():
            return float("nan")
        thresholds, scores = self.threshold_scores()
        best = thresholds[scores == scores.max()]
        return float(best[np.argmin(np.abs(best - 0.5))])

    def expected_iou(self, threshold: float) -> float | None:
        """Return the IoU that the probabilities imply, see ``rhm.models.expected_iou``.

        Args:
            threshold: probability from which a pixel counts as building; rounded up to the next
                k/bins.
        """
        lower = np.arange(len(self.pixels)) / len(self.pixels)
        return expected_iou(self.pixels, self.probability_sums, lower >= threshold - 1e-9)


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> FloatArray:
    result = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=result, where=np.asarray(denominator) > 0)
    return result


def _count(mask: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask))


def _masks(
    truth: ArrayLike, prediction: ArrayLike, valid: ArrayLike | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    actual, predicted = np.asarray(truth, dtype=bool), np.asarray(prediction, dtype=bool)
    counted = np.ones(actual.shape, bool) if valid is None else np.asarray(valid, dtype=bool)
    if not actual.shape == predicted.shape == counted.shape:
        raise ValueError(f"shapes differ: {actual.shape}, {predicted.shape}, {counted.shape}")
    return actual, predicted, counted


def _boundary(mask: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1).astype(np.uint8)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width_px)
    return np.greater(mask, eroded[1:-1, 1:-1])


def _objects(footprints: Any, min_area: float) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the repaired footprints that are large enough, and their indices in the input."""
    series = getattr(footprints, "geometry", footprints)
    geometries = np.array(list(series), dtype=object)
    coordinates, owner = shapely.get_coordinates(geometries, return_index=True)
    geometries[owner[~np.isfinite(coordinates).all(axis=1)]] = None
    broken = ~shapely.is_valid(geometries)
    # A buffer of width 0 drops the lines and points that remain after the repair.
    geometries[broken] = shapely.buffer(shapely.make_valid(geometries[broken]), 0)
    areas = shapely.area(geometries)
    if getattr(series, "crs", None) is not None and min_area > 0:
        import geopandas as gpd  # takes time, and only footprints with a CRS need it

        from rhm.data.footprints import areas_m2

        areas = np.where(areas > 0, areas_m2(gpd.GeoSeries(geometries, crs=series.crs)), 0)
    kept = np.flatnonzero((areas > 0) & (areas >= min_area))
    return geometries[kept], kept


def _matched(
    truth: NDArray[Any], predictions: NDArray[Any], iou: float, confidence: FloatArray
) -> NDArray[np.bool_]:
    """Return which predictions are matched, those of high confidence first, (N,) bool."""
    by_confidence = np.argsort(-confidence, kind="stable")
    matched = _greedy_matches(truth, predictions[by_confidence], iou)
    found = np.zeros(len(predictions), dtype=bool)
    found[by_confidence[np.fromiter(matched, np.intp, len(matched))]] = True
    return found


def _greedy_matches(truth: NDArray[Any], predictions: NDArray[Any], iou: float) -> set[int]:
    """Return the matched predictions, which in order take their best unmatched true building."""
    prediction, candidate = shapely.STRtree(truth).query(predictions, predicate="intersects")
    common = shapely.area(shapely.intersection(predictions[prediction], truth[candidate]))
    union = shapely.area(predictions)[prediction] + shapely.area(truth)[candidate] - common
    overlap = common / union
    # Pairs below the least IoU never match, so they can be dropped before matching.
    good = np.flatnonzero(overlap >= iou)
    order = good[np.lexsort((candidate[good], -overlap[good], prediction[good]))]
    matched: set[int] = set()
    taken: set[int] = set()
    for chooser, choice in zip(prediction[order], candidate[order], strict=True):
        if chooser not in matched and choice not in taken:
            matched.add(chooser)
            taken.add(choice)
    return matched
