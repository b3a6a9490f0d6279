import csv
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import geopandas as gpd
import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import box
from torchmetrics.classification import (
    BinaryCalibrationError,
    BinaryF1Score,
    BinaryJaccardIndex,
    BinaryPrecision,
    BinaryRecall,
)

from rhm.training.metrics import (
    BoundaryCounts,
    CalibrationBins,
    ConfusionCounts,
    ObjectScores,
    boundary_iou,
    object_scores,
)

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None)


def _masks(seed: int, shape: tuple[int, int] = (13, 17)) -> tuple[NDArray[np.bool_], ...]:
    rng = np.random.default_rng(seed)
    return rng.random(shape) < 0.4, rng.random(shape) < 0.5, rng.random(shape) < 0.8


@quick
@given(seeds)
def test_pixel_scores_equal_torchmetrics_with_ignored_pixels(seed: int) -> None:
    truth, prediction, valid = _masks(seed)
    counts = ConfusionCounts.of(truth, prediction, valid)
    target = torch.from_numpy(np.where(valid, truth, 255).astype(np.int64))
    predicted = torch.from_numpy(prediction.astype(np.int64))
    for score, oracle in (
        (counts.iou, BinaryJaccardIndex(ignore_index=255)),
        (counts.f1, BinaryF1Score(ignore_index=255)),
        (counts.precision, BinaryPrecision(ignore_index=255)),
        (counts.recall, BinaryRecall(ignore_index=255)),
    ):
        assert score == pytest.approx(float(oracle(predicted, target)), abs=1e-6)


@quick
@given(seeds, st.integers(1, 12))
def test_counts_of_parts_add_up_to_counts_of_the_whole(seed: int, cut: int) -> None:
    truth, prediction, valid = _masks(seed)
    probability = np.random.default_rng(seed).random(truth.shape).astype(np.float32)
    upper, lower = np.s_[:cut], np.s_[cut:]
    whole = ConfusionCounts.of(truth, prediction, valid)
    parts = [ConfusionCounts.of(truth[s], prediction[s], valid[s]) for s in (upper, lower)]
    assert sum(parts, ConfusionCounts()) == parts[0].merge(parts[1]) == whole
    bins = [CalibrationBins.of(probability[s], truth[s], valid[s]) for s in (upper, lower)]
    merged, at_once = bins[0] + bins[1], CalibrationBins.of(probability, truth, valid)
    np.testing.assert_allclose(merged.vector, at_once.vector, rtol=1e-12)


def test_scores_without_denominator_are_nan() -> None:
    nothing = ConfusionCounts.of(np.zeros((2, 2)), np.zeros((2, 2)))
    assert nothing == ConfusionCounts(0, 0, 0, 4)
    assert np.isnan([nothing.iou, nothing.f1, nothing.precision, nothing.recall]).all()
    missed = ConfusionCounts.of(np.ones((2, 2)), np.zeros((2, 2)))
    assert (missed.iou, missed.f1, missed.recall) == (0.0, 0.0, 0.0)
    assert np.isnan(missed.precision)
    assert np.isnan(BoundaryCounts().iou)
    assert np.isnan(object_scores([], []).f1)


def test_masks_of_different_shapes_are_refused_not_broadcast() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        ConfusionCounts.of(np.ones((4, 4)), np.ones((1, 4)))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("city", "expected", "f1"),
    [
        ("AOI_2_Vegas", ObjectScores(35, 2, 7), 0.8860759),
        ("AOI_5_Khartoum", ObjectScores(52, 55, 75), 0.4444444),
    ],
)
def test_object_scores_equal_solaris(
    shared_oracles: Path, city: str, expected: ObjectScores, f1: float
) -> None:
    truth = _spacenet(shared_oracles / "spacenet_f1/SN2_sample_truth.csv", city)
    predictions = _spacenet(shared_oracles / "spacenet_f1/SN2_sample_preds.csv", city)
    total = sum(
        (
            object_scores(truth[image], predictions[image], min_area=20)
            for image in truth.keys() | predictions.keys()
        ),
        ObjectScores(),
    )
    assert total == expected
    assert total.f1 == pytest.approx(f1, abs=5e-8)


def _spacenet(path: Path, city: str) -> defaultdict[str, gpd.GeoDataFrame]:
    rows = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["ImageId"].startswith(city):
                rows[row["ImageId"]].append(row)
    frames: defaultdict[str, gpd.GeoDataFrame] = defaultdict(gpd.GeoDataFrame)
    for image, of_image in rows.items():
        frames[image] = gpd.GeoDataFrame(
            {"score": [float(row.get("Confidence", 1)) for row in of_image]},
            geometry=shapely.from_wkt([row["PolygonWKT_Pix"] for row in of_image]),
        )
    return frames


def test_the_confident_prediction_chooses_first() -> None:
    truth = [box(0, 0, 10, 10)]
    rivals = gpd.GeoDataFrame({"score": [0.2, 0.9]}, geometry=[box(0, 0, 10, 10), box(0, 0, 10, 8)])
    assert object_scores(truth, rivals) == ObjectScores(1, 1, 0)
    # At IoU 0.9 only the perfect but hesitant one is right, and the rival takes nothing from it.
    assert object_scores(truth, rivals, iou=0.9) == ObjectScores(1, 1, 0)
    # First chooses the first truth, although the second would have been enough for it: greedy.
    truths = [box(0, 0, 10, 10), box(0, 2, 10, 14)]
    first, second = box(0, 0, 10, 11), box(0, 0, 10, 6)
    assert object_scores(truths, [first, second], scores=[0.9, 0.1]).true_positives == 1
    assert object_scores(truths, [first, second], scores=[0.1, 0.9]).true_positives == 2


def test_a_building_on_the_180th_meridian_is_found_from_either_side() -> None:
    # Fiji: the truth in degrees, from the east; predictions in metres, and torn at the meridian.
    truth = gpd.GeoSeries(
        [box(179.9999, -16.8, 180.0001, -16.7998), box(179.99, -16.8, 179.9902, -16.7998)],
        crs="EPSG:4326",
    )
    west = shapely.affinity.translate(truth.iloc[0], -360)
    torn = shapely.Polygon(
        [(179.9999, -16.8), (-179.9999, -16.8), (-179.9999, -16.7998), (179.9999, -16.7998)]
    )
    for other in (
        truth.to_crs("EPSG:32760"),
        truth.to_crs("EPSG:3832"),
        gpd.GeoSeries([west, truth.iloc[1]], crs=truth.crs),
    ):
        assert object_scores(truth, other) == ObjectScores(2, 0, 0)
        assert object_scores(other, truth) == ObjectScores(2, 0, 0)
    # What reaches round the Earth in its own coordinates is taken at its word.
    assert object_scores(truth, gpd.GeoSeries([torn], crs=truth.crs)).true_positives == 0


def test_iou_of_exactly_the_threshold_is_a_match() -> None:
    assert object_scores([box(0, 0, 2, 1)], [box(0, 0, 1, 1)], iou=0.5) == ObjectScores(1, 0, 0)
    assert object_scores([box(0, 0, 2, 1)], [box(0, 0, 0.99, 1)]) == ObjectScores(0, 1, 1)


@quick
@given(seeds, st.floats(0.05, 1.0))
def test_object_scores_equal_the_plain_double_loop(seed: int, iou: float) -> None:
    rng = np.random.default_rng(seed)

    def boxes(count: int) -> list[shapely.Polygon]:
        corners = rng.integers(0, 12, (count, 2))
        return [
            box(x, y, x + w, y + h)
            for (x, y), (w, h) in zip(corners, rng.integers(1, 6, (count, 2)), strict=True)
        ]

    truth, predictions = boxes(int(rng.integers(0, 15))), boxes(int(rng.integers(0, 15)))
    confidence = rng.integers(0, 4, len(predictions)) / 4
    free, found = list(truth), 0
    for index in sorted(range(len(predictions)), key=lambda i: -confidence[i]):
        mine = predictions[index]
        overlaps = [mine.intersection(t).area / mine.union(t).area for t in free]
        if overlaps and max(overlaps) >= iou:
            free.pop(int(np.argmax(overlaps)))
            found += 1
    expected = ObjectScores(found, len(predictions) - found, len(free))
    assert object_scores(truth, predictions, iou=iou, scores=confidence) == expected


def test_invalid_missing_and_flat_polygons_do_not_stop_the_count() -> None:
    bowtie = shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])
    flat = shapely.Polygon([(0, 0), (1, 1), (2, 2)])
    endless = shapely.from_wkt("POLYGON ((0 0, 1 0, Infinity 1, 0 0))")
    rubbish = [None, flat, endless, shapely.Polygon()]
    counts = object_scores([bowtie, *rubbish], [shapely.make_valid(bowtie), *rubbish])
    assert counts == ObjectScores(1, 0, 0)


def test_small_objects_are_dropped_on_both_sides() -> None:
    small, large = box(0, 0, 4, 4), box(10, 10, 20, 20)
    assert object_scores([small, large], [large], min_area=20) == ObjectScores(1, 0, 0)
    assert object_scores([large], [small, large], min_area=20) == ObjectScores(1, 0, 0)
    assert object_scores([small], [small], min_area=16) == ObjectScores(1, 0, 0)


def test_minimum_area_is_in_square_metres_on_a_map() -> None:
    house = gpd.GeoSeries([box(500000, 4000000, 500010, 4000010)], crs="EPSG:32611")
    in_degrees = house.to_crs("EPSG:4326")
    assert object_scores(in_degrees, house, min_area=99) == ObjectScores(1, 0, 0)
    assert object_scores(in_degrees, house, min_area=101) == ObjectScores(0, 0, 0)
    with pytest.raises(ValueError, match="both have a CRS"):
        object_scores(house, [box(0, 0, 1, 1)])


def test_object_scores_refuse_what_cannot_be_meant() -> None:
    with pytest.raises(ValueError, match="iou must be"):
        object_scores([], [], iou=0)
    with pytest.raises(ValueError, match="2 scores for 1 predictions"):
        object_scores([], [box(0, 0, 1, 1)], scores=[0.1, 0.2])


def test_boundary_iou_of_hand_made_masks() -> None:
    square = np.zeros((12, 12), bool)
    square[2:10, 2:10] = True  # its rim of width 1 has 28 pixels
    everywhere = np.ones((12, 12), bool)
    assert boundary_iou(square, square, everywhere, 1) == BoundaryCounts(28, 28)
    assert boundary_iou(square, ~square & False, None, 1) == BoundaryCounts(0, 28)
    assert boundary_iou(square, square, None, 2) == BoundaryCounts(48, 48)
    assert boundary_iou(square, square, None, 100) == BoundaryCounts(64, 64)
    # Cut off by the image's edge, a mask has an outline along the edge: 4 * 12 - 4 pixels.
    assert boundary_iou(everywhere, everywhere, None, 1) == BoundaryCounts(44, 44)
    # One column further right: 2 * 7 pixels of the rows above and below stay common.
    assert boundary_iou(square, np.roll(square, 1, axis=1), None, 1) == BoundaryCounts(14, 42)
    left = np.zeros((12, 12), bool)
    left[:, :6] = True  # of the square, 4 columns: a rim of 2 * 4 + 2 * 6 pixels
    assert boundary_iou(square, square, left, 1) == BoundaryCounts(20, 20)
    with pytest.raises(ValueError, match="width_px"):
        boundary_iou(square, square, None, 0)


@quick
@given(seeds, st.integers(1, 4))
def test_boundary_iou_equals_a_distance_transform(seed: int, width: int) -> None:
    blobs, kernel = _masks(seed, (20, 24)), np.ones((5, 5), np.uint8)
    truth, prediction = (
        np.asarray(cv2.dilate(mask.astype(np.uint8), kernel), np.uint8)
        for mask in (blobs[0] & blobs[1], blobs[0] & blobs[2])
    )

    def near(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
        distance = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_C, 3)[1:-1, 1:-1]
        return np.asarray((distance > 0) & (distance <= width))

    expected = ((near(truth) & near(prediction)).sum(), (near(truth) | near(prediction)).sum())
    counts = boundary_iou(truth, prediction, None, width)
    assert (counts.intersection, counts.union) == expected


@quick
@given(seeds, st.sampled_from([10, 20, 200]))
def test_calibration_error_equals_torchmetrics(seed: int, bins: int) -> None:
    truth, _, valid = _masks(seed)
    probability = np.random.default_rng(seed).uniform(0.5, 1, truth.shape).astype(np.float32)
    # Above one half, the oracle's confidence and accuracy are our probability and frequency.
    oracle = BinaryCalibrationError(n_bins=bins, norm="l1", ignore_index=255)
    target = torch.from_numpy(np.where(valid, truth, 255).astype(np.int64))
    expected = float(oracle(torch.from_numpy(probability), target))
    counts = CalibrationBins.of(probability, truth, valid, bins=bins)
    assert counts.expected_calibration_error == pytest.approx(expected, abs=1e-5)


def test_reliability_of_a_hand_made_map() -> None:
    probability = np.array([[0.1, 0.2, 0.9, 1.0]])
    counts = CalibrationBins.of(probability, np.array([[0, 1, 1, 1]]), bins=2)
    mean, share = counts.reliability()
    np.testing.assert_allclose(mean, [0.15, 0.95])
    np.testing.assert_allclose(share, [0.5, 1.0])
    assert counts.expected_calibration_error == pytest.approx((0.7 + 0.1) / 4)
    assert np.isnan(CalibrationBins.of(probability, probability > 0, bins=20).reliability()[0][5])
    with pytest.raises(ValueError, match="different bins"):
        counts + CalibrationBins.of(probability, probability > 0, bins=1)


@quick
@given(seeds, st.sampled_from([np.float32, np.float64]))
def test_threshold_scores_are_the_scores_of_thresholded_maps(
    seed: int, dtype: type[np.floating[Any]]
) -> None:
    truth, _, valid = _masks(seed)
    truth[valid.argmax() // 17, valid.argmax() % 17] = True
    # Values on the edges of the bins themselves, where rounding would show.
    percent = np.random.default_rng(seed).integers(0, 101, truth.shape)
    probability = np.asarray(percent / 100, dtype=dtype)
    counts = CalibrationBins.of(probability, truth, valid, bins=100)
    thresholds, scores = counts.threshold_scores()
    for threshold, score in zip(thresholds, scores, strict=True):
        positive = probability >= dtype(threshold)
        both, either = positive & truth & valid, (positive | truth) & valid
        expected = both.sum() / either.sum()
        assert score == pytest.approx(expected, abs=1e-12)
    assert scores[thresholds == counts.best_threshold()].item() == scores.max()


def test_merged_bins_are_those_of_a_coarser_count() -> None:
    rng = np.random.default_rng(3)
    # Probabilities on the edges themselves are where the two could disagree.
    probability = np.concatenate([rng.random(500), np.arange(201) / 200]).astype(np.float32)
    truth = rng.random(probability.shape) < probability
    fine = CalibrationBins.of(probability, truth, bins=200).merged(20)
    coarse = CalibrationBins.of(probability, truth, bins=20)
    np.testing.assert_array_equal(fine.pixels, coarse.pixels)
    np.testing.assert_array_equal(fine.buildings, coarse.buildings)
    np.testing.assert_allclose(fine.probability_sums, coarse.probability_sums)


def test_best_threshold_separates_and_prefers_the_middle() -> None:
    probability = np.array([0.1, 0.2, 0.8, 0.9])
    assert CalibrationBins.of(probability, probability > 0.5, bins=200).best_threshold() == 0.5
    assert CalibrationBins.of(probability, probability > 0.1, bins=200).best_threshold() == 0.2
    assert np.isnan(CalibrationBins.of(probability, probability > 1).best_threshold())


def test_import_is_light() -> None:
    code = (
        "import sys, rhm.training.metrics; print(sorted({'torch', 'geopandas'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
