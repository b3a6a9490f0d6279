"""The one distance of histograms; oracles: SciPy's, and the formulas of what was stored before."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from rhm.colour.histogram import Histogram, share_distance
from rhm.colour.histogram_bank import HistogramBank
from rhm.models.spec import ModelSpec

LEVELS = np.arange(256) / 255


def drawn(seed: int, bands: int = 3) -> NDArray[np.float64]:
    return np.random.default_rng(seed).dirichlet(np.full(256, 0.3), bands)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_scipys_distance_of_each_band(seed: int) -> None:
    first, second = drawn(seed), drawn(seed + 100)
    expected = [
        wasserstein_distance(LEVELS, LEVELS, ours, theirs)
        for ours, theirs in zip(first, second, strict=True)
    ]
    found = share_distance(first, second)
    assert found.shape == (3,)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_array_equal(share_distance(second, first), found)
    one_by_one = [float(share_distance(*pair)) for pair in zip(first, second, strict=True)]
    assert one_by_one == found.tolist()


def test_it_is_the_distance_of_the_histograms_in_shares_of_the_range() -> None:
    rng = np.random.default_rng(1)
    images = [(rng.beta(a, 3, (40, 50, 3)) * 255).astype(np.uint8) for a in (1, 4)]
    first, second = map(Histogram.of, images)
    found = share_distance(first.distribution(), second.distribution())
    np.testing.assert_allclose(255.0 * found, first.distance(second), rtol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_stored_distances_are_the_same_to_the_last_bit(seed: int) -> None:
    # Descriptions keep six decimals, which add up to 1 but nearly.
    source, seen = drawn(seed).round(6), drawn(seed + 100)
    spec = ModelSpec("unet", "resnet18", 3, source_histograms={"town": source.tolist()})
    _, found = spec.source_distance(seen)
    before = np.abs(np.cumsum(source - seen, axis=1)).sum(axis=1) / 255.0
    np.testing.assert_array_equal(found, before, strict=True)
    for ours, theirs in zip(source, seen, strict=True):
        in_reports = np.abs(np.cumsum(ours - theirs)[:-1]).sum() / 255
        assert float(share_distance(ours.tolist(), theirs.tolist())) == in_reports


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_distances_in_value_units_are_the_same_to_the_last_bit(dtype: str) -> None:
    rng = np.random.default_rng(2)
    high = {"uint8": 255, "uint16": 1500}[dtype]
    images = [(rng.beta(a, 3, (40, 50, 3)) * high).astype(dtype) for a in (1, 4)]
    together = np.stack(images).astype(int)
    low, top = (0, 255) if dtype == "uint8" else (together.min(), together.max())
    counts = [
        [np.bincount(band.ravel() - low, minlength=top - low + 1) for band in image.T]
        for image in together
    ]
    shares = np.array(counts) / (40 * 50)
    steps = np.diff(np.arange(low, top + 1, dtype=np.float64))
    before = np.abs(np.cumsum(shares[0] - shares[1], axis=1)[:, :-1]) @ steps
    first, second = map(Histogram.of, images)
    np.testing.assert_array_equal(first.distance(second), before, strict=True)
    bank = HistogramBank([first])
    np.testing.assert_array_equal(bank.distance(second), before, strict=True)


def test_shares_of_another_shape_have_no_distance() -> None:
    with pytest.raises(ValueError, match=r"the same shape, got \(3, 256\) and \(1, 256\)"):
        share_distance(drawn(0), drawn(1, bands=1))
