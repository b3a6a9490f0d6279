"""The stored form of the spectra of a bank: a few plain arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.colour.packed_histogram import PackedHistogram
from rhm.colour.spectra.spectrum import Spectrum
from rhm.colour.spectra.window_amplitudes import other_sides, reach_of, shape_of_other

_LARGEST_SIDE = 4096
_MOST_SIDES = 16  # that a message lists


def to_arrays(spectra: Sequence[Spectrum | None], bands: int) -> dict[str, NDArray[Any]]:
    """Return the spectra of a bank's entries as a few arrays; none if no entry has one.

    Args:
        spectra: one for each entry, of windows of the same side.
        bands: number of bands.

    Returns:
        ``spectrum_side``: side of the windows; ``spectrum_gsd_m``: metres per pixel of each entry,
        NaN if unknown; ``amplitudes``: those of all entries, one after another, NaN if an entry
        has no spectrum. ``other_sides`` and ``other_amplitudes``: sides of the other windows, and
        the amplitudes of each entry at all of these, NaN if it has none; left out if there are
        none at all.
    """
    side = next((each.side for each in spectra if each is not None), None)
    if side is None:
        return {}
    most = reach_of(side)
    missing = np.full((bands, 2 * most + 1, most + 1), np.nan, dtype=np.float32)
    # Files have magnitudes only. The sign of a mean is that of the mean of the histogram.
    rows = [missing if each is None else np.abs(each.amplitudes) for each in spectra]
    known = [None if each is None else each.gsd_m for each in spectra]
    sides = sorted({size for each in spectra if each is not None for size in each.others})
    absent = [np.full((bands, *shape_of_other(size, side)), np.nan, "float32") for size in sides]
    others: list[NDArray[Any]] = [
        none if each is None else each.others.get(size, none)
        for each in spectra
        for size, none in zip(sides, absent, strict=True)
    ]
    arrays = {
        "spectrum_side": np.array(side),
        "spectrum_gsd_m": np.array([np.nan if each is None else each for each in known]),
        "amplitudes": np.concatenate([each.ravel() for each in rows]),
    }
    if sides:
        arrays["other_sides"] = np.array(sides)
        arrays["other_amplitudes"] = np.concatenate([each.ravel() for each in others])
    return arrays


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
    others = _others_of(arrays, len(entries), bands, side)
    spectra: list[Spectrum | None] = []
    for amplitudes, gsd_m, entry, more in zip(
        stored.reshape(shape).astype(np.float32), distances, entries, others, strict=True
    ):
        if np.isnan(amplitudes).all():
            spectra.append(None)
            continue
        amplitudes[entry.negative(), most, 0] *= -1.0
        known = None if np.isnan(gsd_m) else float(gsd_m)
        spectra.append(Spectrum(side, amplitudes, known, more))
    return spectra


def _others_of(
    arrays: Mapping[str, NDArray[Any]], count: int, bands: int, side: int
) -> list[dict[int, NDArray[np.float32]]]:
    """Return the amplitudes of the other windows of each of ``count`` entries, by their side."""
    if "other_sides" not in arrays and "other_amplitudes" not in arrays:
        return [{} for _ in range(count)]
    sides, stored = arrays["other_sides"].tolist(), arrays["other_amplitudes"]
    smaller, larger = other_sides(side)
    if not sides or len(set(sides)) < len(sides) or not {*smaller, *larger} >= set(sides):
        raise ValueError(f"its spectra have other windows of {sides[:_MOST_SIDES]} pixels")
    shapes = [(bands, *shape_of_other(each, side)) for each in sides]
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    if stored.size != count * ends[-1]:
        raise ValueError(f"its other windows do not belong to {count} images of {bands} bands")
    found = []
    for row in stored.reshape(count, ends[-1]).astype(np.float32):
        parts = zip(sides, shapes, np.split(row, ends[:-1]), strict=True)
        each = {size: part.reshape(shape) for size, shape, part in parts}
        found.append({size: part for size, part in each.items() if not np.isnan(part).all()})
    return found
