"""Finished results of an experiment, kept in a file so that it can stop and go on elsewhere."""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class KeptResults:
    """Results in a file of one JSON object a line, to which several processes may add at once.

    Args:
        file: file that is read and added to; None keeps results in memory only.
        keys: names of the values that tell results apart; a result without one of them has None.
    """

    def __init__(self, file: Path | None, keys: Sequence[str]) -> None:
        self._file, self._keys = file, tuple(keys)
        self._rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._read()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All results, in the order in which they were added."""
        return list(self._rows.values())

    def has(self, **values: Any) -> bool:
        """Return whether there is a result with these values of the keys."""
        return self._key(values) in self._rows

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a result, unless there is one with the same values of the keys."""
        self._read()
        key = self._key(row)
        if key in self._rows:
            return
        # As JSON gives it back, so that a result is the same now and later.
        self._rows[key] = json.loads(line := json.dumps(row))
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a+b") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
                broken = file.read(1) not in (b"", b"\n")
                # One write, which that of another process cannot split.
                file.write(b"\n" * broken + f"{line}\n".encode())

    def _read(self) -> None:
        if self._file is None or not self._file.is_file():
            return
        for line in self._file.read_text("utf-8").splitlines():
            # What a process that was killed has left of a line is not a result.
            with contextlib.suppress(json.JSONDecodeError):
                if isinstance(row := json.loads(line), dict):
                    self._rows.setdefault(self._key(row), row)

    def _key(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(values.get(key) for key in self._keys)
