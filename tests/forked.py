"""Commands in forked children: what they print, what they take, and how they end.

A child inherits what the process that it is forked from has imported, and therefore begins at once.
"""

import atexit
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import rhm.cli.main as main_module

IMPORTED = (
    "lightning",
    "segmentation_models_pytorch",
    "rhm.evaluation.evaluator",
    "rhm.inference.tiling.workers",
    "rhm.training.fitting",
)
"""What the process that everything is forked from has imported; it has no threads."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code; negative for the signal that killed it; None if it took too long.
        out: what it printed on standard output.
        err: what it printed on standard error.
        seconds: how long it took.
        peak_bytes: the most memory that it held.
    """

    code: int | None
    out: str
    err: str
    seconds: float
    peak_bytes: int

    @property
    def faults(self) -> list[str]:
        """What is wrong with how it ended: it succeeds, or refuses its input in one line."""
        found = []
        if self.code is None:
            found.append(f"still running after {self.seconds:.0f} s")
        elif self.code not in (0, 2):
            found.append(f"exit code {self.code}")
        if "Traceback" in self.err:
            found.append("a traceback")
        lines = [line for line in self.err.splitlines() if line.strip()]
        # The first command on a machine that tries its runtimes says so.
        lines = [line for line in lines if not line.startswith("runtime ")]
        if self.code == 2 and [line[:5] for line in lines] != ["rhm: "]:
            found.append(f"{len(lines)} lines")
        if self.code == 2 and len("".join(lines)) > 600:
            found.append(f"{len(self.err)} characters")
        return found

    def __str__(self) -> str:
        return f"{', '.join(self.faults) or 'no fault'}:\n{self.err[-3000:]}"


def rhm(
    *words: object,
    largest_file: int | None = None,
    kill_after_s: float | None = None,
    timeout_s: float = 120.0,
) -> Ended:
    """Run a command in a child that is forked from a process of its own.

    In a child of a process with threads, such as this one, a lock that another thread held would be
    held for ever.

    Args:
        words: the words after ``rhm``.
        largest_file: bytes beyond which no file can grow, as if the disk were full.
        kill_after_s: seconds after which the child is killed.
        timeout_s: seconds after which it has failed.
    """
    return _asked(Request([str(word) for word in words], "", largest_file, kill_after_s, timeout_s))


def program(code: str, *words: object, timeout_s: float = 120.0) -> Ended:
    """Run a program in a child that is forked from a process that has imported ``IMPORTED``.

    Args:
        code: its source.
        words: ``sys.argv`` after the name of the program.
        timeout_s: seconds after which it has failed.
    """
    return _asked(Request([str(word) for word in words], code, timeout_s=timeout_s))


@dataclass(frozen=True)
class Request:
    """What a child is to do: a command or, if there is any, the code of a program."""

    words: list[str]
    code: str = ""
    largest_file: int | None = None
    kill_after_s: float | None = None
    timeout_s: float = 120.0

    def work(self) -> None:
        """Do it."""
        if self.largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest_file, self.largest_file))
        if self.code:
            sys.argv = ["-c", *self.words]
            exec(compile(self.code, "<program>", "exec"), {"__name__": "__main__"})  # noqa: S102
        else:
            # As it is installed: training on several devices begins it again.
            sys.argv = [str(Path(sys.executable).with_name("rhm")), *self.words]
            main_module.main()


def start_server() -> None:
    """Start the process that children of this one are forked from, unless it runs already.

    It is also that of ``rhm.inference.tiling.workers``.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    child = context.Process()
    child.start()
    child.join()


def _asked(request: Request) -> Ended:
    server = _server()
    server.send(request)
    ended = server.recv()
    assert isinstance(ended, Ended)
    return ended


@cache
def _server() -> "Connection[Request, Ended]":
    start_server()
    context = get_context("forkserver")
    ours, theirs = context.Pipe()
    # No daemon, which could not have workers; it ends when the pipe is closed, before it is joined.
    context.Process(target=serve, args=(theirs,)).start()
    theirs.close()
    atexit.register(ours.close)
    return ours


def serve(requests: "Connection[Ended, Request]") -> None:
    """Answer requests, until there are no more."""
    import torch

    import rhm.training.fitting  # noqa: F401 (whatever started the server may know less)

    assert torch.get_num_threads() == 1
    while True:
        try:
            request = requests.recv()
        except EOFError:
            return
        requests.send(
            forked(request.work, kill_after_s=request.kill_after_s, timeout_s=request.timeout_s)
        )


def forked(
    work: Callable[[], object], *, kill_after_s: float | None = None, timeout_s: float = 120.0
) -> Ended:
    """Do some work in a forked child."""
    # Pipes, because a limit on the size of files holds for what is printed into a file as well.
    pipes = os.pipe(), os.pipe()
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _work(work, *(writing for _, writing in pipes))
    with ThreadPoolExecutor(2) as readers:
        for _, writing in pipes:
            os.close(writing)
        printed = [readers.submit(_read, reading) for reading, _ in pipes]
        limit = timeout_s if kill_after_s is None else kill_after_s
        status, usage = _wait(child, begun + limit)
        seconds = time.monotonic() - begun
        late = status is None
        if status is None:
            try:
                os.killpg(child, signal.SIGKILL)
            except ProcessLookupError:  # it has no group of its own yet
                os.kill(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
        code = None if late and kill_after_s is None else os.waitstatus_to_exitcode(status)
        out, err = (each.result() for each in printed)
    return Ended(code, out, err, seconds, usage.ru_maxrss * 1024)


def _read(reading: int) -> str:
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read().decode("utf-8", "replace")


def _wait(child: int, until: float) -> tuple[int | None, resource.struct_rusage]:
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return status, usage
        if time.monotonic() > until:
            return None, usage
        time.sleep(0.002)


def _work(work: Callable[[], object], out: int, err: int) -> None:
    """Do the work of a child, and end it without the ends of this process's own work."""
    code = 1
    try:
        os.setsid()
        os.dup2(out, 1)
        os.dup2(err, 2)

        # pytest may have replaced these.
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, errors="backslashreplace")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        work()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:  # noqa: BLE001 (whatever it is, the parent sees it)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
