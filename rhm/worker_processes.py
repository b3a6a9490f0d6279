"""Processes that work for this one: they leave interrupts to it, and never outlive it."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

_ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


def begin_worker() -> None:
    """Begin a worker: let interrupts be the matter of the process that began it, and end with it.

    A terminal interrupts all processes of a command, and each would print a traceback. One that is
    killed cannot end its workers, which would wait for its next job for ever.

    A process that no other one began stays as it is.
    """
    parent = parent_process()
    if parent is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        # Programs that it begins shall be interrupted like others.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    # Whatever the other threads are doing, nobody waits for it any more.
    os._exit(1)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold back what would end this process until the end of the block, which may begin others.

    A process that is left in the middle of its beginning prints a traceback. Those that begin in
    the block, and theirs, get no interrupts from the terminal even before ``begin_worker``.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals do not disturb it, and it may not change how they are handled
        return
    held: list[int] = []

    def hold(number: int, _: Any) -> None:
        held.append(number)

    before = {kind: signal.getsignal(kind) for kind in _ENDING}
    before = {kind: handler for kind, handler in before.items() if callable(handler)}
    for kind in before:
        signal.signal(kind, hold)
    if sys.platform != "win32":
        # It would let interrupts through again if it began within the block.
        resource_tracker.ensure_running()
        # Processes inherit the mask of this thread, which does not keep others from being hit.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for kind, handler in before.items():
            signal.signal(kind, handler)
        if held:
            signal.raise_signal(held[0])
