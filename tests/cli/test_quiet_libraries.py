"""Quiet libraries; law: noise is left out, and nothing else is lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rhm.cli.quiet_libraries import without_noise
from tests.data.imagery import UNDECODABLE

PROGRAM = """
import os, sys, subprocess
from rhm.cli.quiet_libraries import without_noise
print("before", file=sys.stderr)
with without_noise():
    os.write(2, b"_tiffWriteProc: No space left on device.\\nERROR 1: TIFFAppendToStrip\\n")
    os.write(2, b"a library has something to say\\n")
    print("a message of Python", file=sys.stderr)
    subprocess.run([sys.executable, "-c", "import os; os.write(2, b'a child\\\\n')"])
    print(os.isatty(sys.stderr.fileno()), file=sys.stderr)
print("after", file=sys.stderr)
os.write(2, b"ERROR 1: now it is not left out\\n")
"""


def test_noise_is_left_out_and_everything_else_is_there() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    expected = ["a library has something to say", "a message of Python", "a child", "False"]
    assert (lines[0], lines[-2:]) == ("before", ["after", "ERROR 1: now it is not left out"])
    assert sorted(lines[1:-2]) == sorted(expected)


def test_a_stream_that_is_not_standard_error_stays(capsys: pytest.CaptureFixture[str]) -> None:
    stream = sys.stderr
    with without_noise():
        assert sys.stderr is stream
        print("said", file=sys.stderr)
    assert capsys.readouterr().err == "said\n"


def test_errors_pass_and_descriptors_are_closed() -> None:
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    before = len(os.listdir(folder))
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), without_noise():
            raise ZeroDivisionError
    assert len(os.listdir(folder)) == before


OPENING = """
import sys
from rhm.cli.quiet_libraries import without_noise
from rhm.data.rasters.gdal_options import open_dataset
from rhm.errors import RasterError
with without_noise():
    try:
        open_dataset(sys.argv[1])
    except RasterError:
        print("refused", file=sys.stderr)
"""


def test_messages_that_quote_a_damaged_file_are_left_out(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.vrt"
    damaged.write_bytes(UNDECODABLE)
    words = [sys.executable, "-c", OPENING, str(damaged)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "refused\n")
