"""The stored form of a histogram bank: a few plain arrays, in a ZIP archive or in JSON.

Banks come from anywhere. What is read is never unpickled, and is checked before memory is allocated
for it. What is written keeps the same limits, so that whatever is written can be read.
"""

import base64
import json
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.errors import BankError, OutputError, one_line, printable
from rhm.files import check_writable

FORMAT = 3
"""Version of the stored form with spectra; other versions than these two cannot be read."""

PLAIN_FORMAT = 2
"""Version of the stored form without spectra, which earlier versions of rhm also read."""

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

# The further arrays of a bank with spectra.
_SPECTRAL = {"spectrum_side": ("iu", 0), "spectrum_gsd_m": ("f", 1), "amplitudes": ("f", 1)}

# Those that a bank with spectra may have besides, both or none. Earlier versions do not read them.
_FURTHER = {"other_sides": ("iu", 1), "other_amplitudes": ("f", 1)}

# The arrays that are too long for lists of numbers in JSON, with the dtype of their text.
_LONG = {"sizes": "<u8", "steps": "<u8", "counts": "<u8"}
_LONG |= {"amplitudes": "<f8", "other_amplitudes": "<f8"}

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

# A hundred thousand images of a few kB; a small malicious file could unpack to more.
_MOST_BYTES = 1 << 30

# Levels of 87 000 8-bit images of three bands. Each takes 16 bytes when it is in use.
_MOST_ITEMS = 1 << 26

# Larger banks are read as well, but then the file must be large, too. Those of real imagery take
# about a byte for each level.
_BYTES_PER_BYTE, _ITEMS_PER_BYTE = 64, 8

_LONGEST_NAME = 4096

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def write_archive(
    path: Path, arrays: Mapping[str, NDArray[Any]], summary: Mapping[str, Any]
) -> None:
    """Write arrays and a readable summary to a ZIP archive; equal arguments give equal files.

    Raises:
        BankError: the archive is larger than any that is read.
    """
    with path.open("wb") as file:
        version = np.array(_version_of(arrays))
        np.savez_compressed(file, **{"format": version, **arrays})  # type: ignore[arg-type]
    with zipfile.ZipFile(path, "a") as archive:
        # With a plain name instead of a ZipInfo, the archive would contain the current time.
        text = json.dumps(summary, indent=1)
        archive.writestr(zipfile.ZipInfo(_SUMMARY), text, zipfile.ZIP_DEFLATED)
        size = path.stat().st_size
        try:
            _check_unpacked(archive, size)
            _checked(arrays, size)
        except ValueError as error:
            raise _too_large(error) from error


def check_names(names: Iterable[str]) -> None:
    """Check that the names of images are as short as those that are read.

    Raises:
        BankError: a name is longer.
    """
    for name in names:
        if len(name) > _LONGEST_NAME:
            raise BankError(
                f"the name '{printable(name[:40])}…' of an image has {len(name)} characters: give "
                f"it one of at most {_LONGEST_NAME}"
            )


def check_target(path: Path) -> None:
    """Check that a bank can be written to a path, and that nothing but a bank is replaced.

    Raises:
        OutputError: it cannot, or something else would be.
    """
    check_writable(path)
    if path.exists() and not (path.is_file() and is_archive(path)):
        raise OutputError(f"{path} exists and is not a histogram bank: choose another name")


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
                size = path.stat().st_size
                _check_unpacked(archive, size)
                stored = {name.removesuffix(".npy"): name for name in archive.namelist()}
                names = _ARRAYS
                if "format" in stored:
                    names = _names_of(_member(archive, stored["format"]), stored)
                _check_complete(stored, (*names, _SUMMARY))
                return _checked({name: _member(archive, stored[name]) for name in names}, size)
    except _UNREADABLE as error:
        raise ValueError(one_line(error)) from error


def to_json(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return arrays as JSON-ready values: numbers, lists, and long arrays compressed to text.

    Raises:
        BankError: the values are larger than any that are read.
    """
    plain = {name: _plain(array) for name, array in arrays.items() if name not in _LONG}
    packed = {
        name: zlib.compress(arrays[name].astype(kind).tobytes())
        for name, kind in _LONG.items()
        if name in arrays
    }
    texts = {name: base64.b64encode(data).decode("ascii") for name, data in packed.items()}
    try:
        _checked(arrays, sum(map(len, texts.values())))
    except ValueError as error:
        raise _too_large(error) from error
    return {"format": _version_of(arrays)} | plain | texts


def from_json(values: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Read the arrays that ``to_json`` returned as values.

    Raises:
        ValueError: the values do not describe histograms, or have another version.
    """
    try:
        names = _ARRAYS
        if isinstance(values, Mapping) and "format" in values:
            names = _names_of(values["format"], values)
        _check_complete(values, names)
        texts = {name: values[name] for name in _LONG if name in names}
        size = sum(map(len, texts.values()))
        long = {
            name: np.frombuffer(_unpacked(text, _most_items(size)), dtype=_LONG[name])
            for name, text in texts.items()
        }
        short = {name: _short(values[name], name) for name in names if name not in _LONG}
        return _checked(short | long, size)
    except _UNREADABLE as error:
        raise ValueError(one_line(error)) from error


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


def _unpacked(text: str, most: int) -> bytes:
    """Return the bytes of a compressed text, of which at most ``most`` items are unpacked.

    Raises:
        ValueError: there are more.
    """
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b64decode(text), 8 * most + 1)
    if len(data) > 8 * most:
        raise ValueError(f"an array has more than {most} values")
    if not unpacker.eof:
        raise ValueError("an array is incomplete")
    return data


def _short(value: Any, name: str) -> NDArray[Any]:
    """Return a number, or a list of numbers or of names, as an array."""
    items = value if isinstance(value, list) else [value]
    # An array of texts takes the length of the longest for each.
    if any(isinstance(item, str) and len(item) > _LONGEST_NAME for item in items):
        raise ValueError(f"its array '{name}' has a text of more than {_LONGEST_NAME} characters")
    if name == "spectrum_gsd_m":
        return np.array([np.nan if item is None else item for item in items], dtype=np.float64)
    return np.asarray(value)


def _plain(array: NDArray[Any]) -> Any:
    """Return a short array as JSON-ready values, with None in place of NaN."""
    values = array.tolist()
    if array.dtype.kind == "f" and array.ndim:
        return [None if math.isnan(value) else value for value in values]
    return values


def _version_of(arrays: Mapping[str, NDArray[Any]]) -> int:
    return FORMAT if "amplitudes" in arrays else PLAIN_FORMAT


def _names_of(stored: Any, present: Container[str]) -> dict[str, tuple[str, int]]:
    """Return the arrays of a version of the stored form.

    Args:
        stored: number of the version.
        present: names of what is stored.

    Raises:
        ValueError: the version is unknown.
    """
    version = np.asarray(stored)
    if version.dtype.kind not in "iu" or version.shape:
        raise ValueError("its format number is not an integer")
    if version not in (PLAIN_FORMAT, FORMAT):
        age, hint = ("a later", ": update rhm") if version > FORMAT else ("an earlier", "")
        raise ValueError(
            f"it was written by {age} version of rhm (format {version}, expected {FORMAT}){hint}"
        )
    if version == PLAIN_FORMAT:
        return _ARRAYS
    further = _FURTHER if any(name in present for name in _FURTHER) else {}
    return _ARRAYS | _SPECTRAL | further


def _check_complete(stored: Mapping[str, Any], names: Iterable[str]) -> None:
    if not isinstance(stored, Mapping) or "format" not in stored:
        raise ValueError("it has no format number")
    missing = [name for name in names if name not in stored]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")


def _check_unpacked(archive: zipfile.ZipFile, packed: int) -> None:
    """Check the bytes to which an archive unpacks that takes ``packed`` bytes."""
    size = sum(member.file_size for member in archive.infolist())
    most = max(_MOST_BYTES, _BYTES_PER_BYTE * packed)
    if size > most:
        raise ValueError(
            f"it unpacks to {size / 1e9:.1f} GB, above the limit of {most / 1e9:.1f} GB"
        )


def _most_items(packed: int) -> int:
    """Return how many values an array may have in a bank that takes ``packed`` bytes."""
    return max(_MOST_ITEMS, _ITEMS_PER_BYTE * packed)


def _too_large(error: ValueError) -> BankError:
    return BankError(
        f"the bank is too large to be read again: {error}; build several banks of fewer images"
    )


def _checked(arrays: Mapping[str, NDArray[Any]], packed: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of a bank that takes ``packed`` bytes after checking kinds and sizes."""
    most = _most_items(packed)
    for name, (kinds, dimensions) in (_ARRAYS | _SPECTRAL | _FURTHER).items():
        if name not in arrays:
            continue
        array = np.asarray(arrays[name])
        if array.dtype.kind not in kinds or array.ndim != dimensions:
            raise ValueError(f"its array '{name}' is {array.dtype} of shape {array.shape}")
        if array.size > most:
            raise ValueError(f"its array '{name}' has more than {most} values")
        if array.dtype.kind == "U" and array.dtype.itemsize > 4 * _LONGEST_NAME:
            raise ValueError(f"its array '{name}' has texts of {array.dtype.itemsize // 4} letters")
    return dict(arrays)
