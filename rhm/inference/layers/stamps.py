"""Stamps: who wrote a vector file, and whether it is still as it was left.

A stamp is a text inside the file, such as its description. It names the prediction and its scene,
and contains a hash of the content, which is computed when the file is complete and then written in
the place of as many zeros. Whoever edits the file or adds something to it breaks the hash.
"""

import hashlib
import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_TEXT = "written by rhm, prediction {0.fingerprint} of scene {0.origin}, content "
_PATTERN = re.compile(
    rb"written by rhm, prediction ([0-9a-f]{1,64}) of scene ([0-9a-f]{1,64}), "
    rb"content ([0-9a-f]{64})"
)
_OPEN = "0" * 64


@dataclass(frozen=True)
class Stamp:
    """Origin of a file.

    Attributes:
        fingerprint: fingerprint of the prediction that wrote the file, in hexadecimal digits.
        origin: hash of the location of its scene, in hexadecimal digits.
        threshold: minimum probability of the pixels of footprints, to be told before the rest; None
            for layers of several scenes, which may have several.
    """

    fingerprint: str
    origin: str
    threshold: float | None = field(default=None, kw_only=True)

    @property
    def text(self) -> str:
        """Text to be written into a file before the hash of its content is known."""
        told = "" if self.threshold is None else f"threshold {self.threshold:.6g}, "
        return told + _TEXT.format(self) + _OPEN


@dataclass(frozen=True)
class FoundStamp(Stamp):
    """The stamp in a file.

    Attributes:
        content: hash of the content when the file was completed.
    """

    content: str


def find_stamp(data: bytes | mmap.mmap) -> tuple[FoundStamp, int] | None:
    """Return the first stamp in some bytes, and where the hash of its content begins."""
    found = _PATTERN.search(data)
    if found is None:
        return None
    return FoundStamp(*(part.decode() for part in found.groups())), found.start(3)


def seal(path: Path) -> None:
    """Write the hash of the other bytes of a file into its stamp, if it has one."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        if (found := find_stamp(data)) is not None:
            place = found[1]
            data[place : place + len(_OPEN)] = _hash_around(data, place).encode()


def stamp_of(path: Path) -> FoundStamp | None:
    """Return the stamp of a file; None if it has none."""
    with _bytes_of(path) as data:
        found = find_stamp(data)
        return None if found is None else found[0]


def is_as_left(path: Path) -> bool:
    """Return whether a file with a stamp is, byte for byte, as it was completed."""
    with _bytes_of(path) as data:
        found = find_stamp(data)
        return found is not None and found[0].content == _hash_around(data, found[1])


@contextmanager
def _bytes_of(path: Path) -> Iterator[bytes | mmap.mmap]:
    """Yield the bytes of a file without reading all of them; an empty file cannot be mapped."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def _hash_around(data: bytes | mmap.mmap, place: int) -> str:
    with memoryview(data) as view:
        digest = hashlib.sha256(view[:place])
        digest.update(view[place + len(_OPEN) :])
    return digest.hexdigest()
