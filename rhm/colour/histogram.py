"""A histogram: how often each value occurs in each band of imagery.

A histogram is an immutable value. It is counted from an image, merged with those of other images,
and then gives distributions and distances. Values are counted by level (``rhm.colour.levels``):
every integer separately, floats in bins of half precision.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rhm.colour.levels import levels_of, to_levels, values_of

OPENCV_CHANNELS = 128
"""Largest number of channels that OpenCV 5 accepts in an image."""

# cv2.calcHist returns float32, which holds exact integers only up to this number.
_EXACT_FLOAT32 = 1 << 24


def valid_pixels(
    image: NDArray[Any], nodata: float | None = None, given: NDArray[Any] | None = None
) -> NDArray[np.bool_] | None:
    """Return where ``image`` has valid pixels.

    Pixels of float imagery are invalid if one of their bands is not finite.

    Args:
        image: (H, W) or (H, W, C) pixels.
        nodata: value of pixels that are invalid if all their bands have it. As in a dataset mask,
            a bright pixel with a legitimate zero in one band is valid.
        given: (H, W) validity; pixels where it is zero or False are invalid.

    Returns:
        (H, W) bool, or None if no rule applies and all pixels are valid.

    Raises:
        ValueError: ``given`` does not have the height and width of the image.
    """
    if given is not None and given.shape != image.shape[:2]:
        raise ValueError(
            f"valid must have the shape of the image, {image.shape[:2]}, got {given.shape}"
        )
    rules: list[NDArray[np.bool_]] = [] if given is None else [given.astype(np.bool_)]
    bands = image[..., None] if image.ndim == 2 else image
    if nodata is not None:
        rules.append(np.any(bands != nodata, axis=-1))
    if image.dtype.kind == "f":
        rules.append(np.all(np.isfinite(bands), axis=-1))
    return np.asarray(np.logical_and.reduce(rules)) if rules else None


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of values per band.

    Attributes:
        counts: (bands, L) int64 counts with the same sum in every band; ``counts[b, i]`` is the
            number of pixels at level ``first + i`` in band b. 8-bit histograms have all 256
            levels. Others begin and end at a level that is present, so that those of 11-bit
            imagery are small.
        dtype: dtype of the imagery, one of ``rhm.colour.levels.DTYPES``.
        first: level of the first column.
    """

    counts: NDArray[np.int64]
    dtype: np.dtype[Any]
    first: int = 0

    def __post_init__(self) -> None:
        counts = np.array(self.counts, dtype=np.int64, order="C")
        levels, first = levels_of(self.dtype), int(self.first)
        if counts.ndim != 2 or not counts.size or not 0 <= first <= levels - counts.shape[1]:
            raise ValueError(
                f"counts of shape {counts.shape} that begin at level {first} are not a histogram "
                f"of {self.dtype}"
            )
        if levels == 256 and counts.shape[1] != 256:
            raise ValueError(f"a uint8 histogram must have 256 levels, got {counts.shape[1]}")
        totals = counts.sum(axis=1)
        if (counts < 0).any() or (totals != totals[0]).any():
            raise ValueError("counts must be at least 0 and have the same sum in every band")
        if levels > 256:
            present = np.flatnonzero(counts.any(axis=0))
            lowest, highest = (present[0], present[-1]) if present.size else (0, 0)
            counts = np.ascontiguousarray(counts[:, lowest : highest + 1])
            first += int(lowest)
        counts.flags.writeable = False
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        object.__setattr__(self, "first", first)

    @classmethod
    def of(
        cls,
        image: NDArray[Any],
        nodata: float | None = None,
        *,
        valid: NDArray[Any] | None = None,
    ) -> "Histogram":
        """Count the values of ``image``.

        Pixels of float imagery are not counted if one of their bands is not finite.

        Args:
            image: (H, W) or (H, W, C) pixels of one of ``rhm.colour.levels.DTYPES``.
            nodata: value of pixels that are not counted if all their bands have it.
            valid: (H, W) validity; pixels where it is zero or False are not counted.

        Raises:
            TypeError: the image has another dtype, or is a masked array.
            ValueError: the image does not have two or three dimensions, or has no bands, or
                ``valid`` does not have its height and width.
        """
        levels_of(image.dtype)
        if image.ndim not in (2, 3) or 0 in image.shape[2:]:
            raise ValueError(f"expected an image (H, W) or (H, W, C), got shape {image.shape}")
        known = valid_pixels(image, nodata, valid)
        bands = to_levels(image[..., None] if image.ndim == 2 else image)
        if bands.dtype == np.uint8:
            first, last = 0, 255
        else:
            first, last = (int(bands.min()), int(bands.max())) if bands.size else (0, 0)
        return cls(_count(bands, known, first, last), image.dtype, first)

    @property
    def bands(self) -> int:
        """The number of bands."""
        return int(self.counts.shape[0])

    @property
    def pixels(self) -> int:
        """The number of pixels counted."""
        return int(self.counts[0].sum())

    def merge(self, other: "Histogram") -> "Histogram":
        """Return the histogram of the pixels of both.

        Raises:
            ValueError: the histograms differ in dtype or number of bands.
        """
        ours, theirs = _aligned(self, other)
        return Histogram(ours + theirs, self.dtype, min(self.first, other.first))

    def distribution(self) -> NDArray[np.float64]:
        """Return the share of pixels at each level, (bands, L); zeros if no pixel was counted."""
        return np.asarray(self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1))

    @property
    def values(self) -> NDArray[Any]:
        """The value of each column of ``counts``, (L,) in the dtype of the imagery, rising."""
        return values_of(self.dtype)[self.first : self.first + self.counts.shape[1]]

    @cached_property
    def steps(self) -> tuple[tuple[NDArray[Any], NDArray[np.float64]], ...]:
        """The present values of each band, rising, and their cumulative shares."""
        present = [np.flatnonzero(counts) for counts in self.counts]
        return tuple(
            (self.values[at], np.cumsum(counts[at]) / max(self.pixels, 1))
            for at, counts in zip(present, self.counts, strict=True)
        )

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean and standard deviation of each band, (bands,) float64 in value units."""
        values = self.values.astype(np.float64)
        shares = self.distribution()
        mean = shares @ values
        variance = (shares * (values - mean[:, None]) ** 2).sum(axis=1)
        return mean, np.sqrt(variance)

    def pool_bands(self) -> "Histogram":
        """Return the histogram of all bands together, repeated for every band."""
        together = self.counts.sum(axis=0)
        return Histogram(np.tile(together, (self.bands, 1)), self.dtype, self.first)

    def quantile(self, share: ArrayLike) -> NDArray[Any]:
        """Return the lowest value in each band whose cumulative share reaches ``share``.

        Args:
            share: share in [0, 1], or (Q,) shares; for 0, the lowest value that is present.

        Returns:
            (bands,) or (bands, Q) quantiles in the dtype of the imagery; the value of the first
            level if no pixel was counted.
        """
        cumulative = np.cumsum(self.distribution(), axis=1)
        # Rounding may leave the last cumulative share just below 1.
        wanted = np.minimum(np.asarray(share, dtype=np.float64), cumulative[:, -1].max())
        # Levels below the lowest value of a band reach no share above zero.
        least = np.finfo(np.float64).tiny if self.pixels else 0.0
        found = [np.searchsorted(band, np.maximum(wanted - 1e-12, least)) for band in cumulative]
        return np.asarray(self.values[np.minimum(np.stack(found), self.counts.shape[1] - 1)])

    def distance(self, other: "Histogram") -> NDArray[np.float64]:
        """Return the 1-Wasserstein distance of each band, (bands,) float64 in value units.

        Raises:
            ValueError: the histograms differ in dtype or number of bands, or one has no pixels.
        """
        if not (self.pixels and other.pixels):
            raise ValueError("a histogram without pixels has no distance to another")
        ours, theirs = _aligned(self, other)
        gaps = _gaps(ours / self.pixels, theirs / other.pixels)[:, :-1]
        first = min(self.first, other.first)
        values = values_of(self.dtype)[first : first + ours.shape[1]].astype(np.float64)
        return np.asarray(gaps @ np.diff(values))


def share_distance(
    first: ArrayLike, second: ArrayLike, *, with_rest: bool = False
) -> NDArray[np.float64]:
    """Return the 1-Wasserstein distance between shares of evenly spaced levels.

    Args:
        first: (..., levels) share of pixels at each level from black to white.
        second: shares of the other imagery, of the same shape.
        with_rest: whether to add the difference of the two sums, which rounding may have moved
            away from 1, as the distances in stored scores do.

    Returns:
        (...) distances, as a fraction of the range from black to white.

    Raises:
        ValueError: the arrays differ in shape.
    """
    ours, theirs = (np.asarray(shares, dtype=np.float64) for shares in (first, second))
    if ours.shape != theirs.shape:
        raise ValueError(f"shares must have the same shape, got {ours.shape} and {theirs.shape}")
    gaps, last = _gaps(ours, theirs), ours.shape[-1] - 1
    return np.asarray((gaps if with_rest else gaps[..., :last]).sum(axis=-1) / last)


def _gaps(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the difference of two cumulative distributions at each level.

    The 1-Wasserstein distance in one dimension is the area between the two: the sum of these
    differences, weighted by the step from each level to the next.
    """
    return np.abs(np.cumsum(first - second, axis=-1))


def _count(
    levels: NDArray[Any], valid: NDArray[np.bool_] | None, first: int, last: int
) -> NDArray[np.int64]:
    """Return the counts (C, last - first + 1) of the levels ``first`` to ``last`` in (H, W, C)."""
    width = last - first + 1
    counts = np.zeros((levels.shape[-1], width), dtype=np.int64)
    pixels = np.ascontiguousarray(levels).reshape(-1, levels.shape[-1])
    if pixels.shape[1] > OPENCV_CHANNELS:
        selected = pixels if valid is None else pixels[valid.reshape(-1)]
        for band, column in enumerate(selected.T):
            counts[band] = np.bincount(column, minlength=last + 1)[first : last + 1]
        return counts
    # One long row, because OpenCV has a fixed cost for each row of an image.
    mask = None if valid is None else valid.astype(np.uint8).reshape(1, -1)
    for start in range(0, len(pixels), _EXACT_FLOAT32):
        part = pixels[None, start : start + _EXACT_FLOAT32]
        inside = None if mask is None else mask[:, start : start + _EXACT_FLOAT32]
        # OpenCV reads interleaved bytes as fast as planes, but interleaved uint16 much slower.
        planes = cv2.split(part) if part.dtype == np.uint16 else [part] * part.shape[-1]
        for band, plane in enumerate(planes):
            channel = 0 if part.dtype == np.uint16 else band
            counted = cv2.calcHist([plane], [channel], inside, [width], [first, last + 1])
            np.add(counts[band], counted.reshape(-1), out=counts[band], casting="unsafe")
    return counts


def _aligned(one: Histogram, other: Histogram) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the counts of both histograms on a common range of levels."""
    if one.dtype != other.dtype or one.bands != other.bands:
        raise ValueError(
            f"a histogram of {one.bands} x {one.dtype} cannot be combined with one of "
            f"{other.bands} x {other.dtype}"
        )
    first = min(one.first, other.first)
    last = max(h.first + h.counts.shape[1] for h in (one, other))
    ours, theirs = (
        np.pad(h.counts, ((0, 0), (h.first - first, last - h.first - h.counts.shape[1])))
        for h in (one, other)
    )
    return ours, theirs
