"""Checks, before any work begins, that the file a command is to write replaces nothing of value."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from rhm.errors import OutputError

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the file that --output names if it exists.")
]

_PAGE = b'<meta name="generator" content="rhm%s">'
_TABLES = (b"trained_on,method,", b"| trained on | method |", rb"\begin{tabular}{lll")
_NUMBERS = re.compile(rb'\{\n "format": \d+,\n "headlines": \[')
_PRODUCER = b"\x12\x03rhm"  # the second field of an ONNX file, as protobuf writes it
_HEAD_BYTES = 4096


def check_output(
    path: Path,
    suffixes: tuple[str, ...],
    *,
    needed: Iterable[Path] = (),
    overwrite: bool | None = None,
    ours: Callable[[Path], bool] | None = None,
    instead: str = "choose another name",
) -> None:
    """Check the file that a command is to write.

    Args:
        path: file to write.
        suffixes: suffixes that it may have, in lower case; empty for any.
        needed: files that the command reads.
        overwrite: whether an existing file is replaced; None for commands without such an option.
        ours: whether an existing file is one that the same command wrote and may replace unasked.
        instead: what to do if the file exists.

    Raises:
        OutputError: the file has another suffix, is a folder, is still needed, or exists.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise OutputError(f"cannot write {path}: its name must end with {' or '.join(suffixes)}")
    if os.path.isdir(path):
        raise OutputError(f"cannot write {path}: it is a folder")
    if os.path.exists(path) and not os.path.isfile(path):
        raise OutputError(f"cannot write {path}: it is a pipe or device, and no file")
    for each in needed:
        if os.path.realpath(each) == os.path.realpath(path):
            raise OutputError(f"--output would overwrite {each}, which is still needed")
    if overwrite or not os.path.exists(path) or (ours is not None and ours(path)):
        return
    replace = "" if overwrite is None else ", or replace it with --overwrite"
    raise OutputError(f"{path} exists: {instead}{replace}")


def is_report_page(path: Path) -> bool:
    """Return whether a file is a page that `rhm report` wrote."""
    return _is_page(path, b" report")


def is_analysis_page(path: Path) -> bool:
    """Return whether a file is a page that `rhm analyze` wrote."""
    return _is_page(path, b" analyze")


def _is_page(path: Path, command: bytes) -> bool:
    head = head_of(path)
    # Pages of earlier versions do not say which command wrote them.
    return _PAGE % command in head or _PAGE % b"" in head


def is_report(path: Path) -> bool:
    """Return whether a file has the numbers of a page that `rhm report` wrote beside it."""
    return _NUMBERS.match(head_of(path)) is not None


def is_score_table(path: Path) -> bool:
    """Return whether a file is a table that `rhm report --table` wrote."""
    return head_of(path).startswith(_TABLES)


def is_exported(path: Path) -> bool:
    """Return whether a file is an ONNX model that rhm wrote."""
    return _PRODUCER in head_of(path)[:64]


def head_of(path: Path) -> bytes:
    """Return the beginning of a file; nothing if it cannot be read, or is no file."""
    if not os.path.isfile(path):  # a pipe would be waited for
        return b""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""
