"""The expected IoU of a model."""

import numpy as np
import pytest

from rhm.models.expected_iou import ExpectedIoU, expected_iou, out_of_domain
from rhm.training.metrics import CalibrationBins


def test_the_expected_iou_is_what_drawing_truths_from_the_probabilities_gives() -> None:
    rng = np.random.default_rng(0)
    probability = np.rint(rng.beta(0.3, 0.9, (400, 500)) * 254).astype(np.float32) / np.float32(254)
    called = probability >= 0.4
    ratios = []
    for _ in range(20):
        truth = rng.random(probability.shape) < probability
        ratios.append((truth & called).sum() / (truth | called).sum())
    seen = ExpectedIoU(0.4)
    for rows in np.array_split(np.arange(400), 7):
        seen.add(probability[rows], np.ones((len(rows), 500), dtype=bool))
    assert seen.value == pytest.approx(np.mean(ratios), abs=3 * np.std(ratios))
    assert seen.building_share == pytest.approx(called.mean())
    parts = [ExpectedIoU(0.4), ExpectedIoU(0.4)]
    for part, half in zip(parts, np.array_split(probability, 2), strict=True):
        part.add(half, np.ones_like(half, dtype=bool))
    assert parts[0].merge(parts[1]).value == seen.value
    bins = CalibrationBins.of(probability, np.zeros_like(called), bins=200)
    assert bins.expected_iou(0.4) == pytest.approx(seen.value, abs=1e-3)


def test_pixels_without_data_do_not_count() -> None:
    probability = np.array([0.9, 0.9, np.nan, 0.1], dtype=np.float32)
    seen = ExpectedIoU(0.5)
    seen.add(probability, np.isfinite(probability))
    assert seen.pixels.sum() == 3
    assert seen.value == pytest.approx((0.9 + 0.9) / (2 + 0.1), abs=5e-3)


def test_where_no_building_is_promised_there_is_nothing_to_expect() -> None:
    seen = ExpectedIoU(0.5)
    assert seen.value is None
    seen.add(np.zeros((3, 3), np.float32), np.ones((3, 3), dtype=bool))
    assert seen.value is None
    assert expected_iou([5], [0.0], np.array([False])) is None


@pytest.mark.parametrize(
    ("home", "here", "expected"),
    [(0.8, 0.76, False), (0.8, 0.74, True), (None, 0.1, False), (0.8, None, False)],
)
def test_a_scene_is_out_of_domain_where_notably_less_is_expected(
    home: float | None, here: float | None, expected: bool
) -> None:
    assert out_of_domain(home, here) is expected


def counted(**pixels: int) -> ExpectedIoU:
    """The pixels that have a probability, as level=count."""
    found = ExpectedIoU(0.5)
    for level, count in pixels.items():
        found.pixels[int(level.removeprefix("level"))] = count
    return found


def test_of_thresholds_between_the_same_pixels_the_one_in_principle_is_chosen() -> None:
    sure = counted(level0=90_000, level254=10_000)
    assert sure.best_threshold() == pytest.approx(0.5, abs=0.004)
    nearly = counted(level0=90_000, level40=100, level250=10_000)
    highest = nearly.value
    assert highest is not None
    assert nearly.best_threshold() == pytest.approx(highest / (1 + highest), abs=0.004)


def test_the_best_threshold_is_never_above_one_half() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        scene = ExpectedIoU(0.5)
        levels = rng.integers(0, 255, rng.integers(1, 6))
        scene.pixels[levels] = rng.integers(1, 1000, len(levels))
        best = scene.best_threshold()
        assert best is None or best <= 0.5


def test_where_hardly_a_building_is_expected_no_threshold_is_implied() -> None:
    desert = counted(level1=1_000_000, level12=5000, level20=30)
    assert desert.best_threshold() is not None
    assert desert.implied_threshold() is None
    town = counted(level1=900_000, level120=20_000, level230=80_000)
    assert town.implied_threshold() == town.best_threshold()
