"""Histogram matching of one image to another."""

from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.colour.histogram import Histogram, valid_pixels
from rhm.colour.levels import check_unmasked
from rhm.colour.lookup import PixelMap

_SHARED_PIXELS = 1 << 24
"""Number of pixels that shares are converted to, which preserves them to about 6e-8."""


def match_histograms(
    image: NDArray[Any],
    reference: NDArray[Any],
    nodata: float | None = None,
    *,
    valid: NDArray[Any] | None = None,
    reference_valid: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Match the histogram of ``image`` to that of ``reference``, band by band.

    The result equals that of ``skimage.exposure.match_histograms`` (with ``channel_axis=-1`` for
    (H, W, C)), except that nodata pixels are excluded from both histograms and keep their values.
    Float values are sorted, not binned. In float images, pixels with a band that is not finite
    are nodata as well.

    Args:
        image: (H, W) or (H, W, C) uint8, uint16, int16 or float32 pixels.
        reference: image with the same dtype and number of bands, of any size.
        nodata: value of nodata pixels, in both images; a pixel is nodata if all its bands have it.
        valid: (H, W) validity of the image; pixels where it is zero or False are nodata.
        reference_valid: validity of the reference.

    Returns:
        A new array with the shape and dtype of the image.

    Raises:
        TypeError: the images have an unsupported dtype, or are masked arrays.
        ValueError: the images differ in dtype or number of bands, the reference has no valid
            pixels, or a validity does not have the height and width of its image.
    """
    check_unmasked(image)
    check_unmasked(reference)
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
    """Return the histogram of an 8-bit band after matching, from histograms alone.

    Args:
        source: 256 shares, one for each level, of the band before matching.
        target: 256 shares of the band that it is matched to.

    Returns:
        256 shares. They equal those of the target only approximately, because pixels with equal
        values before matching still have equal values afterwards.
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
        raise ValueError("cannot match to an image without valid pixels")
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
    # Selecting all pixels with a mask would take as long as matching them.
    return ... if valid is None or valid.all() else valid
