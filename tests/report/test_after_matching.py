"""Matching told by histograms alone, against matched images and SciPy's distance."""

import numpy as np
import pytest
from scipy.stats import wasserstein_distance
from skimage.exposure import match_histograms

from rhm.report.after_matching import distance, matched


def shares(image: np.ndarray) -> list[float]:
    return list(np.bincount(image.ravel(), minlength=256) / image.size)


def test_it_is_the_histogram_of_the_matched_image() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(90, 20, (256, 256)).clip(0, 255).astype(np.uint8)
    target = rng.gamma(4, 30, (512, 512)).clip(0, 255).astype(np.uint8)
    after = matched(shares(source), shares(target))
    expected = shares(match_histograms(source, target).astype(np.uint8))
    assert after == pytest.approx(expected, abs=1e-6)
    assert distance(after, shares(target)) < 0.1 * distance(shares(source), shares(target))


def test_the_distance_is_scipys() -> None:
    rng = np.random.default_rng(1)
    first, second = (rng.dirichlet(np.ones(256)).tolist() for _ in range(2))
    levels = np.arange(256) / 255
    assert distance(first, second) == pytest.approx(
        wasserstein_distance(levels, levels, first, second)
    )


def test_one_value_stays_one_value() -> None:
    flat = [0.0] * 256
    flat[10] = 1.0
    after = matched(flat, [1 / 256] * 256)
    assert max(after) == 1.0
