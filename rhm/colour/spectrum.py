"""Spectra: the low-frequency amplitudes of images, and swapping them.

Fourier domain adaptation gives an image the low-frequency amplitudes of a target image and keeps
its phases (Yang, Soatto, "FDA: Fourier domain adaptation for semantic segmentation", CVPR 2020).
Only these few amplitudes of the target are used. A bank can therefore keep them, as it keeps
histograms, and the images are not needed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.colour.packed_histogram import PackedHistogram

MOST_SHARE = 0.1
"""Highest frequency that a spectrum keeps, in cycles per pixel; FDA calls it beta."""

SIDE = 128
"""Default side in pixels of the windows whose amplitudes are averaged."""

_LEAST_VALID = 0.5
_LARGEST_SIDE = 4096
_ROUNDING = 1e-9

FloatArray = NDArray[np.float64]


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

    Raises:
        ValueError: the amplitudes have another shape, or are not finite, or negative beside the
            mean.
    """

    side: int
    amplitudes: NDArray[np.float32]
    gsd_m: float | None = None

    def __post_init__(self) -> None:
        most = reach_of(self.side)
        if self.amplitudes.ndim != 3 or self.amplitudes.shape[1:] != (2 * most + 1, most + 1):
            raise ValueError(f"amplitudes of {self.amplitudes.shape} are not those of {self.side}")
        magnitudes = self.amplitudes.copy()
        magnitudes[:, most, 0] = np.abs(magnitudes[:, most, 0])
        if not (np.isfinite(magnitudes) & (magnitudes >= 0.0)).all():
            raise ValueError("amplitudes must be finite and at least 0")
        if self.gsd_m is not None and not (np.isfinite(self.gsd_m) and self.gsd_m > 0.0):
            raise ValueError("the ground sampling distance must be positive")

    @classmethod
    def of(
        cls,
        windows: Iterable[tuple[NDArray[Any], NDArray[np.bool_]]],
        side: int = SIDE,
        gsd_m: float | None = None,
    ) -> "Spectrum | None":
        """Average the amplitudes of windows, each weighted by its number of valid pixels.

        Windows of which less than half is valid are left out, unless all are. Nodata pixels count
        as the mean of the valid ones.

        Args:
            windows: pixels (height, width, bands) and their validity (height, width), of at most
                ``side`` pixels along each axis; smaller ones are continued by mirroring.
            side: side of the windows in pixels.
            gsd_m: metres per pixel of the windows.

        Returns:
            The spectrum, or None if no pixel is valid.
        """
        sums: dict[bool, Any] = {True: 0.0, False: 0.0}
        weights = {True: 0, False: 0}
        for values, valid in windows:
            count = int(valid.sum())
            if count:
                full = count >= _LEAST_VALID * side**2
                sums[full] = sums[full] + count * _amplitudes(values, valid, side)
                weights[full] += count
        full = weights[True] > 0
        if not weights[full]:
            return None
        return cls(side, (sums[full] / weights[full]).astype(np.float32), gsd_m)

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
        return cls.of(windows_of(pixels, known, side), side)

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
        return Spectrum(self.side, moved.astype(np.float32), self.gsd_m)

    def at(self, height: int, width: int, reach: int, *, gsd_m: float | None = None) -> FloatArray:
        """Return the expected magnitudes of the Fourier transform of an image of another size.

        At the size of the windows these are the stored amplitudes. Elsewhere they are interpolated
        by frequency: an image of twice the extent has four times the pixels, but, but for its mean,
        twice the magnitude at the same frequency, as holds for textures.

        Nothing is extrapolated. Waves that are longer than the windows along both axes are unknown,
        because windows cannot tell them from the mean, and so are those that are shorter than the
        shortest ones kept.

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
        rows, cols = rows * (self.side * zoom / height), cols * (self.side * zoom / width)
        mean, spread = stored[:, most, 0].copy(), self.side * zoom / np.sqrt(height * width)
        # The rounding of a frequency must not mix the mean into the waves beside it.
        stored[:, most, 0] = 0.0
        places = np.stack([rows + most, cols])
        ndimage = import_module("scipy.ndimage")
        found = np.stack(
            [ndimage.map_coordinates(each, places, order=1, mode="nearest") for each in stored]
        )
        cycles = np.maximum(np.abs(rows), cols)  # in a window, along the axis that has more
        found[:, (cycles < 1.0 - _ROUNDING) | (cycles > most + _ROUNDING)] = np.nan
        found *= spread
        found[:, reach, 0] = mean
        return np.asarray(found * (height * width))


def reach_of(side: int) -> int:
    """Return the highest frequency that is kept of windows, in cycles per window."""
    return int(np.floor(side * MOST_SHARE + _ROUNDING))


def swap_amplitudes(image: NDArray[Any], amplitudes: FloatArray) -> NDArray[np.floating[Any]]:
    """Return an image with other amplitudes at low frequencies, and its own phases.

    Args:
        image: (height, width, bands), of which float32 is computed in single precision, which takes
            half as long, and anything else in double precision.
        amplitudes: (bands, 2 reach + 1, reach + 1), as ``Spectrum.at`` returns them; where they are
            NaN, the image keeps its own.

    Returns:
        (height, width, bands) float32 or float64, a view of contiguous bands.
    """
    reach = amplitudes.shape[2] - 1
    fft = _fft()
    height, width = image.shape[:2]
    precision = np.float32 if image.dtype == np.float32 else np.float64
    planes = np.ascontiguousarray(np.moveaxis(image, -1, 0), dtype=precision)
    # The mean is left out of the transform, whose rounding would otherwise be in proportion to it.
    means = planes.mean(axis=(1, 2), dtype=np.float64)
    bands = fft.rfft2(planes - means[:, None, None].astype(precision), overwrite_x=True)
    rows = np.arange(-reach, reach + 1)
    low = bands[:, rows, : reach + 1]
    low[:, reach, 0] = means * (height * width)
    own = np.abs(low)
    # The phase of nothing is zero, and a mean is replaced with its sign.
    phases = np.divide(low, own, out=np.ones_like(low), where=own > 0.0)
    phases[:, reach, 0] = 1.0
    low = np.where(np.isnan(amplitudes), low, amplitudes * phases)
    means = low[:, reach, 0].real / (height * width)
    low[:, reach, 0] = 0.0
    bands[:, rows, : reach + 1] = low
    swapped = fft.irfft2(bands, s=(height, width), overwrite_x=True)
    swapped += means[:, None, None].astype(precision)
    return np.moveaxis(swapped, 0, -1)


def windows_of(
    image: NDArray[Any], valid: NDArray[np.bool_], side: int
) -> Iterable[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Yield an image in windows of at most ``side`` pixels, without overlap.

    Remainders at the edges are left out, unless the image is smaller than a window.
    """
    height, width = valid.shape
    for row in range(0, max(1, height - side + 1), side):
        for col in range(0, max(1, width - side + 1), side):
            part = np.s_[row : row + side, col : col + side]
            yield image[part], valid[part]


def to_arrays(spectra: Sequence[Spectrum | None], bands: int) -> dict[str, NDArray[Any]]:
    """Return the spectra of a bank's entries as a few arrays; none if no entry has one.

    Args:
        spectra: one for each entry, of windows of the same side.
        bands: number of bands.

    Returns:
        ``spectrum_side``: side of the windows; ``spectrum_gsd_m``: metres per pixel of each entry,
        NaN if unknown; ``amplitudes``: those of all entries, one after another, NaN if an entry
        has no spectrum.
    """
    side = next((each.side for each in spectra if each is not None), None)
    if side is None:
        return {}
    most = reach_of(side)
    missing = np.full((bands, 2 * most + 1, most + 1), np.nan, dtype=np.float32)
    # Files have magnitudes only. The sign of a mean is that of the mean of the histogram.
    rows = [missing if each is None else np.abs(each.amplitudes) for each in spectra]
    known = [None if each is None else each.gsd_m for each in spectra]
    return {
        "spectrum_side": np.array(side),
        "spectrum_gsd_m": np.array([np.nan if each is None else each for each in known]),
        "amplitudes": np.concatenate([each.ravel() for each in rows]),
    }


def from_arrays(
    arrays: Mapping[str, NDArray[Any]], entries: Sequence[PackedHistogram], bands: int
) -> list[Spectrum | None]:
    """Read the spectra that ``to_arrays`` returned as arrays; None for each entry without them.

    Args:
        arrays: arrays of ``to_arrays``.
        entries: histograms of the same images, from which the signs of means are known.
        bands: number of bands.

    Raises:
        ValueError: the arrays contradict each other, or do not describe spectra.
    """
    if "amplitudes" not in arrays:
        return [None] * len(entries)
    side, distances = int(arrays["spectrum_side"]), arrays["spectrum_gsd_m"].astype(np.float64)
    if not 1 <= side <= _LARGEST_SIDE:
        raise ValueError(f"its spectra are of windows of {side} pixels")
    most = reach_of(side)
    shape = (len(entries), bands, 2 * most + 1, most + 1)
    stored = arrays["amplitudes"]
    if distances.shape != (len(entries),) or stored.size != np.prod(shape):
        raise ValueError(f"its spectra do not belong to {len(entries)} images of {bands} bands")
    spectra: list[Spectrum | None] = []
    for amplitudes, gsd_m, entry in zip(
        stored.reshape(shape).astype(np.float32), distances, entries, strict=True
    ):
        if np.isnan(amplitudes).all():
            spectra.append(None)
            continue
        amplitudes[entry.negative(), most, 0] *= -1.0
        spectra.append(Spectrum(side, amplitudes, None if np.isnan(gsd_m) else float(gsd_m)))
    return spectra


def _amplitudes(values: NDArray[Any], valid: NDArray[np.bool_], side: int) -> FloatArray:
    """Return the low-frequency amplitudes of a window, as ``Spectrum.amplitudes``."""
    reach = reach_of(side)
    filled = values.astype(np.float64)
    if not valid.all():
        filled[~valid] = filled[valid].mean(axis=0)
    height, width = valid.shape
    if (height, width) != (side, side):
        filled = np.pad(filled, ((0, side - height), (0, side - width), (0, 0)), mode="symmetric")
    whole = _fft().rfft2(np.moveaxis(filled, -1, 0))[:, np.arange(-reach, reach + 1), : reach + 1]
    found = np.abs(whole)
    found[:, reach, 0] = whole[:, reach, 0].real
    return np.asarray(found / side**2)


def _fft() -> ModuleType:
    # Loading it takes as long as reading a bank, for which it is not needed.
    return import_module("scipy.fft")
