"""Messages that C libraries print by themselves, kept from the terminal."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_NOISE = re.compile(rb"_tiff\w+Proc:|TIFF\w+:|ERROR \d+:|Warning \d+:")
"""How lines begin that libtiff and GDAL print about damaged files and full disks; what matters is
raised as well, and told in one line."""


@contextmanager
def without_noise() -> Iterator[None]:
    """Leave out of standard error what GDAL prints about failures that are raised as well.

    Everything else that is written to the descriptor of standard error in the block, by this
    process or a child of it, passes through.
    """
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
                os.write(real, line)
