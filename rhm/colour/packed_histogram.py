"""Packed histograms: the few kilobytes that a bank keeps of each image, and their stored form.

A packed histogram consists of the present levels of each band and their counts. Up to 11 bits it
keeps all of them, and beyond that the levels at evenly spaced quantiles, between which matching
interpolates. The entries of a bank are stored together as a few plain arrays, in a ZIP archive or
in JSON.
"""

import base64
import json
import math
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
from rhm.errors import one_line

EXACT_LEVELS = 2048
"""Largest number of present levels that a band keeps exactly; 11-bit imagery has no more."""

QUANTILES = 512
"""Number of evenly spaced cumulative shares at which a band with more levels keeps them."""

FORMAT = 2
"""Version of the stored form; other versions cannot be read."""

_SUMMARY = "summary.json"

# The stored arrays, with the kinds of dtype that they may have and their number of dimensions.
_ARRAYS = {
    "bands": ("iu", 0),
    "names": ("U", 1),
    "weights": ("f", 1),
    "dtypes": ("U", 1),
    "sizes": ("iu", 1),
    "steps": ("iu", 1),
    "counts": ("iu", 1),
}

# The arrays that are too long for lists of numbers in JSON.
_LONG = ("sizes", "steps", "counts")

# The exceptions of numpy, zipfile and zlib for malformed bytes.
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

# Sums over tens of thousands of entries of this size still fit into 64 bits.
_MOST_PIXELS = 1 << 48

# A hundred thousand images of a few kB; a small malicious file could unpack to more.
_MOST_BYTES = 1 << 30

# Levels of 87 000 8-bit images of three bands. Each takes 16 bytes when it is in use.
_MOST_ITEMS = 1 << 26

_LONGEST_NAME = 4096

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True, eq=False)
class PackedHistogram:
    """The present levels of a histogram and their counts.

    Attributes:
        dtype: dtype of the imagery.
        levels: for each band, (P,) int64 numbers of the present levels, rising.
        counts: for each band, (P,) int64 counts of at least 1, with the same sum in every band.

    Raises:
        ValueError: the levels or counts violate these rules.
        TypeError: the dtype is not supported.
    """

    dtype: np.dtype[Any]
    levels: tuple[NDArray[np.int64], ...]
    counts: tuple[NDArray[np.int64], ...]

    def __post_init__(self) -> None:
        limit = levels_of(self.dtype)
        if not self.levels or len(self.levels) != len(self.counts):
            raise ValueError("an entry must have levels and counts for the same bands")
        for levels, counts in zip(self.levels, self.counts, strict=True):
            if not levels.size or levels.shape != counts.shape:
                raise ValueError("an entry must have one count for each level, and at least one")
            # The differences alone do not suffice: beyond the range of levels they may overflow.
            if levels.min() < 0 or levels.max() >= limit or (np.diff(levels) <= 0).any():
                raise ValueError(f"an entry must have rising levels of {self.dtype}")
            if counts.min() < 1 or counts.sum(dtype=np.float64) > _MOST_PIXELS:
                raise ValueError(f"an entry must have counts between 1 and {_MOST_PIXELS}")
        if len({int(counts.sum()) for counts in self.counts}) > 1:
            raise ValueError("an entry must have the same number of pixels in every band")

    @classmethod
    def of(cls, histogram: Histogram) -> Self:
        """Pack a histogram of at least one pixel.

        A band with more than ``EXACT_LEVELS`` present levels keeps its lowest and its highest
        level, and those at ``QUANTILES`` evenly spaced cumulative shares. A kept level takes over
        the pixels of the omitted levels below it. The cumulative share is therefore exact at
        every kept level, and elsewhere too low by less than ``1 / QUANTILES``.

        Raises:
            ValueError: the histogram has no pixels.
        """
        if not histogram.pixels:
            raise ValueError("an entry must have at least one valid pixel")
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
        """Number of bands."""
        return len(self.levels)

    @property
    def unpacked_bytes(self) -> int:
        """Approximate memory of the unpacked histogram, including its cached properties."""
        first = min(int(of_band[0]) for of_band in self.levels)
        last = max(int(of_band[-1]) for of_band in self.levels)
        present = sum(of_band.size for of_band in self.levels)
        return 8 * max(last - first + 1, 256) * self.bands + 16 * present

    def unpack(self) -> Histogram:
        """Return the histogram."""
        return pool([self])


def pool(entries: Sequence[PackedHistogram]) -> Histogram:
    """Return the histogram of all pixels of entries that share dtype and number of bands."""
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
    """Return entries with the same number of bands as a few arrays, which compress well.

    Returns:
        ``dtypes``: name of the dtype of each entry; ``sizes``: number of levels of each band of
        each entry; ``steps``: first of these levels, then the differences from level to level;
        ``counts``: counts of the levels.
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
    """Read the entries that ``to_arrays`` returned as arrays.

    Raises:
        ValueError: the arrays contradict each other, or do not describe histograms.
    """
    sizes, steps, counts = (arrays[name].astype(np.int64) for name in ("sizes", "steps", "counts"))
    dtypes = [_dtype(name) for name in arrays["dtypes"].tolist()]
    if bands < 1 or sizes.size != bands * len(dtypes) or (sizes < 1).any():
        raise ValueError(f"its sizes do not belong to {len(dtypes)} images of {bands} bands")
    if not sizes.sum() == steps.size == counts.size:
        raise ValueError("its levels, counts and sizes contradict each other")
    ends = np.cumsum(sizes)[:-1]
    levels_by_band = [np.cumsum(of_band) for of_band in np.split(steps, ends)]
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
    """Write arrays and a readable summary to a ZIP archive; equal arguments give equal files."""
    with path.open("wb") as file:
        np.savez_compressed(file, **{"format": np.array(FORMAT), **arrays})  # type: ignore[arg-type]
    with zipfile.ZipFile(path, "a") as archive:
        # With a plain name instead of a ZipInfo, the archive would contain the current time.
        text = json.dumps(summary, indent=1)
        archive.writestr(zipfile.ZipInfo(_SUMMARY), text, zipfile.ZIP_DEFLATED)


def is_archive(path: Path) -> bool:
    """Return whether a file looks like an archive of ``write_archive``, of any version."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"format.npy", _SUMMARY} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def read_archive(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays that ``write_archive`` wrote, without ever unpickling.

    Raises:
        ValueError: the file is not an archive of histograms, or has another version.
    """
    try:
        with path.open("rb") as file:
            # numpy would take any other file for a pickle, and its message would be misleading.
            if not zipfile.is_zipfile(file):
                raise ValueError("it is damaged or not a ZIP archive")
            with zipfile.ZipFile(file) as archive:
                size = sum(member.file_size for member in archive.infolist())
                if size > _MOST_BYTES:
                    raise ValueError(
                        f"it unpacks to {size / 1e9:.1f} GB, above the limit of "
                        f"{_MOST_BYTES / 1e9:.1f} GB"
                    )
                stored = {name.removesuffix(".npy"): name for name in archive.namelist()}
                if "format" in stored:
                    _check_version(_member(archive, stored["format"]))
                _check_complete(stored, (*_ARRAYS, _SUMMARY))
                return _checked({name: _member(archive, stored[name]) for name in _ARRAYS})
    except _UNREADABLE as error:
        raise ValueError(one_line(error)) from error


def to_json(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return arrays as JSON-ready values: numbers, lists, and long arrays compressed to text."""
    plain = {name: array.tolist() for name, array in arrays.items() if name not in _LONG}
    packed = {name: zlib.compress(arrays[name].astype("<u8").tobytes()) for name in _LONG}
    texts = {name: base64.b64encode(data).decode("ascii") for name, data in packed.items()}
    return {"format": FORMAT} | plain | texts


def from_json(values: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Read the arrays that ``to_json`` returned as values.

    Raises:
        ValueError: the values do not describe histograms, or have another version.
    """
    try:
        if isinstance(values, Mapping) and "format" in values:
            _check_version(values["format"])
        _check_complete(values, _ARRAYS)
        long = {name: np.frombuffer(_unpacked(values[name]), dtype="<u8") for name in _LONG}
        short = {name: _short(values[name], name) for name in _ARRAYS if name not in _LONG}
        return _checked(short | long)
    except _UNREADABLE as error:
        raise ValueError(one_line(error)) from error


def _dtype(name: str) -> np.dtype[Any]:
    for dtype in DTYPES:
        if dtype.name == name:
            return dtype
    raise ValueError(f"it has an entry of dtype {name!r}, not of {', '.join(map(str, DTYPES))}")


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Read one array of an archive.

    numpy would believe the header of the array: arrays whose items have no bytes can declare any
    number of items, and it allocates all others before it reads them.
    """
    member = archive.getinfo(name)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"its array '{name}' is compressed by another method")
    with archive.open(member) as file:
        read_header = _HEADERS[np.lib.format.read_magic(file)]
        shape, by_columns, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError(f"its array '{name}' is a pickle, which is never read")
        size = math.prod(shape) * dtype.itemsize
        if not dtype.itemsize or min(shape, default=0) < 0:
            raise ValueError(f"its array '{name}' is {dtype} of shape {shape}")
        if size != member.file_size - file.tell():
            raise ValueError(f"its array '{name}' has more or fewer values than it declares")
        items = np.frombuffer(file.read(size), dtype=dtype)
    return items.reshape(shape, order="F" if by_columns else "C")


def _unpacked(text: str) -> bytes:
    """Return the bytes of a compressed text, of which at most ``_MOST_ITEMS`` items are unpacked.

    Raises:
        ValueError: there are more.
    """
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b64decode(text), 8 * _MOST_ITEMS + 1)
    if len(data) > 8 * _MOST_ITEMS:
        raise ValueError(f"an array has more than {_MOST_ITEMS} values")
    if not unpacker.eof:
        raise ValueError("an array is incomplete")
    return data


def _short(value: Any, name: str) -> NDArray[Any]:
    """Return a number, or a list of numbers or of names, as an array."""
    items = value if isinstance(value, list) else [value]
    # An array of texts takes the length of the longest for each.
    if any(isinstance(item, str) and len(item) > _LONGEST_NAME for item in items):
        raise ValueError(f"its array '{name}' has a text of more than {_LONGEST_NAME} characters")
    return np.asarray(value)


def _check_version(stored: Any) -> None:
    version = np.asarray(stored)
    if version.dtype.kind not in "iu" or version.shape:
        raise ValueError("its format number is not an integer")
    if version != FORMAT:
        age, hint = ("a later", ": update rhm") if version > FORMAT else ("an earlier", "")
        raise ValueError(
            f"it was written by {age} version of rhm (format {version}, expected {FORMAT}){hint}"
        )


def _check_complete(stored: Mapping[str, Any], names: Iterable[str]) -> None:
    if not isinstance(stored, Mapping) or "format" not in stored:
        raise ValueError("it has no format number")
    missing = [name for name in names if name not in stored]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")


def _checked(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    for name, (kinds, dimensions) in _ARRAYS.items():
        array = np.asarray(arrays[name])
        if array.dtype.kind not in kinds or array.ndim != dimensions:
            raise ValueError(f"its array '{name}' is {array.dtype} of shape {array.shape}")
        if array.size > _MOST_ITEMS:
            raise ValueError(f"its array '{name}' has more than {_MOST_ITEMS} values")
        if array.dtype.kind == "U" and array.dtype.itemsize > 4 * _LONGEST_NAME:
            raise ValueError(f"its array '{name}' has texts of {array.dtype.itemsize // 4} letters")
    return arrays
