"""Packed histograms: what a bank keeps of an image, a few kilobytes, and how that is stored.

Of each band the levels that are present and their counts: all of them up to 11 bits, and beyond
that those at evenly spaced quantiles, between which matching interpolates. Many entries are
stored as a few plain arrays, in a ZIP archive or in JSON.
"""

import base64
import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rhm.colour.histogram import Histogram
from rhm.colour.levels import DTYPES, levels_of

EXACT_LEVELS = 2048
"""A band of at most so many present levels, as 11-bit imagery has, is kept as it is."""

QUANTILES = 512
"""Of a band with more levels, those at so many evenly spaced cumulative shares are kept."""

FORMAT = 2
"""Version of the stored form; a reader refuses other versions."""

_SUMMARY = "summary.json"

# What is stored: the kinds of type that each array may have, and its dimensions.
_ARRAYS = {
    "bands": ("iu", 0),
    "names": ("U", 1),
    "weights": ("f", 1),
    "dtypes": ("U", 1),
    "sizes": ("iu", 1),
    "steps": ("iu", 1),
    "counts": ("iu", 1),
}

# The arrays that are too long to be lists of numbers in JSON.
_LONG = ("sizes", "steps", "counts")

# What numpy, zipfile and zlib raise on bytes that are not what they claim to be.
_UNREADABLE = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)

# Sums over tens of thousands of such entries still fit into 64 bits.
_MOST_PIXELS = 1 << 48

# Some hundred thousand images of a few kB each; a small file may claim to hold any amount.
_MOST_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class PackedHistogram:
    """A histogram's present levels and their counts.

    Attributes:
        dtype: the imagery's type.
        levels: per band, (P,) int64 rising numbers of the levels that are present.
        counts: per band, (P,) int64 counts of at least 1, with the same sum in every band.

    Raises:
        ValueError: the levels or counts are not such.
        TypeError: the type has no levels.
    """

    dtype: np.dtype[Any]
    levels: tuple[NDArray[np.int64], ...]
    counts: tuple[NDArray[np.int64], ...]

    def __post_init__(self) -> None:
        limit = levels_of(self.dtype)
        if not self.levels or len(self.levels) != len(self.counts):
            raise ValueError("an entry without bands, or of levels without counts")
        for levels, counts in zip(self.levels, self.counts, strict=True):
            if not levels.size or levels.shape != counts.shape:
                raise ValueError("an entry without pixels, or of levels without counts")
            # Differences of what is out of range may overflow, and seem to rise.
            if levels.min() < 0 or levels.max() >= limit or (np.diff(levels) <= 0).any():
                raise ValueError(f"an entry of levels that do not rise within {self.dtype}")
            if counts.min() < 1 or counts.sum(dtype=np.float64) > _MOST_PIXELS:
                raise ValueError("an entry of counts that are no numbers of pixels")
        if len({int(counts.sum()) for counts in self.counts}) > 1:
            raise ValueError("an entry of bands with unequal numbers of pixels")

    @classmethod
    def of(cls, histogram: Histogram) -> Self:
        """Pack a histogram that counted at least one pixel.

        A band of more than ``EXACT_LEVELS`` present levels keeps the levels at ``QUANTILES``
        evenly spaced cumulative shares, its lowest and its highest. Each takes up the pixels of
        those left out below it: the cumulative share at every kept level is exact, and at any
        other short by less than one part in ``QUANTILES``.

        Raises:
            ValueError: the histogram counted nothing.
        """
        if not histogram.pixels:
            raise ValueError("an entry that counted nothing")
        levels, counts = [], []
        for of_band in histogram.counts:
            present = np.flatnonzero(of_band)
            reached = np.cumsum(of_band[present])
            if present.size > EXACT_LEVELS:
                wanted = np.arange(1, QUANTILES) * (reached[-1] / QUANTILES)
                kept = np.unique([0, *np.searchsorted(reached, wanted), present.size - 1])
                present, reached = present[kept], reached[kept]
            levels.append(present + histogram.first)
            counts.append(np.diff(reached, prepend=0))
        return cls(histogram.dtype, tuple(levels), tuple(counts))

    @property
    def bands(self) -> int:
        """The number of bands."""
        return len(self.levels)

    @property
    def unpacked_bytes(self) -> int:
        """About the memory that the histogram takes, with what it keeps of itself when used."""
        first = min(int(of_band[0]) for of_band in self.levels)
        last = max(int(of_band[-1]) for of_band in self.levels)
        present = sum(of_band.size for of_band in self.levels)
        return 8 * max(last - first + 1, 256) * self.bands + 16 * present

    def unpack(self) -> Histogram:
        """Return the histogram."""
        return pool([self])


def pool(entries: Sequence[PackedHistogram]) -> Histogram:
    """Return the histogram of the pixels of all ``entries``, of one dtype and number of bands."""
    dtype, bands = entries[0].dtype, entries[0].bands
    first, last = 0, 255
    if levels_of(dtype) > 256:
        first = min(int(levels[0]) for entry in entries for levels in entry.levels)
        last = max(int(levels[-1]) for entry in entries for levels in entry.levels)
    pooled = np.zeros((bands, last - first + 1), dtype=np.int64)
    for entry in entries:
        for band, (levels, counts) in enumerate(zip(entry.levels, entry.counts, strict=True)):
            pooled[band, levels - first] += counts
    return Histogram(pooled, dtype, first)


def to_arrays(entries: Sequence[PackedHistogram]) -> dict[str, NDArray[Any]]:
    """Return entries of equally many bands as a few arrays, which compress well.

    ``dtypes`` holds the name of each entry's type, ``sizes`` the number of levels of each band
    of each entry, ``steps`` the first of these levels and then the differences from level to
    level, and ``counts`` the counts.
    """
    levels = [of_band for entry in entries for of_band in entry.levels]
    counts = np.concatenate([of_band for entry in entries for of_band in entry.counts])
    steps = np.concatenate([np.diff(of_band, prepend=0) for of_band in levels])
    return {
        "dtypes": np.array([entry.dtype.name for entry in entries]),
        "sizes": np.array([of_band.size for of_band in levels]),
        "steps": steps.astype(np.uint16),
        "counts": counts.astype(np.min_scalar_type(int(counts.max()))),
    }


def from_arrays(arrays: Mapping[str, NDArray[Any]], bands: int) -> list[PackedHistogram]:
    """Read what ``to_arrays`` wrote: a row of texts, and three rows of integers.

    Raises:
        ValueError: the arrays contradict each other, or do not describe histograms.
    """
    sizes, steps, counts = (arrays[each].astype(np.int64) for each in ("sizes", "steps", "counts"))
    dtypes = [_dtype(name) for name in arrays["dtypes"].tolist()]
    if bands < 1 or sizes.size != bands * len(dtypes) or (sizes < 1).any():
        raise ValueError(f"its sizes are not those of {bands} bands of {len(dtypes)} images")
    if not sizes.sum() == steps.size == counts.size:
        raise ValueError("its levels, counts and sizes contradict each other")
    ends = np.cumsum(sizes)[:-1]
    levels_by_band = [np.cumsum(each) for each in np.split(steps, ends)]
    counts_by_band = np.split(counts, ends)
    return [
        PackedHistogram(
            dtype,
            tuple(levels_by_band[entry * bands : (entry + 1) * bands]),
            tuple(counts_by_band[entry * bands : (entry + 1) * bands]),
        )
        for entry, dtype in enumerate(dtypes)
    ]


def write_archive(
    path: Path, arrays: Mapping[str, NDArray[Any]], summary: Mapping[str, Any]
) -> None:
    """Write arrays, and a summary for people, to a ZIP archive; equal ones make equal files."""
    with path.open("wb") as file:
        np.savez_compressed(file, **{"format": np.array(FORMAT), **arrays})  # type: ignore[arg-type]
    with zipfile.ZipFile(path, "a") as archive:
        # Given by its name alone it would carry the time of day.
        text = json.dumps(summary, indent=1)
        archive.writestr(zipfile.ZipInfo(_SUMMARY), text, zipfile.ZIP_DEFLATED)


def is_archive(path: Path) -> bool:
    """Return whether the file looks like one that ``write_archive`` wrote, of any version."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"format.npy", _SUMMARY} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def read_archive(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays that ``write_archive`` wrote; never unpickles.

    Raises:
        ValueError: the file is no such archive, or of another version.
    """
    try:
        with path.open("rb") as file:
            # numpy takes what is no archive for a pickle, and says so to the puzzled user.
            if not zipfile.is_zipfile(file):
                raise ValueError("it is damaged or of another kind")
            with zipfile.ZipFile(file) as members:
                size = sum(member.file_size for member in members.infolist())
            if size > _MOST_BYTES:
                raise ValueError(f"it unpacks to {size / 1e9:.1f} GB, more than a bank can be")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                _check_complete(archive, (*_ARRAYS, _SUMMARY))
                return _checked({name: archive[name] for name in _ARRAYS})
    except _UNREADABLE as error:
        raise ValueError(_one_line(error)) from error


def to_json(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return arrays as JSON-ready values: numbers and lists, the long ones compressed to text."""
    plain = {name: each.tolist() for name, each in arrays.items() if name not in _LONG}
    packed = {name: zlib.compress(arrays[name].astype("<u8").tobytes()) for name in _LONG}
    texts = {name: base64.b64encode(each).decode("ascii") for name, each in packed.items()}
    return {"format": FORMAT} | plain | texts


def from_json(values: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Read the arrays that ``to_json`` wrote.

    Raises:
        ValueError: the values are no such arrays, or of another version.
    """
    try:
        _check_complete(values, _ARRAYS)
        texts = {name: zlib.decompress(base64.b64decode(values[name])) for name in _LONG}
        long = {name: np.frombuffer(text, dtype="<u8") for name, text in texts.items()}
        short = {name: np.asarray(values[name]) for name in _ARRAYS if name not in _LONG}
        return _checked(short | long)
    except _UNREADABLE as error:
        raise ValueError(_one_line(error)) from error


def _dtype(name: str) -> np.dtype[Any]:
    for each in DTYPES:
        if each.name == name:
            return each
    raise ValueError(f"it has an entry of type {name!r}, not of {', '.join(map(str, DTYPES))}")


def _check_complete(stored: Mapping[str, Any], names: Iterable[str]) -> None:
    """Check the format, and then that nothing is missing."""
    if not isinstance(stored, Mapping) or "format" not in stored:
        raise ValueError("it has no format number")
    version = np.asarray(stored["format"])
    if version.dtype.kind not in "iu" or version.shape:
        raise ValueError("its format is no number")
    if version != FORMAT:
        age, hint = ("a later", ": update rhm") if version > FORMAT else ("an earlier", "")
        raise ValueError(f"written by {age} version (format {version}, known {FORMAT}){hint}")
    missing = [name for name in names if name not in stored]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")


def _checked(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    for name, (kinds, dimensions) in _ARRAYS.items():
        array = np.asarray(arrays[name])
        if array.dtype.kind not in kinds or array.ndim != dimensions:
            raise ValueError(f"its {name} are {array.dtype} of shape {array.shape}")
    return arrays


def _one_line(error: Exception) -> str:
    """Return what an error says, without what a hostile file may have put into it."""
    words = " ".join(str(error).split())[:200]
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in words)
