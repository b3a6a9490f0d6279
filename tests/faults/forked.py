"""Commands in forked children: what they print, what they take, and how they end.

A child inherits what this process has imported, and therefore begins at once.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

import rhm.cli.main as main_module


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
        if self.code == 2 and [line[:5] for line in lines] != ["rhm: "]:
            found.append(f"{len(lines)} lines")
        if self.code == 2 and len(self.err) > 600:
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

    That process has imported what commands need, and has no threads; in a child of a process with
    threads, a lock that another thread held would be held for ever.

    Args:
        words: the words after ``rhm``.
        largest_file: bytes beyond which no file can grow, as if the disk were full.
        kill_after_s: seconds after which the child is killed.
        timeout_s: seconds after which it has failed.
    """
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    request = [[str(word) for word in words], largest_file, kill_after_s, timeout_s]
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return Ended(*json.loads(server.stdout.readline()))


@cache
def _server() -> "subprocess.Popen[str]":
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.forked"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )


def serve() -> None:
    """Answer requests, one a line, until there are no more."""
    import lightning
    import segmentation_models_pytorch
    import torch

    import rhm.evaluation.evaluator
    import rhm.inference.scenes
    import rhm.training.fitting  # noqa: F401

    assert torch.get_num_threads() == 1
    assert lightning
    assert segmentation_models_pytorch
    for line in sys.stdin:
        words, largest_file, kill_after_s, timeout_s = json.loads(line)

        def command(words: list[str] = words, largest_file: int | None = largest_file) -> None:
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
            sys.argv = ["rhm", *words]
            main_module.main()

        ended = forked(command, kill_after_s=kill_after_s, timeout_s=timeout_s)
        print(json.dumps(list(astuple(ended))), flush=True)


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


if __name__ == "__main__":
    serve()
