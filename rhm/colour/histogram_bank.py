"""A bank of histograms: all that is kept of a target domain's imagery.

Matching needs the target's histogram and nothing else, so the unlabelled imagery of a new city
becomes a file of a few kilobytes an image, which can be shared where the imagery cannot.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.colour.histogram import Histogram
from rhm.colour.packing import (
    PackedHistogram,
    from_arrays,
    from_json,
    is_archive,
    pool,
    read_archive,
    to_arrays,
    to_json,
    write_archive,
)
from rhm.errors import BankError, OutputError
from rhm.files import atomic_path

SAMPLING = ("uniform", "domain", "distance")
"""How entries can be weighted, by the name a configuration gives."""

UNPACKED_BYTES = 1 << 26
"""Of the histograms drawn last, so many bytes are kept unpacked: of 8 or 11 bits, hundreds."""

SUMMARY_SHARES = (0.02, 0.25, 0.5, 0.75, 0.98)
"""The cumulative shares whose quantiles a summary gives."""


class HistogramBank:
    """Histograms of images of one domain or several, one entry per image.

    Args:
        entries: one per image, all of the same number of bands; dtypes may be mixed.
        names: what each entry was made from, for people to read; the part before the last slash
            is the entry's domain. The entries' numbers by default.
        weights: each entry's chance to be drawn, up to a factor; equal by default.

    Attributes:
        entries: the packed histograms.
        names: what each entry was made from.
        weights: each entry's chance to be drawn, (entries,) float64, the largest being 1.
        bands: the number of bands.

    Raises:
        BankError: there is no entry, or one counted nothing, or the numbers of bands differ, or
            there are not as many names or weights as entries, or the weights are no chances.
    """

    def __init__(
        self,
        entries: Iterable[Histogram | PackedHistogram],
        names: Sequence[str] | None = None,
        *,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        try:
            self.entries = tuple(
                PackedHistogram.of(each) if isinstance(each, Histogram) else each
                for each in entries
            )
        except ValueError as error:
            raise BankError(f"a histogram bank cannot have {error}") from error
        if not self.entries:
            raise BankError("a histogram bank needs at least one image with valid pixels")
        bands = {entry.bands for entry in self.entries}
        if len(bands) > 1:
            raise BankError(
                f"images of {sorted(bands)} bands cannot share one bank: choose the same bands"
            )
        self.bands = bands.pop()
        self.names = tuple(map(str, range(len(self))) if names is None else names)
        if len(self.names) != len(self):
            raise BankError(f"{len(self.names)} names for {len(self)} histograms")
        chances = np.ones(len(self)) if weights is None else np.array(weights, dtype=np.float64)
        numbers = np.isfinite(chances) & (chances >= 0.0)
        if chances.shape != (len(self),) or not numbers.all():
            raise BankError(f"weights of {len(self)} histograms are as many numbers from 0 up")
        self.weights = chances / (chances.max() or 1.0)
        self.weights.flags.writeable = False
        if not all(self.weights[indices].any() for indices in self._of_dtype.values()):
            raise BankError("of each type of imagery one image needs a weight above 0")

    @classmethod
    def from_images(
        cls,
        images: Iterable[NDArray[Any]],
        nodata: float | None = None,
        *,
        names: Sequence[str] | None = None,
    ) -> "HistogramBank":
        """Build a bank from images (H, W[, C]), one at a time; nodata is not counted.

        Images without a single valid pixel are left out, with their names. Names are by default
        the images' numbers, from 0.

        Raises:
            BankError: no image has valid pixels, or the numbers of bands differ, or there are
                not as many names as images.
            TypeError: an image is of a type that has no levels.
        """
        entries: dict[int, PackedHistogram] = {}
        count = 0
        for image in images:
            histogram = Histogram.of(image, nodata)
            if histogram.pixels:
                entries[count] = PackedHistogram.of(histogram)
            count += 1
        given = [str(number) for number in range(count)] if names is None else names
        if len(given) != count:
            raise BankError(f"{len(given)} names for {count} histograms")
        return cls(entries.values(), [given[number] for number in entries])

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def histograms(self) -> tuple[Histogram, ...]:
        """Every entry's histogram, unpacked."""
        return tuple(entry.unpack() for entry in self.entries)

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """The dtypes among the entries, each once, the smallest first."""
        present = {entry.dtype for entry in self.entries}
        return tuple(sorted(present, key=lambda dtype: (dtype.itemsize, dtype.name)))

    @property
    def domains(self) -> tuple[str, ...]:
        """Each entry's domain: its name up to the last slash, or nothing."""
        return tuple(name.rpartition("/")[0] for name in self.names)

    @cached_property
    def pooled(self) -> dict[np.dtype[Any], Histogram]:
        """All pixels together, one histogram per dtype."""
        return {dtype: self._pool(indices) for dtype, indices in self._of_dtype.items()}

    @cached_property
    def by_domain(self) -> dict[tuple[str, np.dtype[Any]], Histogram]:
        """The pixels of each domain together, one histogram per dtype that it has; sorted."""
        return {kind: self._pool(indices) for kind, indices in self._of_kind.items()}

    @cached_property
    def _of_dtype(self) -> dict[np.dtype[Any], list[int]]:
        """The numbers of the entries of each dtype."""
        return {
            dtype: [index for index, each in enumerate(self.entries) if each.dtype == dtype]
            for dtype in self.dtypes
        }

    @cached_property
    def _of_kind(self) -> dict[tuple[str, np.dtype[Any]], list[int]]:
        """The numbers of the entries of each domain and dtype, sorted by these."""
        kinds: dict[tuple[str, np.dtype[Any]], list[int]] = {}
        for index, (domain, entry) in enumerate(zip(self.domains, self.entries, strict=True)):
            kinds.setdefault((domain, entry.dtype), []).append(index)
        return {
            kind: kinds[kind] for kind in sorted(kinds, key=lambda kind: (kind[0], kind[1].name))
        }

    @cached_property
    def _reached(self) -> dict[np.dtype[Any] | None, tuple[list[int], NDArray[np.float64]]]:
        """For each dtype, and for all, the numbers of the entries and their cumulative chances."""
        eligible = {None: list(range(len(self)))} | self._of_dtype
        sums = {dtype: np.cumsum(self.weights[indices]) for dtype, indices in eligible.items()}
        return {dtype: (eligible[dtype], each / each[-1]) for dtype, each in sums.items()}

    def _pool(self, indices: Iterable[int]) -> Histogram:
        return pool([self.entries[index] for index in indices])

    def merge(self, other: "HistogramBank") -> "HistogramBank":
        """Return the bank of both sets of images.

        Either bank's entries keep their chances among themselves; the two banks are drawn in
        proportion to their numbers of images.

        Raises:
            BankError: their numbers of bands differ.
        """
        return HistogramBank(
            self.entries + other.entries,
            self.names + other.names,
            weights=np.concatenate([bank.weights / bank.weights.mean() for bank in (self, other)]),
        )

    def weighted(self, by: str, reference: Histogram | None = None) -> "HistogramBank":
        """Return the bank with its entries drawn by other chances.

        Args:
            by: ``uniform``: one image is as likely as another. ``domain``: one domain is as
                likely as another, however many images it has. ``distance``: the chance grows
                with the mean over bands of the distance to ``reference``, the source imagery:
                what looks most unlike it is seen most often.
            reference: of the dtype of the entries that are to be drawn; the chance of the
                others is left at the mean.

        Raises:
            BankError: there is no such way, or ``distance`` lacks its reference, or there is no
                distance to it.
        """
        if by not in SAMPLING:
            raise BankError(f"unknown sampling '{by}': choose {', '.join(SAMPLING)}")
        chances = np.ones(len(self))
        if by == "domain":
            _, domain, sizes = np.unique(self.domains, return_inverse=True, return_counts=True)
            chances = 1.0 / sizes[domain]
        elif by == "distance":
            if reference is None:
                raise BankError("sampling by distance needs the source's histogram")
            self._check_comparable(reference)
            indices = self._of_dtype[reference.dtype]
            entries = (self.entries[index].unpack() for index in indices)
            far = np.array([each.distance(reference).mean() for each in entries])
            # Where all are the source itself there is nothing to tell them apart by.
            chances[indices] = far / far.mean() if far.any() else 1.0
        return HistogramBank(self.entries, self.names, weights=chances)

    def sample(self, *, dtype: np.dtype[Any] | None = None, rng: np.random.Generator) -> Histogram:
        """Draw one image's histogram, by the entries' ``weights``.

        Args:
            dtype: draw among the images of this dtype only.
            rng: the source of the draw.

        Raises:
            BankError: the bank holds no image of the dtype.
        """
        wanted = None if dtype is None else np.dtype(dtype)
        if wanted not in self._reached:
            raise BankError(
                f"a bank of {', '.join(map(str, self.dtypes))} imagery has no target for {dtype} "
                "images: build it from imagery of the same type"
            )
        indices, reached = self._reached[wanted]
        drawn = np.searchsorted(reached, rng.random(), side="right")
        return self._unpacked(indices[int(drawn)])

    @cached_property
    def _unpacked(self) -> Callable[[int], Histogram]:
        """Returns an entry's histogram by its number; the last ones are kept."""
        room = UNPACKED_BYTES // max(entry.unpacked_bytes for entry in self.entries)
        return lru_cache(max(room, 1))(lambda index: self.entries[index].unpack())

    def __getstate__(self) -> dict[str, Any]:
        # Another process unpacks for itself.
        return {name: value for name, value in self.__dict__.items() if name != "_unpacked"}

    def distance(self, histogram: Histogram) -> NDArray[np.float64]:
        """Return the 1-Wasserstein distance from the bank's pooled pixels to ``histogram``.

        Returns:
            (bands,) float64, in value units.

        Raises:
            BankError: the bank holds no image of the histogram's dtype and bands, or the
                histogram counted nothing.
        """
        self._check_comparable(histogram)
        return self.pooled[histogram.dtype].distance(histogram)

    def _check_comparable(self, histogram: Histogram) -> None:
        if histogram.dtype not in self._of_dtype or histogram.bands != self.bands:
            raise BankError(
                f"the bank holds {self.bands} x {', '.join(map(str, self.dtypes))}, "
                f"which has no distance to {histogram.bands} x {histogram.dtype}"
            )
        if not histogram.pixels:
            raise BankError("there is no distance to an image without valid pixels")

    def summary(self) -> dict[str, Any]:
        """Return what the bank holds, for people, as JSON-ready values.

        Per domain and dtype: images, pixels, and each band's quantiles at ``SUMMARY_SHARES``.
        """
        domains = [
            {
                "domain": domain,
                "dtype": dtype.name,
                "images": len(self._of_kind[domain, dtype]),
                "pixels": pooled.pixels,
                "quantiles": pooled.quantile(SUMMARY_SHARES).tolist(),
            }
            for (domain, dtype), pooled in self.by_domain.items()
        ]
        return {
            "images": len(self),
            "bands": self.bands,
            "quantile_shares": list(SUMMARY_SHARES),
            "domains": domains,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the bank as JSON-ready values, which ``from_dict`` reads back exactly."""
        return to_json(self._arrays())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "HistogramBank":
        """Read what ``to_dict`` wrote.

        Raises:
            BankError: the values do not describe a bank.
        """
        try:
            return cls._of_arrays(from_json(values))
        except (ValueError, BankError) as error:
            raise BankError(f"not a histogram bank: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the bank to one compressed file, complete or not at all.

        It is a ZIP archive of NumPy arrays, and of a ``summary.json`` for people; equal banks
        make equal files.

        Raises:
            OutputError: the file cannot be written.
        """
        if Path(path).is_file() and not is_archive(Path(path)):
            raise OutputError(f"{path} is there and no bank: choose another name")
        with atomic_path(path) as temporary:
            write_archive(temporary, self._arrays(), self.summary())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "HistogramBank":
        """Read a bank file; never unpickles.

        Raises:
            BankError: the file is missing, or not a bank of the version known here.
        """
        if not Path(path).is_file():
            raise BankError(f"no histogram bank at {path}: build one with `rhm bank build`")
        try:
            return cls._of_arrays(read_archive(Path(path)))
        except (ValueError, BankError) as error:
            raise BankError(
                f"{path} cannot be read as a histogram bank: {error}; "
                "build it anew with `rhm bank build`"
            ) from error

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "bands": np.array(self.bands),
            "names": np.array(self.names, dtype=np.str_),
            "weights": self.weights,
        } | to_arrays(self.entries)

    @classmethod
    def _of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "HistogramBank":
        entries = from_arrays(arrays, int(arrays["bands"]))
        return cls(entries, arrays["names"].tolist(), weights=arrays["weights"])
