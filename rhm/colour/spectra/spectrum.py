"""Spectra: the low-frequency amplitudes of images.

Fourier domain adaptation gives an image the low-frequency amplitudes of a target image and keeps
its phases (Yang, Soatto, "FDA: Fourier domain adaptation for semantic segmentation", CVPR 2020).
Only these few amplitudes of the target are used. A bank can therefore keep them, as it keeps
histograms, and the images are not needed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.colour.spectra.window_amplitudes import (
    LARGEST_FACTOR,
    LONG_WAVES,
    ROUNDING,
    FloatArray,
    MeanAmplitudes,
    Window,
    blocks_of,
    larger_windows,
    other_sides,
    reach_of,
    shape_of_other,
    windows_of,
)

SIDE = 128
"""Default side in pixels of the windows whose amplitudes are averaged."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The mean low-frequency amplitudes of the windows of an image.

    Attributes:
        side: side of the windows in pixels.
        amplitudes: (bands, 2 K + 1, K + 1) float32 magnitudes of the discrete Fourier transform,
            divided by the number of pixels, for vertical frequencies from -K to K and horizontal
            ones from 0 to K, in cycles per window. The others follow by symmetry. At zero
            frequency it is the mean itself, which may be negative.
        gsd_m: metres per pixel of the windows, or None if unknown.
        others: amplitudes of larger and smaller windows of the same image, by their side in pixels,
            for the waves that are too long or too short for those of ``side``. Each array is like
            ``amplitudes``, with its own K, and 0 at zero frequency.

    Raises:
        ValueError: amplitudes have another shape, or are not finite, or negative beside the mean.
    """

    side: int
    amplitudes: NDArray[np.float32]
    gsd_m: float | None = None
    others: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        magnitudes = self.amplitudes.copy()
        most = reach_of(self.side)
        if magnitudes.ndim != 3 or magnitudes.shape[1:] != (2 * most + 1, most + 1):
            raise ValueError(f"amplitudes of {magnitudes.shape} are not those of {self.side}")
        magnitudes[:, most, 0] = np.abs(magnitudes[:, most, 0])
        possible = [size for sides in other_sides(self.side) for size in sides]
        for side, each in self.others.items():
            if side not in possible:
                raise ValueError(f"windows of {side} pixels are not beside those of {self.side}")
            if each.shape != (self.bands, *shape_of_other(side, self.side)):
                raise ValueError(f"amplitudes of {each.shape} are not those of {side}")
        for each in (magnitudes, *self.others.values()):
            if not (np.isfinite(each) & (each >= 0.0)).all():
                raise ValueError("amplitudes must be finite and at least 0")
        if self.gsd_m is not None and not (np.isfinite(self.gsd_m) and self.gsd_m > 0.0):
            raise ValueError("the ground sampling distance must be positive")

    @classmethod
    def of(
        cls,
        windows: Iterable[Window],
        side: int = SIDE,
        gsd_m: float | None = None,
        *,
        blocks: Iterable[Window] = (),
    ) -> "Spectrum | None":
        """Average the amplitudes of windows, each weighted by its number of valid pixels.

        Windows of which less than half is valid are left out, unless all are. Nodata pixels count
        as the mean of the valid ones.

        Args:
            windows: pixels (height, width, bands) and their validity (height, width), of at most
                ``side`` pixels along each axis; smaller ones are continued by mirroring. Their
                halves and quarters give the amplitudes of smaller windows.
            side: side of the windows in pixels.
            gsd_m: metres per pixel of the windows.
            blocks: larger parts of the image, for the amplitudes of larger windows: two, four,
                eight and sixteen times as large, where at least half is valid.

        Returns:
            The spectrum, or None if no pixel is valid.
        """
        most = reach_of(side)
        mean = MeanAmplitudes(side, most)
        sides, larger_sides = other_sides(side)
        smaller = {size: MeanAmplitudes(size, most) for size in sides}
        larger = {size: MeanAmplitudes(side, LONG_WAVES) for size in larger_sides}
        for values, valid in windows:
            mean.add(values, valid)
            for each in smaller.values():
                each.add_parts(values, valid)
        found = mean.result()
        if found is None:
            return None
        for block in blocks:
            for size, part in larger_windows(*block, side):
                larger[size].add(*part)
        others = {size: each.waves() for size, each in (smaller | larger).items()}
        known = {size: each for size, each in others.items() if each is not None}
        return cls(side, found, gsd_m, known)

    @classmethod
    def of_image(
        cls, image: NDArray[Any], valid: NDArray[np.bool_] | None = None, side: int = SIDE
    ) -> "Spectrum | None":
        """Average the amplitudes of the windows of an image (H, W) or (H, W, bands).

        Args:
            image: pixels.
            valid: (H, W) validity; by default all are valid.
            side: side of the windows in pixels.
        """
        pixels = image[..., None] if image.ndim == 2 else image
        known = np.ones(image.shape[:2], dtype=bool) if valid is None else valid
        return cls.of(windows_of(pixels, known, side), side, blocks=blocks_of(pixels, known, side))

    @property
    def bands(self) -> int:
        """Number of bands."""
        return len(self.amplitudes)

    def stretched(self, gain: NDArray[np.float64], offset: NDArray[np.float64]) -> "Spectrum":
        """Return the spectrum of the image ``gain * image + offset``.

        Args:
            gain: (bands,) positive factors.
            offset: (bands,) offsets in value units.
        """
        moved = self.amplitudes * gain[:, None, None]
        most = reach_of(self.side)
        moved[:, most, 0] += offset
        others = {
            side: (each * gain[:, None, None]).astype(np.float32)
            for side, each in self.others.items()
        }
        return Spectrum(self.side, moved.astype(np.float32), self.gsd_m, others)

    @property
    def waves_px(self) -> tuple[float, float]:
        """Shortest and longest waves that are known, in pixels."""
        sides = {self.side: reach_of(self.side)}
        sides |= {side: each.shape[2] - 1 for side, each in self.others.items()}
        shortest = min((side / most for side, most in sides.items() if most), default=np.inf)
        return shortest, float(max(sides))

    @property
    def is_bounded(self) -> bool:
        """Whether the image may have longer waves than those that are known.

        They are known if the image is read at a larger ground sampling distance.
        """
        return LARGEST_FACTOR * self.side in self.others

    def at(self, height: int, width: int, reach: int, *, gsd_m: float | None = None) -> FloatArray:
        """Return the expected magnitudes of the Fourier transform of an image of another size.

        At the size of the windows these are the stored amplitudes. Elsewhere they are interpolated
        by frequency: an image of twice the extent has four times the pixels, but, but for its mean,
        twice the magnitude at the same frequency, as holds for textures. Waves that are longer than
        the windows along both axes, which windows cannot tell from the mean, are those of the
        smallest windows that hold them, and waves that are shorter than the shortest ones kept are
        those of the largest windows that keep them.

        Nothing is extrapolated: what no windows know is unknown.

        Args:
            height: rows of the image.
            width: columns of the image.
            reach: highest frequency in cycles per image.
            gsd_m: metres per pixel of the image; None for that of the spectrum.

        Returns:
            (bands, 2 reach + 1, reach + 1), at zero frequency the sum of the image, which may be
            negative; NaN where unknown.
        """
        zoom = 1.0 if gsd_m is None or self.gsd_m is None else self.gsd_m / gsd_m
        most, stored = reach_of(self.side), self.amplitudes.astype(np.float64)
        rows, cols = np.mgrid[-reach : reach + 1, 0 : reach + 1].astype(np.float64)
        if (height, width, zoom) == (self.side, self.side, 1.0) and reach <= most:
            inside = stored[:, most - reach : most + reach + 1, : reach + 1]
            return np.asarray(inside * (height * width))
        rows, cols = rows * (zoom / height), cols * (zoom / width)  # in cycles per pixel
        mean, found = stored[:, most, 0].copy(), np.full((self.bands, *rows.shape), np.nan)
        # The rounding of a frequency must not mix the mean into the waves beside it.
        stored[:, most, 0] = 0.0
        larger = sorted(side for side in self.others if side > self.side)
        smaller = sorted((side for side in self.others if side < self.side), reverse=True)
        for side in (self.side, *larger, *smaller):
            known = stored if side == self.side else self.others[side].astype(np.float64)
            kept, cycles = known.shape[2] - 1, np.maximum(np.abs(rows), cols) * side
            here = (cycles > 1.0 - ROUNDING) & (cycles < kept + ROUNDING) & np.isnan(found[0])
            if here.any():
                places = np.stack([rows[here] * side + kept, cols[here] * side])
                spread = side * zoom / np.sqrt(height * width)
                for band, amplitudes in zip(found, known, strict=True):
                    band[here] = spread * _interpolated(amplitudes, places)
        found[:, reach, 0] = mean
        return np.asarray(found * (height * width))


def _interpolated(amplitudes: FloatArray, places: FloatArray) -> FloatArray:
    ndimage = import_module("scipy.ndimage")
    return np.asarray(ndimage.map_coordinates(amplitudes, places, order=1, mode="nearest"))
