"""The process of a command: closed streams, pipes that nobody reads, signals that end it."""

import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import rhm.cli
import rhm.cli.main as main_module
from rhm.cli.process import ended_by_signals
from tests.apart import program

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals, and numbers of open files")

CLOSED = """
import os, sys
names = ("stdin", "stdout", "stderr")
closed, report = [int(each) for each in sys.argv[1].split(",")], os.dup(1)
for number in closed:
    os.close(number)
    setattr(sys, names[number], None)
from rhm.cli.main import main
sys.argv = ["rhm", *sys.argv[2:]]
try:
    main()
except SystemExit as ended:
    os.write(report, f"{ended.code} {os.open(os.devnull, os.O_RDONLY) > 2}".encode())
"""

UNREAD = """
import os, sys
number = int(sys.argv[1])
reading, writing = os.pipe()
os.dup2(writing, number)
os.close(writing)
os.close(reading)
from rhm.cli.main import main
sys.argv = ["rhm", *sys.argv[2:]]
main()
"""

INTERRUPTED_IMPORT = """
import os, signal, sys
import rhm.cli
class Interrupting:
    def find_spec(name, *_):
        if name == "rhm.cli.main":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting)
signal.signal(signal.SIGINT, signal.default_int_handler)
rhm.cli.begin()
"""


@pytest.mark.parametrize("closed", ["2", "1", "0,1,2"])
def test_closed_streams_are_the_null_device(world: Path, tmp_path: Path, closed: str) -> None:
    """And no file that is opened later gets what is printed."""
    bank = tmp_path / "b.bank"
    ended = program(CLOSED, closed, "bank", "build", world / "birch_aerial" / "images", "-o", bank)
    assert ended.stdout.endswith("0 True"), ended
    assert "Traceback" not in ended.stdout + ended.stderr
    assert bank.is_file()


@pytest.mark.parametrize("words", [["configs", "inria"], ["--help"]])
def test_output_that_nobody_reads_ends_a_command_quietly(words: list[str]) -> None:
    ended = program(UNREAD, 1, *words)
    assert (ended.returncode, ended.stderr) == (main_module.UNREAD, "")


def test_an_error_that_nobody_reads_is_still_one(tmp_path: Path) -> None:
    ended = program(UNREAD, 2, "data", "inspect", tmp_path / "none.tif")
    assert (ended.returncode, ended.stdout) == (2, "")


def test_an_interrupt_during_the_imports_is_no_traceback() -> None:
    words = [sys.executable, "-c", INTERRUPTED_IMPORT]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (rhm.cli.INTERRUPTED, "", "")


def test_the_entry_point_is_the_one_that_is_light() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    module, _, name = project["project"]["scripts"]["rhm"].partition(":")
    assert getattr(import_module(module), name) is rhm.cli.begin


@pytest.fixture(params=[signal.SIGTERM, signal.SIGHUP], ids=lambda kind: str(kind.name))
def kind(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal that ends a process, as it is handled by default."""
    before = signal.signal(request.param, signal.SIG_DFL)
    yield request.param
    signal.signal(request.param, before)


def test_a_signal_ends_the_block_as_an_interrupt(kind: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), ended_by_signals() as come:
        signal.raise_signal(kind)
    assert come == [kind]
    assert signal.getsignal(kind) is signal.SIG_DFL


def test_whoever_handles_a_signal_around_it_ends_by_himself(kind: signal.Signals) -> None:
    """As Lightning does, which calls the handler that it has found, too."""
    with ended_by_signals() as come:
        found: Any = signal.getsignal(kind)
        signal.signal(kind, lambda *told: found(*told))
        signal.raise_signal(kind)
    assert come == [kind]


def test_a_signal_that_is_ignored_stays_so(kind: signal.Signals) -> None:
    signal.signal(kind, signal.SIG_IGN)
    with ended_by_signals() as come:
        signal.raise_signal(kind)
    assert come == []


def main_that_runs(work: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> object:
    """The exit code of ``main`` with another ``run``."""
    monkeypatch.setattr(main_module, "run", work)
    with pytest.raises(SystemExit) as ended:
        main_module.main()
    return ended.value.code


def test_the_exit_code_tells_the_signal(
    monkeypatch: pytest.MonkeyPatch, kind: signal.Signals
) -> None:
    def work() -> int:
        try:
            signal.raise_signal(kind)
            time.sleep(1)
        except KeyboardInterrupt:
            return rhm.cli.INTERRUPTED
        return 0

    assert main_that_runs(work, monkeypatch) == 128 + kind


def test_what_fails_after_a_signal_is_no_defect(
    monkeypatch: pytest.MonkeyPatch, kind: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as printing to the terminal that was closed."""

    def work() -> int:
        try:
            signal.raise_signal(kind)
        except KeyboardInterrupt:
            raise OSError(5, "Input/output error") from None
        return 0

    assert main_that_runs(work, monkeypatch) == 128 + kind
    assert capsys.readouterr() == ("", "")
