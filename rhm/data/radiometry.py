"""Radiometry: from stored values to fractions of the range of the imagery, measured once.

8-bit imagery uses the full range of its type and is taken as it is. 16-bit imagery has 11, 12 or
14 significant bits, and floating-point imagery can be in any unit. Their ranges are therefore
measured from histograms, stored with the model, and applied unchanged from then on.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.levels import DTYPES, LARGEST_HALF
from rhm.colour.lookup import PixelMap
from rhm.colour.packed_histogram import PackedHistogram
from rhm.colour.shifts import HsvShift, check_band_shift, shift_of
from rhm.colour.spectra.spectrum import Spectrum
from rhm.colour.spectra.window_amplitudes import LARGEST_FACTOR
from rhm.data.rasters.gdal_options import limited_cache
from rhm.data.rasters.georeference import ONE, scale_between
from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import Window, partition, spread, spread_blocks
from rhm.errors import BankError, ConfigError, RasterError
from rhm.worker_threads import in_order, usable_cores

if TYPE_CHECKING:
    from rhm.data.sources import Source

_BLOCK_PX = 1024
_DECIMATED_PX = 1 << 22
_MOST_LOOKED_AT = 16
_CACHE_BYTES = 64 << 20
_MOST_WINDOWS = 256
_SPECTRUM_PX = 1 << 24
_READ_PX = 4096
_MOST_BLOCKS = 1 << 16
_TAIL_SHARE = 0.005
"""Share of the pixels that a measured range excludes at each end."""


@dataclass(frozen=True)
class Scaling:
    """The range of values from black to white, for each band.

    Attributes:
        dtype: data type of the imagery, by its numpy name.
        low: stored value of black in each band.
        high: stored value of white in each band.
    """

    dtype: str
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if np.dtype(self.dtype) not in DTYPES:
            known = ", ".join(map(str, DTYPES))
            raise ValueError(f"a scaling of {self.dtype} is not possible, only of {known}")
        if len(self.low) != len(self.high) or not all(
            np.isfinite([low, high]).all() and low < high
            for low, high in zip(self.low, self.high, strict=True)
        ):
            raise ValueError(f"black {self.low} must be below white {self.high} in every band")

    @classmethod
    def of_bytes(cls, bands: int) -> "Scaling":
        """Return the scaling of 8-bit imagery: the whole type."""
        return cls("uint8", (0.0,) * bands, (255.0,) * bands)

    @classmethod
    def measure(cls, histogram: Histogram) -> "Scaling":
        """Return the scaling of imagery with this histogram.

        8-bit: the full range of the type. Other types: the range of all pixels except half a
        per cent at either end; if a band is constant within it, its range spans one unit.
        """
        bands = histogram.bands
        if histogram.dtype == np.uint8:
            return cls.of_bytes(bands)
        ends = histogram.quantile([_TAIL_SHARE, 1.0 - _TAIL_SHARE]).astype(np.float64)
        lows = ends[:, 0]
        highs = np.where(ends[:, 1] > lows, ends[:, 1], lows + 1.0)
        return cls(histogram.dtype.name, tuple(lows.tolist()), tuple(highs.tolist()))

    def table(self, mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,)) -> PixelMap:
        """Return the map from stored values to normalised float32."""
        return PixelMap.normalize(self.low, self.high, self.dtype, mean=mean, std=std)

    def bytes_table(self) -> PixelMap:
        """Return the map from stored values to 8 bit, black 0 and white 255."""
        return self.into(Scaling.of_bytes(len(self.low)))

    def into(self, other: "Scaling") -> PixelMap:
        """Return the map from the values of this imagery to those of ``other``, black to black."""
        return PixelMap.stretch(
            self.low,
            self.high,
            self.dtype,
            to_low=other.low,
            to_high=other.high,
            to_dtype=other.dtype,
        )

    def line_into(self, other: "Scaling") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the gains and offsets (bands,) of the map ``into`` another imagery's values."""
        lows, highs = np.array(self.low), np.array(self.high)
        gains = (np.array(other.high) - np.array(other.low)) / (highs - lows)
        return gains, np.array(other.low) - gains * lows

    def to_dict(self) -> dict[str, Any]:
        """Return the scaling as JSON-ready values."""
        return {"dtype": self.dtype, "low": list(self.low), "high": list(self.high)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Scaling":
        """Read what ``to_dict`` wrote."""
        return cls(str(values["dtype"]), tuple(values["low"]), tuple(values["high"]))


def histogram_of(
    raster: Raster, *, max_pixels: int = 1 << 24, decimated: bool = False
) -> Histogram:
    """Count the valid pixels of a raster; the memory needed does not depend on its size.

    Args:
        raster: raster of any size.
        max_pixels: if the raster has more valid pixels, evenly spread blocks are counted until
            about this number is reached, or sixteen times as many pixels were read, most of
            which are nodata.
        decimated: whether to count at most ``max_pixels`` single pixels instead, evenly spread
            and read from overviews if the file has any.

    Returns:
        The histogram of the bands; it has counted nothing if the entire raster is nodata.

    Raises:
        RasterError: the type is not in ``rhm.colour.levels.DTYPES``, a block cannot be read, or
            floating-point values exceed the range that is binned.
    """
    if decimated:
        return _count(raster.info.path, raster.read_decimated(max_pixels))
    windows = spread_blocks(raster.info.height, raster.info.width, _BLOCK_PX, most=_MOST_BLOCKS)
    path = raster.info.path
    total, looked_at = _count(path, raster.read(next(windows))), 0
    # Each block is read once, so that nothing is gained by keeping blocks decoded.
    with limited_cache(_CACHE_BYTES):
        for window in windows:
            enough = total.pixels >= max_pixels
            if enough or (total.pixels and looked_at >= _MOST_LOOKED_AT * max_pixels):
                break
            if not raster.is_unstored(window):
                total = total.merge(_count(path, raster.read(window)))
                looked_at += window.height * window.width
    return total


def _count(path: str, pixels: Pixels) -> Histogram:
    values, valid = pixels
    if values.dtype.kind == "f" and (np.abs(values[valid]) > LARGEST_HALF).any():
        # They would all be counted, and later seen, as one value.
        raise RasterError(
            f"{path} has values beyond {LARGEST_HALF:.0f}, the limit of floating-point imagery: "
            "convert it to another unit, such as reflectance"
        )
    return pixels.histogram()


def measure_scalings(histograms: Iterable[Histogram]) -> dict[str, Scaling]:
    """Return one scaling per dtype, measured over all pixels of that dtype together.

    Raises:
        BankError: there are no histograms, or their numbers of bands differ.
    """
    pooled: dict[str, Histogram] = {}
    for histogram in histograms:
        name = histogram.dtype.name
        if any(other.bands != histogram.bands for other in pooled.values()):
            raise BankError(
                "images with different numbers of bands have no common range: choose images "
                "with the same bands"
            )
        pooled[name] = pooled[name].merge(histogram) if name in pooled else histogram
    if not pooled:
        raise BankError("no range can be measured without at least one image")
    return {name: Scaling.measure(histogram) for name, histogram in pooled.items()}


def harmonize(bank: HistogramBank, dtype: str, scalings: Mapping[str, Scaling]) -> HistogramBank:
    """Return the bank with every entry converted to ``dtype``, black to black, white to white.

    The result allows matching 8-bit training imagery to 16-bit targets, and vice versa. Names
    and weights are kept.

    Args:
        bank: histogram bank, which may mix dtypes.
        dtype: dtype of the imagery that is to be matched.
        scalings: scalings of ``dtype`` and of each dtype in the bank.
    """
    maps = {name: scaling.into(scalings[dtype]) for name, scaling in scalings.items()}
    brought = (
        entry if entry.dtype == dtype else maps[entry.dtype.name].push(entry.unpack())
        for entry in bank.entries
    )
    spectra = [
        each
        if each is None or entry.dtype == dtype
        else each.stretched(*scalings[entry.dtype.name].line_into(scalings[dtype]))
        for each, entry in zip(bank.spectra, bank.entries, strict=True)
    ]
    return HistogramBank(brought, bank.names, weights=bank.weights, spectra=spectra)


def shift_for(histogram: Histogram, family: str, name: str, *, seed: int) -> PixelMap | HsvShift:
    """Return the random pixel-wise shift of an image, within the range from 0 to its white.

    Args:
        histogram: histogram of the image.
        family: one of ``rhm.colour.shifts.SHIFTS``.
        name: name of the image; together with ``seed`` it determines the shift.
        seed: seed of the experiment.

    Raises:
        ConfigError: the family is unknown, or no value of the image is above 0.
    """
    white = max(Scaling.measure(histogram).high)
    if not white > 0.0:
        raise ConfigError(f"cannot shift the values of {name}: none is above 0")
    return shift_of(
        family, name, dtype=histogram.dtype, bands=histogram.bands, high=white, seed=seed
    )


def bank_of(
    sources: "Iterable[Source]",
    *,
    bands: Sequence[int] | None = None,
    shift: str | None = None,
    seed: int = 0,
    decimated: bool = False,
    spectrum_px: int | None = None,
    gsd_m: float | None = None,
    add: HistogramBank | None = None,
    workers: int | None = None,
    on_progress: Callable[[], None] | None = None,
) -> HistogramBank:
    """Build a histogram bank from images; labels are not used.

    Histograms are packed as soon as they are counted, so that memory grows with ``workers``, and by
    six bytes for each level of each band of an image. The bank is the same for any number of
    workers.

    Args:
        sources: images of the target domain, from a catalog or not.
        bands: 1-based indices of the bands to count; by default, all except alpha.
        shift: family of random pixel-wise shifts to apply to the images; None for no shift.
        seed: seed of the shifts.
        decimated: whether to count about four million single pixels per image, read from
            overviews if there are any, instead of up to sixteen million pixels in blocks.
        spectrum_px: side of the windows whose low-frequency amplitudes are kept for each image, in
            pixels; by default, the bank holds histograms only.
        gsd_m: metres per pixel at which these windows are read; by default, those of each image.
        add: another bank, whose images the new one has as well, before those that are counted.
        workers: number of threads that read and count; by default, one per core.
        on_progress: called after each image.

    Raises:
        BankError: no image has valid pixels, the numbers of bands differ, or a name is too long.
        ConfigError: the shift is unknown, or cannot be applied to an image.
        RasterError: an image cannot be read.
    """

    def count(source: "Source") -> tuple[str, PackedHistogram | None, Spectrum | None]:
        with source.open(bands=bands) as raster:
            histogram = (
                histogram_of(raster, max_pixels=_DECIMATED_PX, decimated=True)
                if decimated
                else histogram_of(raster)
            )
        if histogram.pixels and shift is not None:
            moved = shift_for(histogram, shift, source.name, seed=seed)
            if isinstance(moved, PixelMap):
                histogram = moved.push(histogram)
        packed = PackedHistogram.of(histogram) if histogram.pixels else None
        spectrum = None
        if packed is not None and spectrum_px is not None:
            spectrum = source_spectrum(source, bands, side=spectrum_px, gsd_m=gsd_m)
        return f"{source.domain}/{source.name}", packed, spectrum

    if spectrum_px is not None and shift is not None:
        raise ConfigError("spectra of shifted images are not measured: leave out the shift")
    if shift is not None:
        check_band_shift(shift)
    entries, names, spectra = [], [], []
    sample = None if add is None else _sample_of(add)
    for name, packed, spectrum in in_order(count, sources, workers or usable_cores()):
        if on_progress is not None:
            on_progress()
        if packed is not None:
            one = HistogramBank([packed], [name], spectra=[spectrum])
            # An image that does not go with the others ends it here, and not after all of them.
            sample = _sample_of(one if sample is None else sample.merge(one))
            entries.append(packed)
            names.append(name)
            spectra.append(spectrum)
    bank = HistogramBank(entries, names, spectra=spectra)
    return bank if add is None else add.merge(bank)


def _sample_of(bank: HistogramBank) -> HistogramBank:
    """Return a bank of one image, which has a spectrum if any image of another bank has one."""
    index = next((n for n, each in enumerate(bank.spectra) if each is not None), 0)
    return HistogramBank([bank.entries[index]], spectra=[bank.spectra[index]])


def source_spectrum(
    source: "Source", bands: Sequence[int] | None = None, *, side: int, gsd_m: float | None
) -> Spectrum | None:
    """Average the low-frequency amplitudes of evenly spread windows of an image.

    Args:
        source: image of any size.
        bands: 1-based indices of the bands; by default, all except alpha.
        side: side of a window in pixels; there are also windows of other sides.
        gsd_m: metres per pixel at which the windows are read; None for those of the image.

    Returns:
        The spectrum, or None if none of the windows has a valid pixel.

    Raises:
        RasterError: the image cannot be read.
    """
    with source.open(bands=bands) as raster:
        own, aspect = raster.info.gsd_m or source.gsd_m, raster.info.pixel_aspect
    scale = scale_between(own, gsd_m or own, aspect)
    with source.open(scale, bands=bands) as raster:
        read_at = own if scale == ONE else gsd_m or own
        blocks = _blocks(raster, side, max(side, int(_READ_PX * min(1.0, *scale))))
        return Spectrum.of(_windows(raster, side), side, read_at, blocks=blocks)


def _windows(raster: Raster, side: int) -> Iterator[Pixels]:
    """Yield evenly spread windows of a raster that have valid pixels."""
    height, width, known, looked_at = raster.info.height, raster.info.width, 0, 0
    rows, cols = max(1, height // side), max(1, width // side)
    for row, col in (divmod(index, cols) for index in spread(rows * cols)):
        window = Window(row * side, col * side, min(side, height), min(side, width))
        if known >= _MOST_WINDOWS or looked_at >= _MOST_LOOKED_AT * _MOST_WINDOWS:
            return
        if not raster.is_unstored(window):
            pixels = raster.read(window)
            known += int(pixels.valid.any())
            looked_at += 1
            yield pixels


def _blocks(raster: Raster, side: int, at_once: int) -> Iterator[Pixels]:
    """Yield evenly spread blocks of a raster, larger than windows, until enough is valid."""
    height, width, known, looked_at = raster.info.height, raster.info.width, 0, 0
    windows = spread_blocks(height, width, LARGEST_FACTOR * side, most=_MOST_BLOCKS)
    for window in windows if min(height, width) >= 2 * side else ():
        if known >= _SPECTRUM_PX or looked_at >= _MOST_LOOKED_AT * _SPECTRUM_PX:
            return
        if not raster.is_unstored(window):
            pixels = _read_in_parts(raster, window, at_once)
            known += int(pixels.valid.sum())
            looked_at += pixels.valid.size
            yield pixels


def _read_in_parts(raster: Raster, window: Window, size: int) -> Pixels:
    """Read a window in parts of ``size``, so that memory has a bound where many pixels make one."""
    if size >= max(window.height, window.width):
        return raster.read(window)
    info = raster.info
    pixels = Pixels.blank(window.height, window.width, len(info.bands), info.dtype)
    for part in partition(window.height, window.width, size):
        place = Window(window.row + part.row, window.col + part.col, part.height, part.width)
        pixels.put(raster.read(place), part)
    return pixels
