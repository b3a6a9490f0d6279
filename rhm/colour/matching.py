"""Histogram matching of one image to another."""

from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.colour.histogram import Histogram, valid_pixels
from rhm.colour.lookup import PixelMap

_SHARED_PIXELS = 1 << 24
"""Stand for the whole of a histogram: shares are told to a sixteenth of a millionth."""


def match_histograms(
    image: NDArray[Any],
    reference: NDArray[Any],
    nodata: float | None = None,
    *,
    valid: NDArray[Any] | None = None,
    reference_valid: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Give ``image`` the histogram of ``reference``, band by band.

    Equals ``skimage.exposure.match_histograms`` (with ``channel_axis=-1`` for (H, W, C)), and
    leaves nodata out: it is excluded from both histograms and keeps its value. Floats are
    sorted here, not binned.

    Args:
        image: (H, W) or (H, W, C), uint8, uint16, int16 or float32.
        reference: an image of the same dtype and bands; any size.
        nodata: pixels all of whose bands equal this are nodata, in both images; so are floats
            that are no finite numbers.
        valid: (H, W) of the image; pixels where it is zero or False are nodata.
        reference_valid: the same of the reference.

    Returns:
        A new array of the image's shape and dtype.

    Raises:
        TypeError: the images are of another type, or masked arrays.
        ValueError: they differ in dtype or bands, the reference is all nodata, or a ``valid``
            is not of its image's height and width.
    """
    if np.ma.isMA(image) or np.ma.isMA(reference):
        raise TypeError("masked arrays keep their masks apart: give image.data and valid")
    if image.ndim != reference.ndim or image.shape[2:] != reference.shape[2:]:
        raise ValueError(f"image {image.shape} and reference {reference.shape} differ in bands")
    known = valid_pixels(image, nodata, valid)
    target = valid_pixels(reference, nodata, reference_valid)
    if image.dtype == np.float32 == reference.dtype:
        return _match_sorted(image, reference, known, target)
    source = Histogram.of(image, valid=known)
    table = PixelMap.matching(source, Histogram.of(reference, valid=target))
    return table.apply(image, valid=known)


def matched_shares(source: Sequence[float], target: Sequence[float]) -> tuple[float, ...]:
    """Return a band's histogram after matching to another, from histograms alone.

    Args:
        source: shares of the 256 levels of 8-bit imagery before.
        target: shares of those of the band that it is matched to.

    Returns:
        Shares of 256 levels. They are the target's only as nearly as whole levels allow: what is
        one value before is one value after.
    """
    before, wanted = (_histogram(shares) for shares in (source, target))
    after = PixelMap.matching(before, wanted).push(before).distribution()[0]
    return tuple(float(share) for share in after)


def _histogram(shares: Sequence[float]) -> Histogram:
    counts = np.rint(np.asarray(shares, dtype=np.float64) * _SHARED_PIXELS).astype(np.int64)
    return Histogram(counts[None], np.dtype(np.uint8))


def _match_sorted(
    image: NDArray[np.float32],
    reference: NDArray[np.float32],
    valid: NDArray[np.bool_] | None,
    reference_valid: NDArray[np.bool_] | None,
) -> NDArray[np.float32]:
    from skimage.exposure import match_histograms as match_one_band

    known, known_targets = _where(valid), _where(reference_valid)
    targets = reference.reshape(*reference.shape[:2], -1)[known_targets]
    if not targets.size:
        raise ValueError("cannot match to a histogram that counted nothing")
    matched = image.copy()
    if valid is not None and not valid.any():
        return matched
    bands = matched[..., None] if image.ndim == 2 else matched
    for band in range(bands.shape[-1]):
        values = bands[known][..., band]
        mapped = match_one_band(values.ravel(), targets[..., band].ravel())
        bands[..., band][known] = mapped.reshape(values.shape)
    return matched


def _where(valid: NDArray[np.bool_] | None) -> NDArray[np.bool_] | EllipsisType:
    # To take every pixel through a mask costs as much as to match them.
    return ... if valid is None or valid.all() else valid
