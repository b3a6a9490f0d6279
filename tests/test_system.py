"""The system: peaks are in bytes, of this process and of its workers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rhm.system import most_open_files, opened_elsewhere, peak_memory_bytes

resource = pytest.importorskip("resource", reason="Windows does not tell")

MB = 1 << 20


def test_the_peak_grows_by_the_bytes_that_are_held() -> None:
    before = peak_memory_bytes()
    assert before is not None
    # More than the whole of the peak, so that no memory freed before can hold it.
    size = before + 64 * MB
    held = np.ones(size, np.uint8)
    after = peak_memory_bytes()
    assert after is not None
    assert size <= after < before + size + 256 * MB
    del held
    assert peak_memory_bytes() == pytest.approx(after, rel=0.05)


def test_workers_count_where_they_are_asked_for() -> None:
    own = peak_memory_bytes()
    assert own is not None
    # A process begins with the peak of the one that started it.
    code = f"held = b'x' * {own + 64 * MB}"
    subprocess.run([sys.executable, "-c", code], check=True)
    largest = peak_memory_bytes(workers=True)
    assert largest is not None
    assert own + 64 * MB <= largest < own + 256 * MB
    assert peak_memory_bytes() == pytest.approx(own, rel=0.05)


def test_open_files_are_those_of_the_system() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits[0], 200), limits[1]))
        assert most_open_files() == min(limits[0], 200)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a file open")
def test_a_file_is_open_elsewhere_while_another_process_has_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with path.open():  # by this process, which does not count
        assert not opened_elsewhere(path)
    words = [sys.executable, "-c", f"file = open({str(path)!r}); print(flush=True); input()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert opened_elsewhere(path)
        process.kill()
        process.wait()
        assert not opened_elsewhere(path)
    assert not opened_elsewhere(tmp_path / "absent")
