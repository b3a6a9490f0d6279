"""A histogram: how often each value occurs in each band of imagery.

Histograms are values: made of an image, merged over images, and then asked for distributions
and distances. Values are counted by their levels (``rhm.colour.levels``): every integer by itself,
floats in bins of half precision.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rhm.colour.levels import levels_of, to_levels, values_of

OPENCV_CHANNELS = 128
"""Arrays of more channels are no images to OpenCV 5."""

# cv2.calcHist answers in float32, which counts exactly only up to here.
_EXACT_FLOAT32 = 1 << 24


def valid_pixels(
    image: NDArray[Any], nodata: float | None = None, given: NDArray[Any] | None = None
) -> NDArray[np.bool_] | None:
    """Return where ``image`` has data, (H, W) bool, or None where nothing says that it lacks any.

    Args:
        image: (H, W) or (H, W, C).
        nodata: pixels all of whose bands equal this have no data: the dataset mask's rule, so
            that a legitimate zero in one band of a bright pixel is data.
        given: (H, W); pixels where it is zero or False have no data.

    Floats that are no finite numbers are no data in any band.

    Raises:
        ValueError: ``given`` is not of the image's height and width.
    """
    if given is not None and given.shape != image.shape[:2]:
        raise ValueError(f"valid of shape {given.shape} is not of the image {image.shape}")
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
        counts: (bands, L) int64, as many pixels in one band as in another; ``counts[b, i]`` is
            of level ``first + i``. 8-bit histograms have all 256 levels; those of other types
            begin and end at a level that is present, so that 11-bit imagery stays small.
        dtype: the imagery's type, one of ``rhm.colour.levels.DTYPES``.
        first: level of the first column.
    """

    counts: NDArray[np.int64]
    dtype: np.dtype[Any]
    first: int = 0

    def __post_init__(self) -> None:
        counts = np.array(self.counts, dtype=np.int64, order="C")
        levels, first = levels_of(self.dtype), int(self.first)
        if counts.ndim != 2 or not counts.size or not 0 <= first <= levels - counts.shape[1]:
            raise ValueError(f"not a histogram of {self.dtype}: counts of shape {counts.shape}")
        if levels == 256 and counts.shape[1] != 256:
            raise ValueError(f"not a histogram of uint8: {counts.shape[1]} levels are not 256")
        totals = counts.sum(axis=1)
        if (counts < 0).any() or (totals != totals[0]).any():
            raise ValueError("not a histogram: negative counts, or bands of unequal pixels")
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

        Args:
            image: (H, W) or (H, W, C), of one of ``rhm.colour.levels.DTYPES``.
            nodata: pixels all of whose bands equal this are not counted.
            valid: (H, W); pixels where it is zero or False are not counted; nor, in float
                imagery, those of which a band is no finite number.

        Raises:
            TypeError: the image is of another type.
            ValueError: the image has neither two nor three dimensions, or no band, or ``valid``
                is not of its height and width.
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
        """Return the histogram of both sets of pixels together.

        Raises:
            ValueError: the two differ in dtype or number of bands.
        """
        ours, theirs = _aligned(self, other)
        return Histogram(ours + theirs, self.dtype, min(self.first, other.first))

    def distribution(self) -> NDArray[np.float64]:
        """Return the share of each value, (bands, levels); zeros where nothing was counted."""
        return np.asarray(self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1))

    @property
    def values(self) -> NDArray[Any]:
        """The value of each column of ``counts``, (L,) of the imagery's type, rising."""
        return values_of(self.dtype)[self.first : self.first + self.counts.shape[1]]

    @cached_property
    def steps(self) -> tuple[tuple[NDArray[Any], NDArray[np.float64]], ...]:
        """Per band, the values that are present, rising, and their cumulative shares."""
        present = [np.flatnonzero(counts) for counts in self.counts]
        return tuple(
            (self.values[at], np.cumsum(counts[at]) / max(self.pixels, 1))
            for at, counts in zip(present, self.counts, strict=True)
        )

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return each band's mean and standard deviation, (bands,) float64, in value units."""
        values = self.values.astype(np.float64)
        shares = self.distribution()
        mean = shares @ values
        variance = (shares * (values - mean[:, None]) ** 2).sum(axis=1)
        return mean, np.sqrt(variance)

    def pool_bands(self) -> "Histogram":
        """Return the histogram of the values of all bands together, repeated in every band."""
        together = self.counts.sum(axis=0)
        return Histogram(np.tile(together, (self.bands, 1)), self.dtype, self.first)

    def quantile(self, share: ArrayLike) -> NDArray[Any]:
        """Return, per band, the lowest value whose cumulative share reaches ``share``.

        Args:
            share: one share in [0, 1] or an array (Q,) of them.

        Returns:
            (bands,) or (bands, Q), of the imagery's type; where nothing was counted, the value
            of the first level.
        """
        cumulative = np.cumsum(self.distribution(), axis=1)
        # Rounding may leave the last cumulative share just under 1.
        wanted = np.minimum(np.asarray(share, dtype=np.float64), cumulative[:, -1].max())
        found = [np.searchsorted(band, wanted - 1e-12) for band in cumulative]
        return np.asarray(self.values[np.minimum(np.stack(found), self.counts.shape[1] - 1)])

    def distance(self, other: "Histogram") -> NDArray[np.float64]:
        """Return the 1-Wasserstein distance per band, in value units, shape (bands,).

        Raises:
            ValueError: the two differ in dtype or number of bands, or one counted nothing.
        """
        if not (self.pixels and other.pixels):
            raise ValueError("no distance to a histogram that counted nothing")
        ours, theirs = _aligned(self, other)
        gaps = _gaps(ours / self.pixels, theirs / other.pixels)[:, :-1]
        first = min(self.first, other.first)
        values = values_of(self.dtype)[first : first + ours.shape[1]].astype(np.float64)
        return np.asarray(gaps @ np.diff(values))


def share_distance(
    first: ArrayLike, second: ArrayLike, *, with_rest: bool = False
) -> NDArray[np.float64]:
    """Return the 1-Wasserstein distance of shares of evenly spaced levels from black to white.

    Args:
        first: (..., levels) shares of each level.
        second: the same of the other imagery.
        with_rest: whether to add what rounding has left of the two sums of 1, as the distances
            do that scores store.

    Returns:
        (...), in shares of the range from black to white.

    Raises:
        ValueError: the two differ in shape.
    """
    ours, theirs = (np.asarray(shares, dtype=np.float64) for shares in (first, second))
    if ours.shape != theirs.shape:
        raise ValueError(f"no distance of shares {ours.shape} to shares {theirs.shape}")
    gaps, last = _gaps(ours, theirs), ours.shape[-1] - 1
    return np.asarray((gaps if with_rest else gaps[..., :last]).sum(axis=-1) / last)


def _gaps(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far two cumulative distributions lie apart from each level to the next.

    The 1-Wasserstein distance in one dimension is the area between the two: a sum of these, each
    as wide as the step from level to level.
    """
    return np.abs(np.cumsum(first - second, axis=-1))


def _count(
    levels: NDArray[Any], valid: NDArray[np.bool_] | None, first: int, last: int
) -> NDArray[np.int64]:
    """Count the levels ``first`` to ``last`` of (H, W, C) bands, (C, last - first + 1)."""
    width = last - first + 1
    counts = np.zeros((levels.shape[-1], width), dtype=np.int64)
    pixels = np.ascontiguousarray(levels).reshape(-1, levels.shape[-1])
    if pixels.shape[1] > OPENCV_CHANNELS:
        selected = pixels if valid is None else pixels[valid.reshape(-1)]
        for band, column in enumerate(selected.T):
            counts[band] = np.bincount(column, minlength=last + 1)[first : last + 1]
        return counts
    # One long row: OpenCV treats each row of an image at a cost of its own.
    mask = None if valid is None else valid.astype(np.uint8).reshape(1, -1)
    for start in range(0, len(pixels), _EXACT_FLOAT32):
        part = pixels[None, start : start + _EXACT_FLOAT32]
        inside = None if mask is None else mask[:, start : start + _EXACT_FLOAT32]
        # OpenCV walks interleaved bytes as fast as planes, and interleaved words much slower.
        planes = cv2.split(part) if part.dtype == np.uint16 else [part] * part.shape[-1]
        for band, plane in enumerate(planes):
            channel = 0 if part.dtype == np.uint16 else band
            counted = cv2.calcHist([plane], [channel], inside, [width], [first, last + 1])
            np.add(counts[band], counted.reshape(-1), out=counts[band], casting="unsafe")
    return counts


def _aligned(one: Histogram, other: Histogram) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return both histograms' counts on the levels from the lower first to the higher last."""
    if one.dtype != other.dtype or one.bands != other.bands:
        raise ValueError(
            f"histograms of {one.bands} x {one.dtype} and "
            f"{other.bands} x {other.dtype} do not go together"
        )
    first = min(one.first, other.first)
    last = max(each.first + each.counts.shape[1] for each in (one, other))
    ours, theirs = (
        np.pad(h.counts, ((0, 0), (h.first - first, last - h.first - h.counts.shape[1])))
        for h in (one, other)
    )
    return ours, theirs
