"""Messages that libraries print by themselves, kept from the terminal."""

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

_NOISE = re.compile(rb"_tiff\w+Proc:|TIFF\w+:|ERROR \d+:|Warning \d+:")
"""How lines begin that libtiff and GDAL print about damaged files and full disks; what matters is
raised as well, and told in one line."""


@contextmanager
def without_noise() -> Iterator[None]:
    """Leave out of standard error what GDAL prints about failures that are raised as well.

    Everything else that is written to the descriptor of standard error in the block, by this
    process or a child of it, passes through. What rasterio prints where it cannot decode a message
    of GDAL, such as one that quotes a damaged file, is left out as well.
    """
    with _undecodable_messages_ignored(), _descriptor_filtered():
        yield


@contextmanager
def _undecodable_messages_ignored() -> Iterator[None]:
    raised, unraisable = sys.excepthook, sys.unraisablehook
    sys.excepthook = _unless_undecodable(raised)
    sys.unraisablehook = lambda told: (
        None if isinstance(told.exc_value, UnicodeDecodeError) else unraisable(told)
    )
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook = raised, unraisable


def _unless_undecodable(hook: Callable[..., Any]) -> Callable[..., Any]:
    def told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        # An error that ends the command does not come here: it is caught.
        if not isinstance(error, UnicodeDecodeError):
            hook(kind, error, trace)

    return told


@contextmanager
def _descriptor_filtered() -> Iterator[None]:
    if sys.stderr is None:  # it was closed by whoever began this process
        yield
        return
    sys.stderr.flush()
    reading, writing = os.pipe()
    real = os.dup(2)
    os.dup2(writing, 2)
    os.close(writing)
    before = sys.stderr
    if _is_standard_error(before):
        # Python's own messages and bars go straight to the terminal, which they must know for one.
        terminal = os.dup(real)
        sys.stderr = os.fdopen(terminal, "w", 1, encoding=before.encoding, errors=before.errors)
    forwarding = threading.Thread(target=_forward, args=(reading, real), daemon=True)
    forwarding.start()
    try:
        yield
    finally:
        # Not closed, because handlers of log messages may hold it.
        with suppress(OSError):
            sys.stderr.flush()
        sys.stderr = before
        os.dup2(real, 2)
        forwarding.join(timeout=1.0)  # a child that is still running holds the pipe open
        if not forwarding.is_alive():
            os.close(real)


def _is_standard_error(stream: object) -> bool:
    try:
        return stream.fileno() == 2  # type: ignore[attr-defined, no-any-return]
    except (AttributeError, OSError):
        return False


def _forward(reading: int, real: int) -> None:
    with os.fdopen(reading, "rb", closefd=True) as lines:
        for line in lines:
            if not _NOISE.match(line):
                # Without a reader, too, the pipe is emptied: whoever prints would be held up.
                with suppress(OSError):
                    os.write(real, line)
