"""The process of a command: the streams that it is given, and the signals that end it."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_closed_streams() -> None:
    """Open the null device in place of standard streams that are closed.

    The next file to be opened would otherwise take their number, and get what is printed.
    """
    for number, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free: those below it are open by now.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


@contextmanager
def ended_by_signals() -> Iterator[list[int]]:
    """Let signals that end a process end the block as Ctrl-C does, which leaves no files behind.

    These are what `kill` and job schedulers send, and what closing a terminal sends.

    Yields:
        The signals that have come, which grow.
    """
    come: list[int] = []

    def interrupt(number: int, _: Any) -> None:
        come.append(number)
        # Training that has put a handler around this one ends by itself, after a checkpoint.
        if signal.getsignal(number) is interrupt:
            raise KeyboardInterrupt

    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    kinds = [getattr(signal, name) for name in names if hasattr(signal, name)]
    # Whoever ignores a signal, such as nohup, means it.
    changed = [each for each in kinds if signal.getsignal(each) is signal.SIG_DFL]
    for each in changed:
        signal.signal(each, interrupt)
    try:
        yield come
    finally:
        for each in changed:
            signal.signal(each, signal.SIG_DFL)


def flush_or_discard() -> None:
    """Print what standard streams hold, or discard it: Python would exit with a code of its own."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, number)
            os.close(null)
