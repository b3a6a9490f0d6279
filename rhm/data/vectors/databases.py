"""SQLite databases of unknown origin, such as GeoPackages, read without ending in a view.

A view may be a query that never ends, and a virtual table another file.
"""

import itertools
import re
import sqlite3
from contextlib import closing
from pathlib import Path, PurePath
from typing import Any

from rhm.errors import VectorError, one_line, printable

_COMPANIONS = ("-wal", "-shm", "-journal")
"""Suffixes that SQLite appends to the name of a database for its log, index and journal."""

_FREE_STEPS, _STEPS_PER_BYTE = 10_000_000, 20
"""Steps of SQLite's machine for all queries of a connection: several times what it takes to read
every row."""

_BETWEEN = 100_000  # steps between two looks at their number

# Quoted text and comments are matched first, so that words within them are passed over.
_WORD = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*.*?(?:\*/|\Z)|(\w+)""",
    re.DOTALL,
)
_OWN_MODULES = frozenset(("rtree", "rtree_i32", "fts3", "fts4", "fts5"))
"""Modules of virtual tables whose rows are in the database."""


def connect(path: Path, mode: str = "ro", *, immutable: bool = False) -> sqlite3.Connection:
    """Open a database without making files beside it; queries that do not end are interrupted.

    Args:
        path: path of the database.
        mode: ``ro`` or ``rw``.
        immutable: whether to read the file as it is, whatever lies beside it.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    address = f"{_address_of(path.absolute())}?mode={mode}"
    present = [each for each in companions_of(path) if each.exists()]
    if immutable or (mode == "ro" and not present):
        # Otherwise SQLite would make a log and an index beside a database that has had them before,
        # and a connection that only reads cannot remove them.
        address += "&immutable=1"
    database = sqlite3.connect(address, uri=True, timeout=0, isolation_level=None)
    size = sum(each.stat().st_size for each in (path, *present) if each.is_file())
    most = (_FREE_STEPS + _STEPS_PER_BYTE * size) // _BETWEEN
    looks = itertools.count()
    database.set_progress_handler(lambda: next(looks) > most, _BETWEEN)
    return database


def _address_of(path: PurePath) -> str:
    address = path.as_uri()
    # Of a Windows share, the first part would be a host, which SQLite knows none of.
    return address if address.startswith("file:///") else f"file:////{address[len('file://') :]}"


def companions_of(path: Path) -> list[Path]:
    """Return the paths of the files that SQLite may keep beside a database."""
    return [path.with_name(path.name + suffix) for suffix in _COMPANIONS]


def check_database(path: Path) -> None:
    """Check that each layer of a database is finite, and nothing but what the file contains.

    Raises:
        VectorError: a view has a common table expression, whose rows may be endless, a virtual
            table shows something else, or the file is damaged.
    """
    try:
        try:
            rows = _definitions(connect(path))
        except sqlite3.OperationalError:
            # Where nothing can be written, a log that was left behind cannot be used.
            rows = _definitions(connect(path, immutable=True))
    except sqlite3.Error as error:
        raise VectorError(f"{path} cannot be read: {one_line(error)}") from error
    for name, sql in rows:
        # The type in the table is not what SQLite goes by.
        words = _words(str(sql or ""))
        told = printable(str(name))[:60]
        if "view" in words[1:3] and "with" in words:
            raise VectorError(
                f"{path} has a view '{told}' with a common table expression (WITH), which may be "
                "endless: write the layer that you mean to a file of its own (ogr2ogr one.gpkg "
                "FILE LAYER)"
            )
        if words[:2] == ["create", "virtual"] and _module(words) not in _OWN_MODULES:
            raise VectorError(
                f"{path} has a virtual table '{told}', which may show other files: write the "
                "layer that you mean to a file of its own (ogr2ogr one.gpkg FILE LAYER)"
            )


def _definitions(database: sqlite3.Connection) -> list[tuple[Any, Any]]:
    with closing(database):
        database.text_factory = lambda text: text.decode("utf-8", "replace")
        return database.execute("SELECT name, sql FROM sqlite_master").fetchall()


def views_of(path: Path) -> set[str]:
    """Return the names of the views in a database; none for other files."""
    try:
        with closing(connect(path)) as database:
            rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'view'")
            return {str(name) for (name,) in rows}
    except sqlite3.Error:
        return set()


def _words(sql: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(sql) if word]


def _module(words: list[str]) -> str:
    after = itertools.dropwhile(lambda word: word != "using", words)
    return next(itertools.islice(after, 1, None), "")
