"""The journal of a prediction: its finished strips on disk, so that it can be resumed.

The probabilities of each strip are kept in a hidden folder beside the results, in a compressed file
that appears under its name only when it is complete. A journal records every finished strip on one
line, and a lock prevents a second run from predicting the same scene.
"""

import json
import os
import shutil
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock
import numpy as np
from numpy.typing import DTypeLike, NDArray

from rhm.data.rasters.windows import Window
from rhm.documents import parse_json
from rhm.errors import OutputError

_JOURNAL = "journal.jsonl"
_RUNTIME = "runtime"
_LEVEL = 1
"""Fastest compression level of zlib, because every part is soon read, and only once."""


class GivenUpError(Exception):
    """Strips that another thread waits for will not be predicted."""


class StripJournal:
    """The finished strips of a scene's prediction; use it as a context manager.

    Args:
        folder: folder of the strips; it is created and locked when the context is entered.
        fingerprint: hash of everything that determines the probabilities. Strips of another
            prediction are discarded.
        dtype: dtype of the stored probabilities.
        width: number of columns of the scene.
        strips: for each strip, its first row and the row after its last one.
        resume: whether to keep existing strips of the same prediction.
        runtime: runtime that predicts the strips, which ``runtime_of_parts`` tells.

    Raises:
        OutputError: another run is predicting this scene, or the folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        *,
        dtype: DTypeLike,
        width: int,
        strips: list[tuple[int, int]],
        resume: bool,
        runtime: str | None = None,
    ) -> None:
        self._folder = folder
        self._fingerprint = fingerprint
        self._dtype = np.dtype(dtype)
        self._width = width
        self._strips = strips
        self._resume = resume
        self._runtime = runtime
        self._lock = filelock.FileLock(folder.with_name(f"{folder.name}.lock"), timeout=0)
        self._done: dict[int, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._given_up = False

    def __enter__(self) -> Self:
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            self._begin()
        except filelock.Timeout as error:
            raise OutputError(
                f"another run is predicting this scene into {self._folder.parent}: wait for it, "
                "or choose another folder"
            ) from error
        except OSError as error:
            self._lock.release()
            raise self._unwritable(error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or not self._done:
            shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(OSError):
            # While the lock is still held, because afterwards the file may belong to another run.
            Path(self._lock.lock_file).unlink()
        self._lock.release()

    @property
    def pixels(self) -> int:
        """Number of pixels of the finished strips."""
        rows = sum(self._strips[index][1] - self._strips[index][0] for index in self._done)
        return rows * self._width

    @property
    def damaged(self) -> set[Window]:
        """Windows of the scene that could not be read for the finished strips."""
        return {Window(*window) for entry in self._done.values() for window in entry["damaged"]}

    def missing(self) -> list[range]:
        """Return the unfinished strips, as ranges of consecutive indices."""
        runs: list[range] = []
        for index in range(len(self._strips)):
            if index in self._done:
                continue
            if runs and runs[-1].stop == index:
                runs[-1] = range(runs[-1].start, index + 1)
            else:
                runs.append(range(index, index + 1))
        return runs

    def store(self, index: int, packed: bytes, damaged: Iterable[Window] = ()) -> None:
        """Store a finished strip.

        Args:
            index: index of the strip.
            packed: compressed probabilities of the strip, from ``pack``.
            damaged: windows of the scene that could not be read for the strip.

        Raises:
            OutputError: the strip cannot be written.
        """
        path = self._path(index)
        entry: dict[str, Any] = {"strip": index, "bytes": len(packed), "crc32": zlib.crc32(packed)}
        entry["damaged"] = sorted(damaged)
        try:
            written = path.with_suffix(".writing")
            with written.open("wb") as file:
                file.write(packed)
                file.flush()
                # Strips in the journal must also survive a power failure.
                os.fsync(file.fileno())
            written.replace(path)
            with (self._folder / _JOURNAL).open("a", encoding="utf-8") as journal:
                journal.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise self._unwritable(error) from error
        with self._changed:
            self._done[index] = entry
            self._changed.notify_all()

    def give_up(self) -> None:
        """Stop threads from waiting for strips that will not be predicted."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def rows(self, count: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the rows of the scene from top to bottom, as soon as their strips are stored.

        This method may run in another thread than the one that stores strips.

        Args:
            count: number of rows to yield at a time; the last batch may have fewer.

        Yields:
            Index of the first row, and the stored values (rows, width) from that row on.

        Raises:
            OutputError: a strip is damaged.
            GivenUpError: a strip will not be predicted.
        """
        height = self._strips[-1][1]
        band, first, filled = self._band(count, height), 0, 0
        for index in range(len(self._strips)):
            strip = self._load(index)
            while len(strip):
                taken = min(len(band) - filled, len(strip))
                band[filled : filled + taken] = strip[:taken]
                strip, filled = strip[taken:], filled + taken
                if filled == len(band):
                    yield first, band
                    first, filled = first + len(band), 0
                    # A new array, because the caller may still use the last one.
                    band = self._band(count, height - first)

    def _band(self, count: int, left: int) -> NDArray[Any]:
        return np.empty((min(count, left), self._width), dtype=self._dtype)

    def _load(self, index: int) -> NDArray[Any]:
        with self._changed:
            self._changed.wait_for(lambda: index in self._done or self._given_up)
            if index not in self._done:
                raise GivenUpError
        top, bottom = self._strips[index]
        try:
            stored = zlib.decompress(self._path(index).read_bytes())
            return np.frombuffer(stored, dtype=self._dtype).reshape(bottom - top, self._width)
        except (OSError, ValueError, zlib.error) as error:
            raise OutputError(
                f"the finished part {self._path(index)} is damaged: predict the scene again "
                "without --resume"
            ) from error

    def _begin(self) -> None:
        """Keep the strips of the same prediction, or begin again."""
        lines = _entries(self._folder) if self._resume else []
        if lines and lines[0] == self._header():
            self._done = {entry["strip"]: entry for entry in lines[1:] if self._is_whole(entry)}
            for leftover in self._folder.glob(".rhm.*"):
                shutil.rmtree(leftover, ignore_errors=True)
            self._write_journal()
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        self._write_journal()

    def _header(self) -> dict[str, Any]:
        return {"prediction": self._fingerprint, "strips": len(self._strips)}

    def _is_whole(self, entry: dict[str, Any]) -> bool:
        index = entry.get("strip")
        if not isinstance(index, int) or not 0 <= index < len(self._strips):
            return False
        try:
            packed = self._path(index).read_bytes()
        except OSError:
            return False
        windows = entry.get("damaged")
        readable = isinstance(windows, list) and all(
            isinstance(window, list)
            and len(window) == 4
            and all(isinstance(number, int) for number in window)
            for window in windows
        )
        same = (len(packed), zlib.crc32(packed)) == (entry.get("bytes"), entry.get("crc32"))
        return readable and same

    def _write_journal(self) -> None:
        lines = [self._header(), {_RUNTIME: self._runtime}, *self._done.values()]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        written = self._folder / "journal.writing"
        written.write_text(text, encoding="utf-8")
        written.replace(self._folder / _JOURNAL)

    def _path(self, index: int) -> Path:
        return self._folder / f"strip-{index:06d}.zlib"

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write to {self._folder.parent}: {error.strerror or error}")


def runtime_of_parts(folder: Path) -> str | None:
    """Return the runtime of the unfinished prediction whose parts are in a folder.

    Returns:
        The name in the journal, which may be any text; None if there is none.
    """
    for entry in _entries(folder)[1:2]:
        runtime = entry.get(_RUNTIME)
        return runtime if isinstance(runtime, str) else None
    return None


def _entries(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of the journal in a folder, up to a line that is incomplete."""
    try:
        text = (folder / _JOURNAL).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    entries = []
    for line in text.splitlines():
        try:
            entry = parse_json(line)
        except ValueError:
            break
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def discard(folder: Path) -> None:
    """Remove the parts that a run left behind, unless another run is using the folder."""
    lock = filelock.FileLock(folder.with_name(f"{folder.name}.lock"), timeout=0)
    if folder.is_dir():
        with suppress(filelock.Timeout, OSError), lock:
            shutil.rmtree(folder, ignore_errors=True)
            Path(lock.lock_file).unlink()


def pack(rows: NDArray[Any]) -> bytes:
    """Return rows of stored probabilities, losslessly compressed."""
    return zlib.compress(np.ascontiguousarray(rows).data, _LEVEL)
