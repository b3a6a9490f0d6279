"""Pixel-wise maps of imagery, as lookup tables.

A map whose result depends only on the value of a pixel *is* one table per band, whatever its
formula. Tables compose: histogram matching, gamma, gain and offset, and the normalisation to
float32 for a network become one table, so that each pixel is touched once. A table has one entry
per level (``rhm.colour.levels``), which is a value of integer imagery or a bin of float imagery.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from rhm.colour.histogram import OPENCV_CHANNELS, Histogram
from rhm.colour.levels import levels_of, to_levels, values_of

_OPENCV_LOOKS_UP_UINT16 = int(cv2.__version__.split(".")[0]) >= 5

# Result dtypes that every version of OpenCV keeps; it silently turns int64 into int32.
_OPENCV_RESULTS = ("uint8", "int8", "uint16", "int16", "int32", "float32", "float64")


@dataclass(frozen=True, eq=False)
class PixelMap:
    """A pixel-wise map: one lookup table per band.

    Attributes:
        tables: (bands, levels) tables in the dtype of the result; ``tables[b, l]`` is the new
            value of a pixel with level ``l`` in band ``b``.
        input_dtype: dtype of the images that the map takes; by default uint8 for 256 levels and
            uint16 for 65536 levels.
    """

    tables: NDArray[Any]
    input_dtype: np.dtype[Any] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        tables = np.array(self.tables, order="C")
        if tables.ndim != 2 or tables.shape[1] not in (256, 65536):
            raise ValueError(f"expected tables (bands, 256 or 65536), got shape {tables.shape}")
        tables.flags.writeable = False
        by_size = np.uint8 if tables.shape[1] == 256 else np.uint16
        dtype = np.dtype(by_size if self.input_dtype is None else self.input_dtype)
        if levels_of(dtype) != tables.shape[1]:
            raise ValueError(
                f"a table for {dtype} must have {levels_of(dtype)} levels, got {tables.shape[1]}"
            )
        object.__setattr__(self, "tables", tables)
        object.__setattr__(self, "input_dtype", dtype)

    @property
    def bands(self) -> int:
        """Number of bands."""
        return int(self.tables.shape[0])

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """Type of the mapped images."""
        return self.tables.dtype

    @classmethod
    def identity(cls, dtype: DTypeLike, bands: int) -> "PixelMap":
        """Return the map that changes nothing, except that it rounds floats to their bins."""
        return cls(np.tile(values_of(dtype), (bands, 1)), np.dtype(dtype))

    @classmethod
    def of_values(
        cls,
        values: NDArray[np.float64],
        input_dtype: DTypeLike,
        output_dtype: DTypeLike | None = None,
    ) -> "PixelMap":
        """Return the map that gives each level its entry in ``values``.

        Args:
            values: (bands, levels) new value of each level; rounded and clipped to the range of
                an integer ``output_dtype``.
            input_dtype: dtype of the images that the map takes.
            output_dtype: dtype of the result; by default ``input_dtype``.
        """
        dtype = np.dtype(input_dtype if output_dtype is None else output_dtype)
        if dtype.kind != "f":
            known = np.iinfo(dtype)
            values = np.rint(np.clip(values, known.min, known.max))
        return cls(values.astype(dtype), np.dtype(input_dtype))

    @classmethod
    def matching(cls, source: Histogram, target: Histogram) -> "PixelMap":
        """Return the map that matches the histogram ``source`` to ``target``, band by band.

        The map is ``v -> F_t^{-1}(F_s(v))``. The cumulative share of ``v`` in the source is looked
        up among the cumulative shares of the target, whose present values are interpolated
        linearly and truncated to the dtype of the target (Yaras et al., JSTARS 17, 2024; the
        convention of ``skimage.exposure.match_histograms``). A source without pixels gives the
        identity.

        Raises:
            ValueError: the histograms differ in dtype or number of bands, or the target has no
                pixels.
        """
        if source.dtype != target.dtype or source.bands != target.bands:
            raise ValueError(
                f"cannot match {source.bands} x {source.dtype} to {target.bands} x {target.dtype}"
            )
        if not target.pixels:
            raise ValueError("cannot match to a histogram without pixels")
        if not source.pixels:
            return cls.identity(source.dtype, source.bands)
        tables = np.empty((source.bands, levels_of(source.dtype)), dtype=target.dtype)
        first, last = source.first, source.first + source.counts.shape[1] - 1
        source_shares = np.cumsum(source.counts, axis=1) / source.pixels
        for band, (values, shares) in enumerate(target.steps):
            tables[band, first : last + 1] = np.interp(source_shares[band], shares, values)
        # Levels outside the range of the source do not occur; this keeps the map monotone.
        tables[:, :first] = tables[:, first, None]
        tables[:, last:] = tables[:, last, None]
        return cls(tables, source.dtype)

    @classmethod
    def gamma(
        cls, gamma: ArrayLike, dtype: DTypeLike, bands: int, *, high: float | None = None
    ) -> "PixelMap":
        """Return the map ``v -> high * (v / high) ** gamma``; integers are rounded.

        Args:
            gamma: exponent, or one exponent per band.
            dtype: dtype of the imagery.
            bands: number of bands.
            high: white of the imagery, in value units, such as 2047 for 11 bits; by default 1 for
                floats and the largest value of an integer dtype. Values are clipped to [0, high].
        """
        white, shares = _unit_shares(dtype, high)
        exponents = np.broadcast_to(np.asarray(gamma, dtype=np.float64), (bands,))
        return cls.of_values(white * shares ** exponents[:, None], dtype)

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
        """Return the map ``v -> gain * v + offset``, clipped to [0, high]; integers are rounded.

        Args:
            gain: factor, or one factor per band.
            offset: offset in value units, or one offset per band.
            dtype: dtype of the imagery.
            bands: number of bands.
            high: white of the imagery, in value units; by default 1 for floats and the largest
                value of an integer dtype.
        """
        white, _ = _unit_shares(dtype, high)
        values = values_of(dtype).astype(np.float64)
        gains = np.broadcast_to(np.asarray(gain, dtype=np.float64), (bands,))[:, None]
        offsets = np.broadcast_to(np.asarray(offset, dtype=np.float64), (bands,))[:, None]
        return cls.of_values(np.clip(gains * values + offsets, 0.0, white), dtype)

    @classmethod
    def through(
        cls,
        knots: ArrayLike,
        dtype: DTypeLike,
        *,
        high: float | None = None,
    ) -> "PixelMap":
        """Return the piecewise-linear map through ``knots``; integers are rounded.

        Args:
            knots: (bands, K) new values of K evenly spaced values from 0 to ``high``, as shares of
                ``high`` in [0, 1].
            dtype: dtype of the imagery.
            high: white of the imagery, in value units; by default 1 for floats and the largest
                value of an integer dtype.
        """
        heights = np.atleast_2d(np.asarray(knots, dtype=np.float64))
        white, shares = _unit_shares(dtype, high)
        at = np.linspace(0.0, 1.0, heights.shape[1])
        return cls.of_values(white * np.stack([np.interp(shares, at, h) for h in heights]), dtype)

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
        """Return the map to float32 that normalises the input of a network.

        It is ``v -> (clip((v - low) / (high - low), 0, 1) - mean) / std``.

        Args:
            low: black of each band, in value units.
            high: white of each band, in value units.
            dtype: dtype of the imagery.
            mean: mean after scaling to [0, 1], one number or one per band.
            std: standard deviation after scaling to [0, 1], one number or one per band.

        Raises:
            ValueError: ``high`` is not above ``low`` in every band.
        """
        lows, highs = (np.asarray(ends, dtype=np.float64)[:, None] for ends in (low, high))
        if not (highs > lows).all():
            raise ValueError(f"high must be above low in every band, got {low} and {high}")
        values = values_of(dtype).astype(np.float64)
        shares = np.clip((values - lows) / (highs - lows), 0.0, 1.0)
        means, stds = (np.asarray(stat, dtype=np.float64)[:, None] for stat in (mean, std))
        return cls(((shares - means) / stds).astype(np.float32), np.dtype(dtype))

    @classmethod
    def stretch(
        cls,
        low: Sequence[float],
        high: Sequence[float],
        dtype: DTypeLike,
        *,
        to_low: Sequence[float],
        to_high: Sequence[float],
        to_dtype: DTypeLike,
    ) -> "PixelMap":
        """Return the linear map from one range of values to another; values are clipped.

        Args:
            low: black of each band of the input, in value units.
            high: white of each band of the input.
            dtype: dtype of the input.
            to_low: black of each band of the result, in value units.
            to_high: white of each band of the result.
            to_dtype: dtype of the result.
        """
        lows, highs, to_lows, to_highs = (
            np.asarray(ends, dtype=np.float64)[:, None] for ends in (low, high, to_low, to_high)
        )
        shares = np.clip((values_of(dtype) - lows) / (highs - lows), 0.0, 1.0)
        return cls.of_values(to_lows + shares * (to_highs - to_lows), dtype, to_dtype)

    def blend(self, weight: float) -> "PixelMap":
        """Return the weighted mean of this map and the identity, rounded.

        Args:
            weight: weight of this map in [0, 1].

        Raises:
            ValueError: the result of the map has another dtype than its input, or the weight is
                not in [0, 1].
        """
        if self.output_dtype != self.input_dtype:
            raise ValueError(
                f"a map from {self.input_dtype} to {self.output_dtype} cannot be blended with the "
                "identity"
            )
        if not 0.0 <= weight <= 1.0:
            raise ValueError(f"weight must be in [0, 1], got {weight}")
        if weight == 1.0:
            return self
        same = values_of(self.input_dtype)
        return self.of_values(weight * self.tables + (1.0 - weight) * same, self.input_dtype)

    def then(self, other: "PixelMap") -> "PixelMap":
        """Return a single map that exactly equals this map followed by ``other``.

        Intermediate floats are rounded to their bins, as ``other`` would round them.

        Raises:
            ValueError: the result of this map does not have the dtype and bands that ``other``
                takes.
        """
        if self.output_dtype != other.input_dtype or self.bands != other.bands:
            raise ValueError(
                f"a map to {self.bands} x {self.output_dtype} cannot be followed by one of "
                f"{other.bands} x {other.input_dtype}"
            )
        between = to_levels(self.tables)
        # Band by band, because numpy's take_along_axis is several times slower on short arrays.
        tables = np.empty(self.tables.shape, dtype=other.output_dtype)
        for band in range(self.bands):
            tables[band] = other.tables[band].take(between[band])
        return PixelMap(tables, self.input_dtype)

    def apply(
        self,
        image: NDArray[Any],
        *,
        valid: NDArray[Any] | None = None,
        elsewhere: "PixelMap | None" = None,
    ) -> NDArray[Any]:
        """Map every pixel of ``image``.

        Args:
            image: (H, W, bands) pixels of the input dtype, or (H, W) pixels for a map of one band.
            valid: (H, W) validity; pixels where it is zero or False are mapped by ``elsewhere``.
            elsewhere: map of the invalid pixels, between the same dtypes; by default they keep
                their values.

        Returns:
            A new array with the shape of the image and the output dtype of the map.

        Raises:
            TypeError: the image is a masked array.
            ValueError: the image has the wrong shape, dtype or number of bands, ``valid`` does not
                have its height and width, or invalid pixels cannot keep their values because the
                dtype changes.
        """
        bands = 1 if image.ndim == 2 else image.shape[-1]
        if image.ndim not in (2, 3) or image.dtype != self.input_dtype or bands != self.bands:
            raise ValueError(
                f"a map of {self.bands} x {self.input_dtype} does not take "
                f"{image.dtype} of shape {image.shape}"
            )
        if valid is not None and valid.shape != image.shape[:2]:
            raise ValueError(
                f"valid must have the shape of the image, {image.shape[:2]}, got {valid.shape}"
            )
        mapped = self._look_up(image) if image.size else np.empty(image.shape, self.output_dtype)
        if valid is not None and not valid.all():
            others = valid == 0
            kept = elsewhere.apply(image) if elsewhere is not None else image
            if kept.dtype != mapped.dtype:
                raise ValueError("invalid pixels cannot keep their values in another dtype")
            mapped[others] = kept[others]
        return mapped

    def push(self, histogram: Histogram) -> Histogram:
        """Return the histogram of an image after this map, from its histogram before.

        Raises:
            ValueError: the histogram has another dtype or number of bands than the map takes.
            TypeError: the dtype of the result is not supported by histograms.
        """
        if histogram.dtype != self.input_dtype or histogram.bands != self.bands:
            raise ValueError(
                f"a map of {self.bands} x {self.input_dtype} does not take "
                f"{histogram.bands} x {histogram.dtype}"
            )
        between = to_levels(self.tables[:, histogram.first :][:, : histogram.counts.shape[1]])
        first, last = int(between.min()), int(between.max())
        if self.output_dtype == np.uint8:
            first, last = 0, 255
        counts = np.zeros((self.bands, last - first + 1), dtype=np.int64)
        for band, level in enumerate(between.astype(np.int64) - first):
            np.add.at(counts[band], level, histogram.counts[band])
        return Histogram(counts, self.output_dtype, first)

    @cached_property
    def _interleaved(self) -> NDArray[Any]:
        # cv2.LUT reads one row of levels with bands as channels. OpenCV interleaves long tables
        # ten times as fast as numpy.
        merged: NDArray[Any] = cv2.merge([table[None] for table in self.tables])
        return merged.reshape(1, -1, self.bands)

    def _look_up(self, image: NDArray[Any]) -> NDArray[Any]:
        levels = to_levels(image)
        if self.output_dtype == self.input_dtype == np.uint8 and 1 < self.bands < OPENCV_CHANNELS:
            # OpenCV maps planes of bytes so much faster that splitting the image pays off.
            planes = cv2.split(image)
            for plane, table in zip(planes, self.tables, strict=True):
                cv2.LUT(plane, table, plane)
            merged: NDArray[Any] = cv2.merge(planes)
            return merged
        readable = levels.dtype == np.uint8 or _OPENCV_LOOKS_UP_UINT16
        if readable and self.output_dtype.name in _OPENCV_RESULTS and self.bands <= OPENCV_CHANNELS:
            looked_up: NDArray[Any] = cv2.LUT(np.ascontiguousarray(levels), self._interleaved)
            return looked_up.reshape(image.shape)
        bands = levels[..., None] if image.ndim == 2 else levels
        columns = [table.take(bands[..., band]) for band, table in enumerate(self.tables)]
        return np.stack(columns, axis=-1).reshape(image.shape)


def _unit_shares(dtype: DTypeLike, high: float | None) -> tuple[float, NDArray[np.float64]]:
    """Return white, and the share of each level in the range from 0 to white, in [0, 1]."""
    values = values_of(dtype).astype(np.float64)
    largest = values[-1]
    usual = 1.0 if np.dtype(dtype).kind == "f" else largest
    white = float(usual if high is None else min(high, largest))
    if not white > 0.0:
        raise ValueError(f"white must be above 0, got {high}")
    return white, np.clip(values / white, 0.0, 1.0)
