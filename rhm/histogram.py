"""A histogram: how often each value occurs in each band of integer imagery.

Histograms are values: made of an image, merged over images, and then asked for distributions
and distances. Band ``b``'s count of value ``v`` is ``counts[b, v]``.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))
"""The integer types whose pixel-wise maps are lookup tables here."""

OPENCV_CHANNELS = 128
"""Arrays of more channels are no images to OpenCV 5."""

# cv2.calcHist answers in float32, which counts exactly only up to here.
_EXACT_FLOAT32 = 1 << 24


def levels_of(dtype: np.dtype[Any]) -> int:
    """Return the number of values that an image of ``dtype`` can take.

    Raises:
        TypeError: the type is neither uint8 nor uint16.
    """
    if np.dtype(dtype) not in DTYPES:
        raise TypeError(f"expected uint8 or uint16 imagery, got {np.dtype(dtype)}")
    return int(np.iinfo(dtype).max) + 1


def valid_pixels(
    image: NDArray[Any], nodata: float | None = None, given: NDArray[Any] | None = None
) -> NDArray[np.bool_] | None:
    """Return where ``image`` has data, (H, W) bool, or None where nothing says that it lacks any.

    Args:
        image: (H, W) or (H, W, C).
        nodata: pixels all of whose bands equal this have no data: the dataset mask's rule, so
            that a legitimate zero in one band of a bright pixel is data.
        given: (H, W); pixels where it is zero or False have no data.

    Raises:
        ValueError: ``given`` is not of the image's height and width.
    """
    if given is not None and given.shape != image.shape[:2]:
        raise ValueError(f"valid of shape {given.shape} is not of the image {image.shape}")
    known = None if given is None else given.astype(np.bool_)
    if nodata is None:
        return known
    differs: NDArray[np.bool_] = np.asarray(image != nodata)
    if image.ndim == 3:
        differs = np.asarray(differs.any(axis=-1))
    return differs if known is None else differs & known


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of values per band.

    Attributes:
        counts: (bands, levels) int64, as many pixels in one band as in another. Every uint8
            histogram has 256 levels; a uint16 histogram stops at its highest present value, so
            that 11-bit imagery stays small.
        dtype: the imagery's type, uint8 or uint16.
    """

    counts: NDArray[np.int64]
    dtype: np.dtype[Any]

    def __post_init__(self) -> None:
        counts = np.array(self.counts, dtype=np.int64, order="C")
        levels = levels_of(self.dtype)
        lowest_size = 256 if levels == 256 else 1
        if counts.ndim != 2 or not counts.size or not lowest_size <= counts.shape[1] <= levels:
            raise ValueError(f"not a histogram of {self.dtype}: counts of shape {counts.shape}")
        totals = counts.sum(axis=1)
        if (counts < 0).any() or (totals != totals[0]).any():
            raise ValueError("not a histogram: negative counts, or bands of unequal pixels")
        if levels > 256:
            highest = np.flatnonzero(counts.any(axis=0)).max(initial=0)
            counts = np.ascontiguousarray(counts[:, : highest + 1])
        counts.flags.writeable = False
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "dtype", np.dtype(self.dtype))

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
            image: (H, W) or (H, W, C), uint8 or uint16.
            nodata: pixels all of whose bands equal this are not counted.
            valid: (H, W); pixels where it is zero or False are not counted.

        Raises:
            TypeError: the image is neither uint8 nor uint16.
            ValueError: the image has neither two nor three dimensions, or no band, or ``valid``
                is not of its height and width.
        """
        levels = levels_of(image.dtype)
        if image.ndim not in (2, 3) or 0 in image.shape[2:]:
            raise ValueError(f"expected an image (H, W) or (H, W, C), got shape {image.shape}")
        known = valid_pixels(image, nodata, valid)
        bands = image[..., None] if image.ndim == 2 else image
        if levels == 256 and bands.shape[-1] <= OPENCV_CHANNELS:
            return cls(_count_bytes(bands, known), image.dtype)
        selected = bands.reshape(-1, bands.shape[-1]) if known is None else bands[known]
        present = 256 if levels == 256 else int(selected.max(initial=0)) + 1
        counts = [np.bincount(band, minlength=present) for band in selected.T]
        return cls(np.stack(counts), image.dtype)

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
        return Histogram(ours + theirs, self.dtype)

    def distribution(self) -> NDArray[np.float64]:
        """Return the share of each value, (bands, levels); zeros where nothing was counted."""
        return np.asarray(self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1))

    def quantile(self, share: ArrayLike) -> NDArray[np.int64]:
        """Return, per band, the lowest value whose cumulative share reaches ``share``.

        Args:
            share: one share in [0, 1] or an array (Q,) of them.

        Returns:
            (bands,) or (bands, Q) int64; zeros where nothing was counted.
        """
        cumulative = np.cumsum(self.distribution(), axis=1)
        # Rounding may leave the last cumulative share just under 1.
        wanted = np.minimum(np.asarray(share, dtype=np.float64), cumulative[:, -1].max())
        found = [np.searchsorted(band, wanted - 1e-12) for band in cumulative]
        highest = self.counts.shape[1] - 1
        return np.asarray(np.minimum(np.stack(found), highest), dtype=np.int64)

    def distance(self, other: "Histogram") -> NDArray[np.float64]:
        """Return the 1-Wasserstein distance per band, in value units, shape (bands,).

        In one dimension it is the area between the two cumulative distributions.

        Raises:
            ValueError: the two differ in dtype or number of bands, or one counted nothing.
        """
        if not (self.pixels and other.pixels):
            raise ValueError("no distance to a histogram that counted nothing")
        ours, theirs = _aligned(self, other)
        gap = np.cumsum(ours / self.pixels - theirs / other.pixels, axis=1)
        return np.asarray(np.abs(gap).sum(axis=1))


def _count_bytes(bands: NDArray[np.uint8], valid: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    counts = np.zeros((bands.shape[-1], 256), dtype=np.int64)
    pixels = np.ascontiguousarray(bands).reshape(-1, 1, bands.shape[-1])
    mask = None if valid is None else valid.astype(np.uint8).reshape(-1, 1)
    for start in range(0, len(pixels), _EXACT_FLOAT32):
        part = pixels[start : start + _EXACT_FLOAT32]
        inside = None if mask is None else mask[start : start + _EXACT_FLOAT32]
        for band in range(bands.shape[-1]):
            counted = cv2.calcHist([part], [band], inside, [256], [0, 256])
            counts[band] += counted.reshape(-1).astype(np.int64)
    return counts


def _aligned(first: Histogram, second: Histogram) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if first.dtype != second.dtype or first.bands != second.bands:
        raise ValueError(
            f"histograms of {first.bands} x {first.dtype} and "
            f"{second.bands} x {second.dtype} do not go together"
        )
    levels = max(first.counts.shape[1], second.counts.shape[1])
    padded = [
        np.pad(each.counts, ((0, 0), (0, levels - each.counts.shape[1])))
        for each in (first, second)
    ]
    return padded[0], padded[1]
