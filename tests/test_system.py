"""The system: peaks are in bytes, of this process and of its workers."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from rhm.system import (
    CACHE_VARIABLE,
    cache_folder,
    most_open_files,
    opened_elsewhere,
    processor,
)

resource = pytest.importorskip("resource", reason="Windows does not tell")

MB = 1 << 20

BESIDE = (
    "import subprocess, sys; sys.exit(subprocess.run([sys.executable, *sys.argv[1:]]).returncode)"
)
"""Runs a program in a process that does not begin with the peak of this one, which is large."""


def said(code: str) -> list[int]:
    """The numbers that a program prints."""
    words = [sys.executable, "-c", BESIDE, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return [int(number) for number in done.stdout.split()]


def test_the_peak_grows_by_the_bytes_that_are_held() -> None:
    # More than the whole of the peak, so that no memory freed before can hold it.
    before, size, after, later = said(
        "import numpy as np\n"
        "from rhm.system import peak_memory_bytes\n"
        "before = peak_memory_bytes()\n"
        f"held = np.ones(before + {64 * MB}, np.uint8)\n"
        "print(before, held.size, peak_memory_bytes())\n"
        "del held\n"
        "print(peak_memory_bytes())\n"
    )
    assert size <= after < before + size + 256 * MB
    assert later == pytest.approx(after, rel=0.05)


def test_workers_count_where_they_are_asked_for() -> None:
    own, largest, again = said(
        "import subprocess, sys\n"
        "from rhm.system import peak_memory_bytes\n"
        "own = peak_memory_bytes()\n"
        # A process begins with the peak of the one that started it.
        f"code = f\"held = b'x' * {{own + {64 * MB}}}\"\n"
        "subprocess.run([sys.executable, '-c', code], check=True)\n"
        "print(own, peak_memory_bytes(workers=True), peak_memory_bytes())\n"
    )
    assert own + 64 * MB <= largest < own + 256 * MB
    assert again == pytest.approx(own, rel=0.05)


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


def test_the_cache_is_where_the_user_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_folder() != tmp_path
    assert cache_folder().name == "rhm"


def test_the_processor_is_the_same_each_time() -> None:
    assert processor() == processor()
    assert processor().split()[0] == platform.machine()
