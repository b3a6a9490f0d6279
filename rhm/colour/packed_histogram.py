"""Packed histograms: what a bank keeps of the colours of each image, and their stored form.

A packed histogram consists of the present levels of each band and their counts. Up to 11 bits it
keeps all of them, and beyond that the levels at evenly spaced quantiles, between which matching
interpolates. The entries of a bank are stored together as a few plain arrays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rhm.colour.histogram import Histogram
from rhm.colour.levels import DTYPES, levels_of

EXACT_LEVELS = 2048
"""Largest number of present levels that a band keeps exactly; 11-bit imagery has no more."""

QUANTILES = 512
"""Number of evenly spaced cumulative shares at which a band with more levels keeps them."""

# Sums over tens of thousands of entries of this size still fit into 64 bits.
_MOST_PIXELS = 1 << 48


@dataclass(frozen=True, eq=False)
class PackedHistogram:
    """The present levels of a histogram and their counts.

    Attributes:
        dtype: dtype of the imagery.
        levels: for each band, (P,) uint16 numbers of the present levels, rising.
        counts: for each band, (P,) uint32 counts of at least 1, with the same sum in every band;
            int64 where a count is larger. Both may be given as other integers.

    Raises:
        ValueError: the levels or counts violate these rules.
        TypeError: the dtype is not supported.
    """

    dtype: np.dtype[Any]
    levels: tuple[NDArray[Any], ...]
    counts: tuple[NDArray[Any], ...]

    def __post_init__(self) -> None:
        limit = levels_of(self.dtype)
        if not self.levels or len(self.levels) != len(self.counts):
            raise ValueError("an entry must have levels and counts for the same bands")
        for levels, counts in zip(self.levels, self.counts, strict=True):
            if not levels.size or levels.shape != counts.shape:
                raise ValueError("an entry must have one count for each level, and at least one")
            # The differences alone do not suffice: beyond the range of levels they may overflow.
            if levels.min() < 0 or levels.max() >= limit or (levels[1:] <= levels[:-1]).any():
                raise ValueError(f"an entry must have rising levels of {self.dtype}")
            if counts.min() < 1 or counts.sum(dtype=np.float64) > _MOST_PIXELS:
                raise ValueError(f"an entry must have counts between 1 and {_MOST_PIXELS}")
        if len({int(counts.sum()) for counts in self.counts}) > 1:
            raise ValueError("an entry must have the same number of pixels in every band")
        # A bank may have tens of thousands of entries, each with thousands of levels in memory.
        object.__setattr__(self, "levels", tuple(each.astype(np.uint16) for each in self.levels))
        object.__setattr__(self, "counts", tuple(map(_narrowed, self.counts)))

    @classmethod
    def of(cls, histogram: Histogram) -> Self:
        """Pack a histogram of at least one pixel.

        A band with more than ``EXACT_LEVELS`` present levels keeps its lowest and its highest
        level, and those at ``QUANTILES`` evenly spaced cumulative shares. A kept level takes over
        the pixels of the omitted levels below it. The cumulative share is therefore exact at
        every kept level, and elsewhere too low by less than ``1 / QUANTILES``.

        Raises:
            ValueError: the histogram has no pixels.
        """
        if not histogram.pixels:
            raise ValueError("an entry must have at least one valid pixel")
        levels, counts = [], []
        for of_band in histogram.counts:
            present = np.flatnonzero(of_band)
            reached = np.cumsum(of_band[present])
            if present.size > EXACT_LEVELS:
                wanted = np.arange(1, QUANTILES) * (reached[-1] / QUANTILES)
                kept = np.unique([0, *np.searchsorted(reached, wanted), present.size - 1])
                present, reached = present[kept], reached[kept]
            levels.append(present + histogram.first)
            counts.append(np.diff(reached, prepend=0))
        return cls(histogram.dtype, tuple(levels), tuple(counts))

    @property
    def bands(self) -> int:
        """Number of bands."""
        return len(self.levels)

    @property
    def unpacked_bytes(self) -> int:
        """Approximate memory of the unpacked histogram, including its cached properties."""
        first = min(int(of_band[0]) for of_band in self.levels)
        last = max(int(of_band[-1]) for of_band in self.levels)
        present = sum(of_band.size for of_band in self.levels)
        return 8 * max(last - first + 1, 256) * self.bands + 16 * present

    def negative(self) -> NDArray[np.bool_]:
        """Return which bands have a negative mean, (bands,) bool."""
        if self.dtype.kind == "u":
            return np.zeros(self.bands, dtype=bool)
        return np.asarray(self.unpack().moments()[0] < 0.0)

    def unpack(self) -> Histogram:
        """Return the histogram."""
        return pool([self])


def _narrowed(counts: NDArray[Any]) -> NDArray[Any]:
    return counts.astype(np.uint32 if counts.max() <= np.iinfo(np.uint32).max else np.int64)


def pool(entries: Sequence[PackedHistogram]) -> Histogram:
    """Return the histogram of all pixels of entries that share dtype and number of bands."""
    dtype, bands = entries[0].dtype, entries[0].bands
    first, last = 0, 255
    if levels_of(dtype) > 256:
        first = min(int(levels[0]) for entry in entries for levels in entry.levels)
        last = max(int(levels[-1]) for entry in entries for levels in entry.levels)
    pooled = np.zeros((bands, last - first + 1), dtype=np.int64)
    for entry in entries:
        for band, (levels, counts) in enumerate(zip(entry.levels, entry.counts, strict=True)):
            pooled[band, levels - first] += counts
    return Histogram(pooled, dtype, first)


def to_arrays(entries: Sequence[PackedHistogram]) -> dict[str, NDArray[Any]]:
    """Return entries with the same number of bands as a few arrays, which compress well.

    Returns:
        ``dtypes``: name of the dtype of each entry; ``sizes``: number of levels of each band of
        each entry; ``steps``: first of these levels, then the differences from level to level;
        ``counts``: counts of the levels.
    """
    levels = [of_band for entry in entries for of_band in entry.levels]
    counts = np.concatenate([of_band for entry in entries for of_band in entry.counts])
    steps = np.concatenate([np.diff(of_band, prepend=0) for of_band in levels])
    return {
        "dtypes": np.array([entry.dtype.name for entry in entries]),
        "sizes": np.array([of_band.size for of_band in levels]),
        "steps": steps.astype(np.uint16),
        "counts": counts.astype(np.min_scalar_type(int(counts.max()))),
    }


def from_arrays(arrays: Mapping[str, NDArray[Any]], bands: int) -> list[PackedHistogram]:
    """Read the entries that ``to_arrays`` returned as arrays.

    Raises:
        ValueError: the arrays contradict each other, or do not describe histograms.
    """
    sizes, steps, counts = (arrays[name].astype(np.int64) for name in ("sizes", "steps", "counts"))
    dtypes = [_dtype(name) for name in arrays["dtypes"].tolist()]
    if bands < 1 or sizes.size != bands * len(dtypes) or (sizes < 1).any():
        raise ValueError(f"its sizes do not belong to {len(dtypes)} images of {bands} bands")
    if not sizes.sum() == steps.size == counts.size:
        raise ValueError("its levels, counts and sizes contradict each other")
    ends = np.cumsum(sizes)[:-1]
    levels_by_band = [np.cumsum(of_band) for of_band in np.split(steps, ends)]
    counts_by_band = np.split(counts, ends)
    return [
        PackedHistogram(
            dtype,
            tuple(levels_by_band[entry * bands : (entry + 1) * bands]),
            tuple(counts_by_band[entry * bands : (entry + 1) * bands]),
        )
        for entry, dtype in enumerate(dtypes)
    ]


def _dtype(name: str) -> np.dtype[Any]:
    for dtype in DTYPES:
        if dtype.name == name:
            return dtype
    raise ValueError(f"it has an entry of dtype {name!r}, not of {', '.join(map(str, DTYPES))}")
