"""Radiometry: from stored values to shares of the imagery's range, measured once.

8-bit imagery fills its type and is taken as it is. 16-bit imagery holds 11, 12 or 14 bits
somewhere in its type, so its range is measured from histograms, stored with the model, and
applied identically ever after.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rhm.bank import HistogramBank
from rhm.data.catalog import Source
from rhm.data.raster import Raster
from rhm.data.windows import Window, partition
from rhm.histogram import DTYPES, Histogram
from rhm.lookup import PixelMap
from rhm.shifts import shift_of

_BLOCK_PX = 1024
_GOLDEN_SHARE = (5**0.5 - 1) / 2
_TAIL_SHARE = 0.005
"""Share of the pixels that a measured range leaves out at each end."""


@dataclass(frozen=True)
class Scaling:
    """The range of values, per band, that is black to white.

    Attributes:
        dtype: numpy's name of the imagery's type.
        low: black, in value units, one per band.
        high: white, in value units, one per band.
    """

    dtype: str
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if np.dtype(self.dtype) not in DTYPES:
            raise ValueError(f"no scaling of {self.dtype}: only of uint8 and uint16")
        if len(self.low) != len(self.high) or not all(
            np.isfinite([low, high]).all() and low < high
            for low, high in zip(self.low, self.high, strict=True)
        ):
            raise ValueError(f"black {self.low} is not below white {self.high} in every band")

    @classmethod
    def measure(cls, histogram: Histogram) -> "Scaling":
        """Return the scaling of imagery with this histogram.

        8-bit: the whole type. 16-bit: all but half a percent of the pixels at either end.
        """
        bands = histogram.bands
        if histogram.dtype == np.uint8:
            return cls("uint8", (0.0,) * bands, (255.0,) * bands)
        ends = histogram.quantile([_TAIL_SHARE, 1.0 - _TAIL_SHARE]).astype(np.float64)
        lows = ends[:, 0]
        highs = np.maximum(ends[:, 1], lows + 1.0)
        return cls(histogram.dtype.name, tuple(lows.tolist()), tuple(highs.tolist()))

    def table(self, mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,)) -> PixelMap:
        """Return the map from stored values to normalised float32."""
        return PixelMap.normalize(self.low, self.high, self.dtype, mean=mean, std=std)

    def bytes_table(self) -> PixelMap:
        """Return the map from stored values to 8 bit, black 0 and white 255."""
        return self.into(Scaling("uint8", (0.0,) * len(self.low), (255.0,) * len(self.low)))

    def into(self, other: "Scaling") -> PixelMap:
        """Return the map from this imagery's values to those of ``other``'s, black to black."""
        shares = self.table().tables.astype(np.float64)
        low, high = (np.asarray(ends)[:, None] for ends in (other.low, other.high))
        return PixelMap(np.rint(low + shares * (high - low)).astype(other.dtype))

    def to_dict(self) -> dict[str, Any]:
        """Return the scaling as JSON-ready values."""
        return {"dtype": self.dtype, "low": list(self.low), "high": list(self.high)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Scaling":
        """Read what ``to_dict`` wrote."""
        return cls(str(values["dtype"]), tuple(values["low"]), tuple(values["high"]))


def histogram_of(raster: Raster, *, max_pixels: int = 1 << 24) -> Histogram:
    """Count a raster's valid pixels, in blocks; memory does not depend on its size.

    Rasters of more than ``max_pixels`` valid pixels are counted on evenly spread blocks, until
    about that many are counted.

    Returns:
        The histogram of its bands; counts nothing when all of it is nodata.

    Raises:
        RasterError: the type is not uint8 or uint16, or a block cannot be read.
    """
    windows = list(partition(raster.info.height, raster.info.width, _BLOCK_PX))
    # Multiples of the golden ratio, modulo 1, lie evenly however many of them are taken.
    order = np.argsort(np.arange(len(windows)) * _GOLDEN_SHARE % 1.0)
    total = _count(raster, windows[order[0]])
    for index in order[1:]:
        if total.pixels >= max_pixels:
            break
        total = total.merge(_count(raster, windows[index]))
    return total


def _count(raster: Raster, window: Window) -> Histogram:
    pixels, valid = raster.read(window)
    return Histogram.of(pixels, valid=valid)


def measure_scalings(histograms: Iterable[Histogram]) -> dict[str, Scaling]:
    """Return one scaling per dtype, measured over all pixels of that dtype together.

    Raises:
        BankError: there is no histogram, or the numbers of bands differ.
    """
    pooled = HistogramBank(tuple(histograms)).pooled
    return {dtype.name: Scaling.measure(histogram) for dtype, histogram in pooled.items()}


def harmonize(bank: HistogramBank, dtype: str, scalings: Mapping[str, Scaling]) -> HistogramBank:
    """Return the bank with every entry brought to ``dtype``, black to black, white to white.

    With it 8-bit training imagery can be matched to 16-bit targets and the other way round.

    Args:
        bank: may mix dtypes.
        dtype: of the imagery that is to be matched.
        scalings: one for ``dtype`` and one for each dtype in the bank.
    """
    maps = {name: scaling.into(scalings[dtype]) for name, scaling in scalings.items()}
    brought = tuple(
        h if h.dtype.name == dtype else maps[h.dtype.name].push(h) for h in bank.histograms
    )
    return HistogramBank(brought, bank.names)


def shift_for(histogram: Histogram, family: str, name: str, *, seed: int) -> PixelMap:
    """Return the random pixel-wise shift of an image, within the range that it uses.

    Args:
        histogram: of the image.
        family: one of ``rhm.shifts.SHIFTS``.
        name: of the image; with ``seed`` it decides the shift.
        seed: of the experiment.

    Raises:
        ConfigError: the family is unknown.
    """
    white = max(Scaling.measure(histogram).high)
    return shift_of(
        family, name, dtype=histogram.dtype, bands=histogram.bands, high=white, seed=seed
    )


def bank_of(
    sources: Iterable[Source],
    *,
    bands: Sequence[int] | None = None,
    shift: str | None = None,
    seed: int = 0,
    on_progress: Callable[[], None] | None = None,
) -> HistogramBank:
    """Build a bank of images, one at a time; labels are not looked at.

    Args:
        sources: images of the target domain, catalogued or not.
        bands: 1-based indices of the bands to count; all but alpha by default.
        shift: family of random pixel-wise shifts under which the images are seen, if any.
        seed: of the shifts.
        on_progress: called after each image.

    Raises:
        BankError: no image has valid pixels, or the numbers of bands differ.
        RasterError: an image cannot be read.
    """
    histograms, names = [], []
    for source in sources:
        with source.open(bands=bands) as raster:
            histogram = histogram_of(raster)
        if on_progress is not None:
            on_progress()
        if not histogram.pixels:
            continue
        if shift is not None:
            histogram = shift_for(histogram, shift, source.name, seed=seed).push(histogram)
        histograms.append(histogram)
        names.append(f"{source.domain}/{source.name}")
    return HistogramBank(tuple(histograms), tuple(names))
