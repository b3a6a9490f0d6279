"""Programs and commands in processes of their own, for tests of what a process is."""

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.forked import Ended

Finished = subprocess.CompletedProcess[str]
_LONGEST_S = 300.0


def program(code: str, *words: object) -> Finished:
    """Run a program whose libraries are imported already, where processes can be forked.

    Args:
        code: its source.
        words: ``sys.argv`` after the name of the program.
    """
    given = [str(word) for word in words]
    if os.name == "nt":
        return _begun(["-c", code, *given])
    from tests import forked

    return _finished(given, forked.program(code, *given, timeout_s=_LONGEST_S))


def command(*words: object) -> Finished:
    """Run ``rhm`` in the same way.

    Args:
        words: the words after ``rhm``.
    """
    given = [str(word) for word in words]
    if os.name == "nt":
        return _begun(["-m", "rhm.cli.main", *given])
    from tests import forked

    return _finished(given, forked.rhm(*given, timeout_s=_LONGEST_S))


def _begun(words: list[str]) -> Finished:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, timeout=_LONGEST_S
    )


def _finished(words: list[str], ended: "Ended") -> Finished:
    assert ended.code is not None, ended
    return Finished(words, ended.code, ended.out, ended.err)
