"""The histogram bank: the only information about target imagery that training needs.

Matching uses nothing but the histogram of the target, so a bank stores the unlabelled imagery of
a new city in some ten kilobytes per image. It can be shared even where the imagery cannot.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.colour import bank_file
from rhm.colour.bank_summary import facts_of, picture_of, summary_of
from rhm.colour.histogram import Histogram, valid_pixels
from rhm.colour.packed_histogram import PackedHistogram, from_arrays, pool, to_arrays
from rhm.colour.spectra import stored_spectra
from rhm.colour.spectra.spectrum import Spectrum
from rhm.errors import BankError
from rhm.files import atomic_path
from rhm.notebook_display import Curves, NotebookDisplay
from rhm.required_files import require_bank

SAMPLING = ("uniform", "domain", "distance")
"""Ways to weight the entries of a bank, by their names in a configuration."""

UNPACKED_BYTES = 1 << 26
"""Memory for unpacked histograms that were drawn last: hundreds of 8-bit or 11-bit images."""


class HistogramBank(NotebookDisplay):
    """Histograms of the images of one or several domains, one entry per image.

    Args:
        entries: one histogram per image, all with the same number of bands; dtypes may differ.
        names: readable name of each entry, whose part before the last slash is its domain; by
            default the numbers of the entries.
        weights: relative probability of drawing each entry; equal by default.
        spectra: low-frequency amplitudes of the image of each entry, or None for images without
            them; by default there are none.

    Attributes:
        entries: packed histograms.
        names: names of the entries.
        weights: relative probability of drawing each entry, (entries,) float64; the largest is 1.
        spectra: spectrum of each entry, or None.
        bands: number of bands.

    Raises:
        BankError: there are no entries, an entry has no pixels, the entries differ in their number
            of bands, the numbers of names or weights differ from that of the entries, or the
            weights are negative, not finite, or all zero for a dtype.
    """

    def __init__(
        self,
        entries: Iterable[Histogram | PackedHistogram],
        names: Sequence[str] | None = None,
        *,
        weights: NDArray[np.float64] | None = None,
        spectra: Sequence[Spectrum | None] | None = None,
    ) -> None:
        try:
            self.entries = tuple(
                PackedHistogram.of(entry) if isinstance(entry, Histogram) else entry
                for entry in entries
            )
        except ValueError as error:
            raise BankError(f"cannot build a histogram bank: {error}") from error
        if not self.entries:
            raise BankError("a histogram bank needs at least one image with valid pixels")
        bands = {entry.bands for entry in self.entries}
        if len(bands) > 1:
            raise BankError(
                f"images with {sorted(bands)} bands cannot share one bank: choose images with the "
                "same bands"
            )
        self.bands = bands.pop()
        self.names = tuple(map(str, range(len(self))) if names is None else names)
        if len(self.names) != len(self):
            raise BankError(f"expected {len(self)} names, one per image, got {len(self.names)}")
        bank_file.check_names(self.names)
        self.spectra = (None,) * len(self) if spectra is None else tuple(spectra)
        sides = {each.side for each in self.spectra if each is not None}
        fitting = all(each is None or each.bands == self.bands for each in self.spectra)
        if len(self.spectra) != len(self) or len(sides) > 1 or not fitting:
            raise BankError(
                "spectra must be one per image, with its bands, and of windows of one size"
            )
        chances = np.ones(len(self)) if weights is None else np.array(weights, dtype=np.float64)
        numbers = np.isfinite(chances) & (chances >= 0.0)
        if chances.shape != (len(self),) or not numbers.all():
            raise BankError(f"weights must be {len(self)} finite numbers of at least 0")
        self.weights = chances / (chances.max() or 1.0)
        self.weights.flags.writeable = False
        if not all(self.weights[indices].any() for indices in self._of_dtype.values()):
            raise BankError("at least one image of each dtype must have a weight above 0")

    @classmethod
    def from_images(
        cls,
        images: Iterable[NDArray[Any]],
        nodata: float | None = None,
        *,
        names: Sequence[str] | None = None,
        spectrum_px: int | None = None,
    ) -> "HistogramBank":
        """Build a bank from images, one at a time.

        Images without valid pixels are left out together with their names.

        Args:
            images: (H, W) or (H, W, C) images.
            nodata: value of pixels that are not counted if all their bands have it.
            names: name of each image; by default its number, counted from 0.
            spectrum_px: side of the windows whose low-frequency amplitudes the bank also keeps, in
                pixels; by default it keeps none.

        Raises:
            BankError: no image has valid pixels, the images differ in their number of bands, or
                there are more or fewer names than images.
            TypeError: the dtype of an image is not supported, or it is a masked array.
        """
        entries: dict[int, PackedHistogram] = {}
        spectra = []
        count = 0
        for image in images:
            histogram = Histogram.of(image, nodata)
            if histogram.pixels:
                entries[count] = PackedHistogram.of(histogram)
                valid = valid_pixels(image, nodata)
                found = Spectrum.of_image(image, valid, spectrum_px) if spectrum_px else None
                spectra.append(found)
            count += 1
        given = [str(number) for number in range(count)] if names is None else names
        if len(given) != count:
            raise BankError(f"expected {count} names, one per image, got {len(given)}")
        return cls(entries.values(), [given[number] for number in entries], spectra=spectra)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def histograms(self) -> tuple[Histogram, ...]:
        """Unpacked histogram of every entry."""
        return tuple(entry.unpack() for entry in self.entries)

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """Distinct dtypes of the entries, smallest first."""
        present = {entry.dtype for entry in self.entries}
        return tuple(sorted(present, key=lambda dtype: (dtype.itemsize, dtype.name)))

    @property
    def domains(self) -> tuple[str, ...]:
        """Domain of each entry: its name up to the last slash, or an empty string."""
        return tuple(name.rpartition("/")[0] for name in self.names)

    @cached_property
    def pooled(self) -> dict[np.dtype[Any], Histogram]:
        """Histogram of all pixels together, for each dtype."""
        return {dtype: self._pool(indices) for dtype, indices in self._of_dtype.items()}

    @cached_property
    def by_domain(self) -> dict[tuple[str, np.dtype[Any]], Histogram]:
        """Histogram of the pixels of each domain together, by domain and dtype, sorted."""
        return {kind: self._pool(indices) for kind, indices in self._of_kind.items()}

    @cached_property
    def _of_dtype(self) -> dict[np.dtype[Any], list[int]]:
        """Indices of the entries of each dtype."""
        return {
            dtype: [index for index, entry in enumerate(self.entries) if entry.dtype == dtype]
            for dtype in self.dtypes
        }

    @cached_property
    def _of_kind(self) -> dict[tuple[str, np.dtype[Any]], list[int]]:
        """Indices of the entries of each domain and dtype, sorted by domain and dtype."""
        kinds: dict[tuple[str, np.dtype[Any]], list[int]] = {}
        for index, (domain, entry) in enumerate(zip(self.domains, self.entries, strict=True)):
            kinds.setdefault((domain, entry.dtype), []).append(index)
        return {
            kind: kinds[kind] for kind in sorted(kinds, key=lambda kind: (kind[0], kind[1].name))
        }

    @cached_property
    def _reached(self) -> dict[np.dtype[Any] | None, tuple[list[int], NDArray[np.float64]]]:
        """For each dtype, and for all (None): indices of entries and cumulative probabilities."""
        eligible = {None: list(range(len(self)))} | self._of_dtype
        sums = {dtype: np.cumsum(self.weights[indices]) for dtype, indices in eligible.items()}
        return {dtype: (eligible[dtype], total / total[-1]) for dtype, total in sums.items()}

    def _pool(self, indices: Iterable[int]) -> Histogram:
        return pool([self.entries[index] for index in indices])

    def merge(self, other: "HistogramBank") -> "HistogramBank":
        """Return a bank with the images of both.

        The relative weights within each bank are kept, and the two banks are drawn in proportion
        to their numbers of images.

        Raises:
            BankError: the banks differ in their number of bands.
        """
        return HistogramBank(
            self.entries + other.entries,
            self.names + other.names,
            weights=np.concatenate([bank.weights / bank.weights.mean() for bank in (self, other)]),
            spectra=self.spectra + other.spectra,
        )

    def weighted(self, by: str, reference: Histogram | None = None) -> "HistogramBank":
        """Return a bank with the same entries and other weights.

        Args:
            by: ``uniform`` gives all images the same probability. ``domain`` gives all domains
                the same probability among the images of each dtype, however many they have; these
                keep their weights relative to one another. ``distance`` makes the probability
                proportional to the distance from ``reference``, averaged over the bands, so that
                images unlike the source imagery are drawn most often.
            reference: histogram of the source imagery. Only entries of its dtype are weighted by
                distance; the others keep the mean weight.

        Raises:
            BankError: the way of sampling is unknown, the reference is missing, or its dtype or
                bands differ from those of the bank.
        """
        if by not in SAMPLING:
            raise BankError(f"unknown sampling '{by}': choose {', '.join(SAMPLING)}")
        chances = np.ones(len(self))
        if by == "domain":
            for indices in self._of_kind.values():
                total = np.cumsum(self.weights[indices])[-1]
                # A domain without any weight is not drawn from.
                chances[indices] = self.weights[indices] / (total or 1.0)
        elif by == "distance":
            if reference is None:
                raise BankError("sampling by distance needs the histogram of the source imagery")
            self._check_comparable(reference)
            indices = self._of_dtype[reference.dtype]
            entries = (self.entries[index].unpack() for index in indices)
            far = np.array([entry.distance(reference).mean() for entry in entries])
            # If all entries equal the source imagery, they keep equal weights.
            chances[indices] = far / far.mean() if far.any() else 1.0
        return HistogramBank(self.entries, self.names, weights=chances, spectra=self.spectra)

    def sample(self, *, dtype: np.dtype[Any] | None = None, rng: np.random.Generator) -> Histogram:
        """Draw the histogram of one image, with probabilities in proportion to ``weights``.

        Args:
            dtype: dtype of the images to draw from; all images by default.
            rng: random generator.

        Raises:
            BankError: the bank holds no image of this dtype.
        """
        return self._unpacked(self._draw(dtype, rng))

    def sample_spectrum(
        self, *, dtype: np.dtype[Any] | None = None, rng: np.random.Generator
    ) -> Spectrum:
        """Draw the spectrum of one image, with probabilities in proportion to ``weights``.

        Raises:
            BankError: the bank holds no image of this dtype, or the image has no spectrum.
        """
        drawn = self.spectra[self._draw(dtype, rng)]
        if drawn is None:
            raise BankError(
                "the bank holds images without spectra: build it with `rhm bank build`, without "
                "--no-spectrum"
            )
        return drawn

    def _draw(self, dtype: np.dtype[Any] | None, rng: np.random.Generator) -> int:
        """Draw the index of an entry."""
        wanted = None if dtype is None else np.dtype(dtype)
        if wanted not in self._reached:
            raise BankError(
                f"the bank holds {', '.join(map(str, self.dtypes))} images and no target for "
                f"{dtype} images: build it from imagery of the same dtype"
            )
        indices, reached = self._reached[wanted]
        return indices[int(np.searchsorted(reached, rng.random(), side="right"))]

    @cached_property
    def _unpacked(self) -> Callable[[int], Histogram]:
        """Function that unpacks the entry of an index, and caches the latest results."""
        room = UNPACKED_BYTES // max(entry.unpacked_bytes for entry in self.entries)
        return lru_cache(max(room, 1))(lambda index: self.entries[index].unpack())

    def __getstate__(self) -> dict[str, Any]:
        # The cache cannot be pickled, and another process makes its own.
        return {name: value for name, value in self.__dict__.items() if name != "_unpacked"}

    def distance(self, histogram: Histogram) -> NDArray[np.float64]:
        """Return the 1-Wasserstein distance between the pooled pixels of the bank and a histogram.

        Returns:
            (bands,) float64 distances in value units.

        Raises:
            BankError: the bank holds no image of the same dtype and number of bands, or the
                histogram has no pixels.
        """
        self._check_comparable(histogram)
        return self.pooled[histogram.dtype].distance(histogram)

    def _check_comparable(self, histogram: Histogram) -> None:
        if histogram.dtype not in self._of_dtype or histogram.bands != self.bands:
            raise BankError(
                f"a bank of {self.bands} x {', '.join(map(str, self.dtypes))} "
                f"cannot be compared with imagery of {histogram.bands} x {histogram.dtype}"
            )
        if not histogram.pixels:
            raise BankError("a bank cannot be compared with an image without valid pixels")

    def summary(self) -> dict[str, Any]:
        """Return a readable summary of the bank as JSON-ready values.

        It lists the images, the pixels and the quantiles of each band at ``bank_summary.SHARES``,
        by domain and dtype.
        """
        # One after another: those of many domains take far more memory than the bank.
        kinds = ((name, len(each), self._pool(each)) for (name, _), each in self._of_kind.items())
        return summary_of(self.bands, kinds)

    def _facts(self) -> dict[str, object]:
        return facts_of(self.summary())

    def _picture(self) -> Curves:
        return picture_of(self.pooled[max(self.dtypes, key=lambda each: len(self._of_dtype[each]))])

    def to_dict(self) -> dict[str, Any]:
        """Return the bank as JSON-ready values, which ``from_dict`` reads back exactly.

        Raises:
            BankError: the bank is too large to be read again.
        """
        return bank_file.to_json(self._arrays())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "HistogramBank":
        """Restore a bank from the values that ``to_dict`` returned.

        Raises:
            BankError: the values do not describe a bank.
        """
        try:
            return cls._of_arrays(bank_file.from_json(values))
        except (ValueError, BankError) as error:
            raise BankError(f"not a histogram bank: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the bank to one compressed file, either completely or not at all.

        It is a ZIP archive of NumPy arrays with a ``summary.json``; equal banks give equal files.

        Raises:
            OutputError: the file cannot be written, or exists and is not a bank.
            BankError: the bank is too large to be read again.
        """
        bank_file.check_target(Path(path))
        with atomic_path(path) as temporary:
            bank_file.write_archive(temporary, self._arrays(), self.summary())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "HistogramBank":
        """Read a bank from a file, without ever unpickling.

        Raises:
            BankError: the file is missing, not a bank, or has another version.
        """
        require_bank(path)
        try:
            return cls._of_arrays(bank_file.read_archive(Path(path)))
        except (ValueError, BankError) as error:
            how = "build it again with `rhm bank build`"
            raise BankError(f"{path} cannot be read as a histogram bank: {error}; {how}") from error

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "bands": np.array(self.bands),
            "names": np.array(self.names, dtype=np.str_),
            "weights": self.weights,
            **to_arrays(self.entries),
            **stored_spectra.to_arrays(self.spectra, self.bands),
        }

    @classmethod
    def _of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "HistogramBank":
        bands = int(arrays["bands"])
        entries = from_arrays(arrays, bands)
        spectra = stored_spectra.from_arrays(arrays, entries, bands)
        return cls(entries, arrays["names"].tolist(), weights=arrays["weights"], spectra=spectra)
