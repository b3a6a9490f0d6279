"""Matching told by histograms alone, against matched images."""

import numpy as np
import pytest
from skimage.exposure import match_histograms

from rhm.colour.histogram import share_distance
from rhm.report.after_matching import matched


def shares(image: np.ndarray) -> list[float]:
    return list(np.bincount(image.ravel(), minlength=256) / image.size)


def test_it_is_the_histogram_of_the_matched_image() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(90, 20, (256, 256)).clip(0, 255).astype(np.uint8)
    target = rng.gamma(4, 30, (512, 512)).clip(0, 255).astype(np.uint8)
    after = matched(shares(source), shares(target))
    expected = shares(match_histograms(source, target).astype(np.uint8))
    assert after == pytest.approx(expected, abs=1e-6)
    before = share_distance(shares(source), shares(target))
    assert share_distance(after, shares(target)) < 0.1 * before


def test_one_value_stays_one_value() -> None:
    flat = [0.0] * 256
    flat[10] = 1.0
    after = matched(flat, [1 / 256] * 256)
    assert max(after) == 1.0
