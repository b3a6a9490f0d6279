"""Worker processes: they end with the one that began them, and leave interrupts to it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from rhm.worker_processes import begin_worker, interrupts_held

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills by signals")

KILLED = """
import os, signal, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from rhm.worker_processes import begin_worker

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=begin_worker)
    ignored = pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN
    print(pool.submit(os.getpid).result(), ignored, flush=True)
    pool.submit(time.sleep, 600)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_ends_with_the_process_that_began_it() -> None:
    """Although it is busy, and the other process was killed."""
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE) as began:
        assert began.stdout is not None
        worker, ignored = began.stdout.readline().split()
        assert ignored == b"True"
        # The worker holds the pipe as well: it is empty when both have ended.
        assert began.stdout.read() == b""
    assert began.returncode == -signal.SIGKILL
    assert any(has_ended(int(worker)) for _ in range(200))


def has_ended(process: int) -> bool:
    time.sleep(0.02)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_process_that_no_other_began_stays_as_it_is() -> None:
    before = signal.getsignal(signal.SIGINT), threading.active_count()
    begin_worker()
    assert (signal.getsignal(signal.SIGINT), threading.active_count()) == before


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Handle interrupts as Python does, also in the background, where they are ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_interrupts_wait_for_the_end_of_the_block() -> None:
    code = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    begun = []

    def begin() -> None:
        with interrupts_held():
            os.kill(os.getpid(), signal.SIGINT)
            begun.append(subprocess.check_output([sys.executable, "-c", code]))

    with pytest.raises(KeyboardInterrupt):
        begin()
    assert begun == [b"True\n"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_another_thread_holds_nothing() -> None:
    seen = []

    def hold() -> None:
        with interrupts_held():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
