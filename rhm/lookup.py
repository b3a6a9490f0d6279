"""Pixel-wise maps of integer imagery, as lookup tables.

A map that treats every pixel by its value alone *is* a table per band, whatever formula it came
from. Tables compose: histogram matching, gamma, gain and offset, and a network's normalisation
to float32 become one table that touches each pixel once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from rhm.histogram import OPENCV_CHANNELS, Histogram, levels_of, valid_pixels

_OPENCV_LOOKS_UP_UINT16 = int(cv2.__version__.split(".")[0]) >= 5

# Types that every OpenCV keeps; it would turn int64 into int32 without a word.
_OPENCV_RESULTS = ("uint8", "int8", "uint16", "int16", "int32", "float32", "float64")


@dataclass(frozen=True, eq=False)
class PixelMap:
    """One lookup table per band.

    Attributes:
        tables: (bands, levels); ``tables[b, v]`` is what value ``v`` of band ``b`` becomes.
            256 levels map uint8 images, 65536 levels uint16 images. The tables' own dtype is
            the result's.
    """

    tables: NDArray[Any]

    def __post_init__(self) -> None:
        tables = np.array(self.tables, order="C")
        if tables.ndim != 2 or tables.shape[1] not in (256, 65536):
            raise ValueError(f"expected tables (bands, 256 or 65536), got shape {tables.shape}")
        tables.flags.writeable = False
        object.__setattr__(self, "tables", tables)

    @property
    def bands(self) -> int:
        """The number of bands."""
        return int(self.tables.shape[0])

    @property
    def input_dtype(self) -> np.dtype[Any]:
        """The dtype of the images that the map takes."""
        return np.dtype(np.uint8 if self.tables.shape[1] == 256 else np.uint16)

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """The dtype of the images that the map gives."""
        return self.tables.dtype

    @classmethod
    def identity(cls, dtype: DTypeLike, bands: int) -> "PixelMap":
        """Return the map that changes nothing."""
        dtype = np.dtype(dtype)
        return cls(np.tile(np.arange(levels_of(dtype), dtype=dtype), (bands, 1)))

    @classmethod
    def matching(cls, source: Histogram, target: Histogram) -> "PixelMap":
        """Return the map after which ``source`` is distributed like ``target``, band by band.

        ``v -> F_t^{-1}(F_s(v))``: the source's cumulative share of ``v``, looked up in the
        target's present values by linear interpolation over their cumulative shares, truncated
        to the target's type (Yaras et al., JSTARS 17, 2024; the convention of
        ``skimage.exposure.match_histograms``). A source that counted nothing is left as it is.

        Raises:
            ValueError: the two differ in dtype or number of bands, or the target is empty.
        """
        if source.dtype != target.dtype or source.bands != target.bands:
            raise ValueError(
                f"cannot match {source.bands} x {source.dtype} to {target.bands} x {target.dtype}"
            )
        if not target.pixels:
            raise ValueError("cannot match to a histogram that counted nothing")
        if not source.pixels:
            return cls.identity(source.dtype, source.bands)
        tables = np.empty((source.bands, levels_of(source.dtype)), dtype=target.dtype)
        known = source.counts.shape[1]
        source_shares = np.cumsum(source.counts, axis=1) / source.pixels
        for band, counts in enumerate(target.counts):
            present = np.flatnonzero(counts)
            target_shares = np.cumsum(counts[present]) / target.pixels
            tables[band, :known] = np.interp(source_shares[band], target_shares, present)
            # Values above all that the source holds cannot occur; the map stays monotone.
            tables[band, known:] = tables[band, known - 1]
        return cls(tables)

    @classmethod
    def gamma(
        cls, gamma: ArrayLike, dtype: DTypeLike, bands: int, *, high: float | None = None
    ) -> "PixelMap":
        """Return ``v -> high * (v / high) ** gamma``, rounded; ``gamma`` one or one per band.

        ``high`` is the imagery's white, by default and at most the type's largest value; an
        11-bit image in uint16 wants 2047. Values above it are mapped to it.
        """
        white, shares = _unit_shares(dtype, high)
        exponents = np.broadcast_to(np.asarray(gamma, dtype=np.float64), (bands,))
        return cls(np.rint(white * shares ** exponents[:, None]).astype(dtype))

    @classmethod
    def gain_offset(
        cls,
        gain: ArrayLike,
        offset: ArrayLike,
        dtype: DTypeLike,
        bands: int,
        *,
        high: float | None = None,
    ) -> "PixelMap":
        """Return ``v -> gain * v + offset``, clipped to [0, high] and rounded.

        ``gain`` and ``offset`` are one number or one per band, the offset in value units.
        ``high`` is the imagery's white, by default and at most the type's largest value.
        """
        white, _ = _unit_shares(dtype, high)
        values = np.arange(levels_of(np.dtype(dtype)), dtype=np.float64)
        gains = np.broadcast_to(np.asarray(gain, dtype=np.float64), (bands,))[:, None]
        offsets = np.broadcast_to(np.asarray(offset, dtype=np.float64), (bands,))[:, None]
        return cls(np.rint(np.clip(gains * values + offsets, 0.0, white)).astype(dtype))

    @classmethod
    def through(
        cls,
        knots: ArrayLike,
        dtype: DTypeLike,
        *,
        high: float | None = None,
    ) -> "PixelMap":
        """Return the piecewise-linear map through ``knots``.

        Args:
            knots: (bands, K) shares in [0, 1] that the K evenly spaced values from 0 to
                ``high`` are mapped to; rounded to the type.
            dtype: uint8 or uint16.
            high: the imagery's white, by default and at most the type's largest value.
        """
        heights = np.atleast_2d(np.asarray(knots, dtype=np.float64))
        white, shares = _unit_shares(dtype, high)
        at = np.linspace(0.0, 1.0, heights.shape[1])
        return cls(
            np.stack([np.rint(white * np.interp(shares, at, h)) for h in heights]).astype(dtype)
        )

    @classmethod
    def normalize(
        cls,
        low: Sequence[float],
        high: Sequence[float],
        dtype: DTypeLike,
        *,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
    ) -> "PixelMap":
        """Return the map to float32 that a network wants.

        ``v -> (clip((v - low) / (high - low), 0, 1) - mean) / std`` per band; ``low`` and
        ``high`` in value units, one per band; ``mean`` and ``std`` shares, one or one per band.

        Raises:
            ValueError: a band's ``high`` is not above its ``low``.
        """
        lows, highs = (np.asarray(ends, dtype=np.float64)[:, None] for ends in (low, high))
        if not (highs > lows).all():
            raise ValueError(f"high must be above low in every band, got {low} and {high}")
        values = np.arange(levels_of(np.dtype(dtype)), dtype=np.float64)
        shares = np.clip((values - lows) / (highs - lows), 0.0, 1.0)
        means, stds = (np.asarray(each, dtype=np.float64)[:, None] for each in (mean, std))
        return cls(((shares - means) / stds).astype(np.float32))

    def then(self, other: "PixelMap") -> "PixelMap":
        """Return the one map that equals this map followed by ``other``; exact.

        Raises:
            ValueError: this map's result is not what ``other`` takes.
        """
        if self.output_dtype != other.input_dtype or self.bands != other.bands:
            raise ValueError(
                f"a map to {self.bands} x {self.output_dtype} cannot be followed by one of "
                f"{other.bands} x {other.input_dtype}"
            )
        return PixelMap(np.take_along_axis(other.tables, self.tables.astype(np.intp), axis=1))

    def apply(self, image: NDArray[Any], *, valid: NDArray[Any] | None = None) -> NDArray[Any]:
        """Map every pixel of ``image``.

        Args:
            image: (H, W) or (H, W, bands) of the map's input dtype; an (H, W) image needs a
                map of one band.
            valid: (H, W); pixels where it is zero or False keep their values (only for a map
                whose result has the image's dtype).

        Returns:
            A new array of the image's shape and the map's output dtype.

        Raises:
            ValueError: the image's shape, dtype or bands are not the map's, or ``valid`` is not
                of its height and width.
        """
        bands = 1 if image.ndim == 2 else image.shape[-1]
        if image.ndim not in (2, 3) or image.dtype != self.input_dtype or bands != self.bands:
            raise ValueError(
                f"a map of {self.bands} x {self.input_dtype} does not take "
                f"{image.dtype} of shape {image.shape}"
            )
        keep = valid_pixels(image, given=valid)
        mapped = self._look_up(image) if image.size else np.empty(image.shape, self.output_dtype)
        if keep is not None:
            if self.output_dtype != self.input_dtype:
                raise ValueError("pixels cannot keep their values under a map to another dtype")
            mapped[~keep] = image[~keep]
        return mapped

    def push(self, histogram: Histogram) -> Histogram:
        """Return the histogram that an image of ``histogram`` has after this map.

        Raises:
            ValueError: dtype or bands differ from the map's.
            TypeError: the map's result is neither uint8 nor uint16.
        """
        if histogram.dtype != self.input_dtype or histogram.bands != self.bands:
            raise ValueError(
                f"a map of {self.bands} x {self.input_dtype} does not take "
                f"{histogram.bands} x {histogram.dtype}"
            )
        counts = np.zeros((self.bands, levels_of(self.output_dtype)), dtype=np.int64)
        known = histogram.counts.shape[1]
        for band, table in enumerate(self.tables):
            np.add.at(counts[band], table[:known], histogram.counts[band])
        return Histogram(counts, self.output_dtype)

    @cached_property
    def _interleaved(self) -> NDArray[Any]:
        # The layout cv2.LUT reads: one row of levels, bands as channels.
        return np.ascontiguousarray(self.tables.T)[None]

    def _look_up(self, image: NDArray[Any]) -> NDArray[Any]:
        readable = image.dtype == np.uint8 or _OPENCV_LOOKS_UP_UINT16
        if readable and self.output_dtype.name in _OPENCV_RESULTS and self.bands <= OPENCV_CHANNELS:
            looked_up: NDArray[Any] = cv2.LUT(np.ascontiguousarray(image), self._interleaved)
            return looked_up.reshape(image.shape)
        bands = image[..., None] if image.ndim == 2 else image
        columns = [table[bands[..., band]] for band, table in enumerate(self.tables)]
        return np.stack(columns, axis=-1).reshape(image.shape)


def match_histograms(
    image: NDArray[Any], reference: NDArray[Any], nodata: float | None = None
) -> NDArray[Any]:
    """Give ``image`` the histogram of ``reference``, band by band.

    Equals ``skimage.exposure.match_histograms`` (with ``channel_axis=-1`` for (H, W, C)) on
    uint8 and uint16 images, and leaves nodata out: it is excluded from both histograms and
    keeps its value.

    Args:
        image: (H, W) or (H, W, C), uint8 or uint16.
        reference: an image of the same dtype and bands; any size.
        nodata: pixels all of whose bands equal this are nodata, in both images.

    Returns:
        A new array of the image's shape and dtype.

    Raises:
        TypeError: the images are neither uint8 nor uint16.
        ValueError: they differ in dtype or bands, or the reference is all nodata.
    """
    if image.ndim != reference.ndim:
        raise ValueError(f"image {image.shape} and reference {reference.shape} differ in bands")
    valid = valid_pixels(image, nodata)
    table = PixelMap.matching(
        Histogram.of(image, valid=valid), Histogram.of(reference, nodata=nodata)
    )
    return table.apply(image, valid=valid)


def _unit_shares(dtype: DTypeLike, high: float | None) -> tuple[float, NDArray[np.float64]]:
    levels = levels_of(np.dtype(dtype))
    white = float(levels - 1 if high is None else min(high, levels - 1))
    if not white > 0.0:
        raise ValueError(f"white must be above 0, got {high}")
    return white, np.minimum(np.arange(levels, dtype=np.float64) / white, 1.0)
