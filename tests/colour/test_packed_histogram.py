"""Laws of packed histograms and of their arrays; oracle: the histogram before packing."""

import json
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from rhm.colour.bank_file import from_json, read_archive, to_json, write_archive
from rhm.colour.histogram import Histogram
from rhm.colour.levels import DTYPES, levels_of, to_levels, values_of
from rhm.colour.packed_histogram import (
    EXACT_LEVELS,
    QUANTILES,
    PackedHistogram,
    from_arrays,
    pool,
    to_arrays,
)

Image = NDArray[Any]

Draw = Callable[[np.random.Generator, int], Image]

FULL_RANGE: dict[str, Draw] = {
    "uniform uint16": lambda rng, n: rng.integers(0, 65536, n).astype(np.uint16),
    "normal int16": lambda rng, n: rng.normal(0, 9000, n).clip(-32768, 32767).astype(np.int16),
    "reflectance float32": lambda rng, n: rng.beta(2, 7, n).astype(np.float32),
    "signed float32": lambda rng, n: (rng.normal(0, 1, n) ** 5).astype(np.float32),
    "mostly one value": lambda rng, n: (
        rng.integers(0, 65536, n) * (rng.random(n) < 0.3) + 500
    ).astype(np.uint16),
    "one level too many": lambda rng, n: np.arange(EXACT_LEVELS + 1, dtype=np.uint16).repeat(3),
}


@st.composite
def images(draw: st.DrawFn, *, bands: int = 2, dtype: np.dtype[Any] | None = None) -> Image:
    """Small images (H, W, bands) of any type."""
    dtype = dtype or draw(st.sampled_from(DTYPES))
    low, high = draw(st.sampled_from([(0, 255), (0, 3), (0, levels_of(dtype) - 1), (100, 102)]))
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 9)), bands)
    drawn = draw(arrays(np.int64, shape, elements=st.integers(low, min(high, 65535))))
    values = values_of(dtype)
    return np.asarray(values[drawn.clip(0, len(values) - 1)])


def assert_same(one: Histogram, other: Histogram) -> None:
    assert one.dtype == other.dtype
    assert one.first == other.first
    np.testing.assert_array_equal(one.counts, other.counts, strict=True)


def assert_packed_alike(one: PackedHistogram, other: PackedHistogram) -> None:
    assert one.dtype == other.dtype
    for name in ("levels", "counts"):
        for mine, its in zip(getattr(one, name), getattr(other, name), strict=True):
            np.testing.assert_array_equal(mine, its, strict=True)


@given(images())
def test_unpacking_gives_back_what_was_packed(image: Image) -> None:
    histogram = Histogram.of(image)
    packed = PackedHistogram.of(histogram)
    assert packed.bands == histogram.bands
    assert_same(packed.unpack(), histogram)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_as_many_levels_as_11_bits_have_are_exact(dtype: str) -> None:
    levels = np.arange(EXACT_LEVELS) * 13 + 20_000
    image = values_of(dtype)[levels].repeat(np.arange(1, EXACT_LEVELS + 1) % 5 + 1)[None]
    histogram = Histogram.of(image)
    assert np.count_nonzero(histogram.counts) == EXACT_LEVELS
    assert_same(PackedHistogram.of(histogram).unpack(), histogram)


@pytest.mark.parametrize("kind", FULL_RANGE)
@pytest.mark.parametrize("seed", [0, 1])
def test_thinning_moves_no_cumulative_share_by_a_quantile(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    histogram = Histogram.of(FULL_RANGE[kind](rng, 120_000)[None])
    packed = PackedHistogram.of(histogram)
    thinned = packed.unpack()
    (kept,) = packed.levels
    assert kept.size <= QUANTILES + 1 < EXACT_LEVELS < np.count_nonzero(histogram.counts)
    assert thinned.pixels == histogram.pixels
    assert (thinned.first, thinned.counts.shape) == (histogram.first, histogram.counts.shape)
    exact, reached = (np.cumsum(each.counts[0]) for each in (histogram, thinned))
    np.testing.assert_array_equal(reached[kept - thinned.first], exact[kept - thinned.first])
    short = (exact - reached) * QUANTILES
    assert short.min() >= 0
    assert short.max() < histogram.pixels
    # Hence the distance that thinning covers: at most a quantile's share of the range.
    span = np.ptp(histogram.values.astype(np.float64))
    assert 0.0 < thinned.distance(histogram)[0] < span / QUANTILES


def test_bands_are_thinned_one_by_one() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 65536, (200, 200, 2)).astype(np.uint16)
    image[..., 1] //= 64
    packed = PackedHistogram.of(Histogram.of(image))
    assert packed.levels[0].size <= QUANTILES + 1
    np.testing.assert_array_equal(packed.levels[1], np.unique(image[..., 1]))


@given(st.data())
def test_pooling_is_merging(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    parts = data.draw(st.lists(images(dtype=dtype), min_size=1, max_size=4))
    histograms = [Histogram.of(part) for part in parts]
    pooled = pool([PackedHistogram.of(histogram) for histogram in histograms])
    assert_same(pooled, reduce(Histogram.merge, histograms))


@given(st.lists(images(), min_size=1, max_size=4))
def test_entries_survive_their_arrays(parts: list[Image]) -> None:
    entries = [PackedHistogram.of(Histogram.of(part)) for part in parts]
    for one, other in zip(from_arrays(to_arrays(entries), 2), entries, strict=True):
        assert_packed_alike(one, other)


def test_arrays_survive_an_archive_and_json(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kinds = ((256, np.uint8), (2048, np.uint16), (65536, np.uint16))
    parts = [rng.integers(0, high, (80, 90, 3)).astype(dtype) for high, dtype in kinds]
    entries = [PackedHistogram.of(Histogram.of(part)) for part in parts]
    stored = to_arrays(entries) | {
        "bands": np.array(3),
        "names": np.array(["a", "Łódź/東京", "c\x1b"]),
        "weights": np.array([1 / 3, 1.0, 0.0]),
    }
    write_archive(tmp_path / "archive", stored, {"for": "people"})
    for read in (read_archive(tmp_path / "archive"), from_json(to_json(stored))):
        assert set(read) == set(stored)
        for name, array in stored.items():
            np.testing.assert_array_equal(read[name], array)
        for one, other in zip(from_arrays(read, 3), entries, strict=True):
            assert_packed_alike(one, other)
    assert json.loads(json.dumps(to_json(stored))) == to_json(stored)


def packed(
    levels: list[int], counts: list[int], *, dtype: type = np.uint16, others: int = 0
) -> PackedHistogram:
    """One band, and as many more of five pixels of level 7."""
    more = [np.array([each], dtype=np.int64) for each in (7, 5)]
    return PackedHistogram(
        np.dtype(dtype),
        (np.array(levels, dtype=np.int64), *[more[0]] * others),
        (np.array(counts, dtype=np.int64), *[more[1]] * others),
    )


@pytest.mark.parametrize(
    ("levels", "counts"),
    [
        ([], []),
        ([3], []),
        ([3, 4], [5]),
        ([4, 3], [5, 5]),
        ([3, 3], [5, 5]),
        ([-1, 3], [5, 5]),
        ([3, 65536], [5, 5]),
        ([3, 1 << 62, -(1 << 63), -(1 << 61), 9], [1, 1, 1, 1, 1]),
        ([3, 4], [5, 0]),
        ([3, 4], [6, -1]),
        ([3, 4], [1 << 62, 1 << 62]),
        ([3], [1 << 60]),
    ],
)
def test_what_is_no_packed_histogram_is_refused(levels: list[int], counts: list[int]) -> None:
    with pytest.raises(ValueError, match=r"^an entry "):
        packed(levels, counts)


def test_bands_of_unequal_pixels_are_refused() -> None:
    assert packed([3, 4], [2, 3], others=2).bands == 3
    with pytest.raises(ValueError, match="same number of pixels in every band"):
        packed([3, 4], [2, 4], others=1)
    with pytest.raises(ValueError, match="must have rising levels of uint8"):
        packed([3, 256], [2, 3], dtype=np.uint8)
    with pytest.raises(TypeError, match="got float64"):
        packed([3], [2], dtype=np.float64)
    with pytest.raises(ValueError, match="for the same bands"):
        PackedHistogram(np.dtype(np.uint8), (), ())


def test_what_counted_nothing_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="at least one valid pixel"):
        PackedHistogram.of(Histogram(np.zeros((1, 256), dtype=np.int64), np.dtype(np.uint8)))


def test_levels_are_those_of_the_values() -> None:
    image = np.array([[-3.0, 0.25, 0.25, 7.0]], dtype=np.float32)
    (levels,) = PackedHistogram.of(Histogram.of(image)).levels
    np.testing.assert_array_equal(levels, np.unique(to_levels(image)))


def test_entries_are_small_in_memory_and_count_what_no_32_bits_hold() -> None:
    image = np.random.default_rng(0).integers(0, 2048, (96, 96, 2)).astype(np.uint16)
    packed = PackedHistogram.of(Histogram.of(image))
    assert {each.dtype for each in packed.levels} == {np.dtype(np.uint16)}
    assert {each.dtype for each in packed.counts} == {np.dtype(np.uint32)}
    for most, dtype in ((2**32 - 1, np.uint32), (2**32, np.int64)):
        levels = np.array([3, 65535])
        entry = PackedHistogram(np.dtype(np.uint16), (levels,), (np.array([most, 1]),))
        assert entry.counts[0].dtype == dtype
        (again,) = from_arrays(to_arrays([entry]), 1)
        assert pool([entry, again]).counts.sum() == 2 * (most + 1)
        assert pool([entry]).first == 3
