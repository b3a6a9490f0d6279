"""GeoPackages: stamps, dates, and whether another program has one open."""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rhm.errors import OutputError
from rhm.inference.layers.stamps import FoundStamp, Stamp, find_stamp
from rhm.system import opened_elsewhere

_COMPANIONS = ("-wal", "-shm", "-journal")
"""Suffixes that SQLite appends to the name of a database for its log, index and journal."""


def date_geopackage(path: Path, modified: float) -> None:
    """Set the dates in a GeoPackage, in seconds since 1970.

    GDAL could set them itself, but only for all files of the process.
    """
    date = datetime.fromtimestamp(modified, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE gpkg_contents SET last_change = ?", (date,))
        if _has_metadata(database):
            database.execute("UPDATE gpkg_metadata_reference SET timestamp = ?", (date,))


def date_of_geopackage(path: Path) -> float:
    """Return the latest date in a GeoPackage, in seconds since 1970; 0 if there is none."""
    with suppress(sqlite3.Error, ValueError, TypeError), closing(_connected(path)) as database:
        (found,) = database.execute("SELECT max(last_change) FROM gpkg_contents").fetchone()
        return datetime.fromisoformat(str(found)).timestamp()
    return 0.0


def seal_geopackage(path: Path) -> None:
    """Write the hash of the content of a GeoPackage into its stamp, if it has one."""
    with closing(sqlite3.connect(path)) as database, database:
        found = _stamp_in(database)
        if found is not None:
            open_text = Stamp(found.fingerprint, found.origin).text
            sealed = open_text.removesuffix(found.content) + _content_of(database)
            database.execute(
                "UPDATE gpkg_metadata SET metadata = replace(metadata, ?, ?)", (open_text, sealed)
            )


def stamp_of_geopackage(path: Path) -> FoundStamp | None:
    """Return the stamp of a GeoPackage; None if it has none, or is no GeoPackage."""
    with suppress(sqlite3.Error), closing(_connected(path)) as database:
        return _stamp_in(database)
    return None


def is_geopackage_as_left(path: Path) -> bool:
    """Return whether a GeoPackage has the layers and features with which it was completed.

    Statistics, spatial indexes and the mode of the database do not count, because programs change
    them when they merely show a layer.
    """
    with suppress(sqlite3.Error), closing(_connected(path)) as database:
        found = _stamp_in(database)
        return found is not None and found.content == _content_of(database)
    return False


def check_geopackage_closed(path: Path) -> None:
    """Check that nobody has a GeoPackage open that is about to be replaced.

    The log of the old database would be applied to the new one, and ruin it.

    Raises:
        OutputError: there are changes that SQLite has not yet written into the file, or another
            process has it open.
    """
    for suffix in ("-wal", "-journal"):
        companion = path.with_name(path.name + suffix)
        if companion.is_file() and companion.stat().st_size > 0:
            raise OutputError(
                f"cannot replace {path}: {companion.name} holds changes that are not in the file "
                f"yet; {_CLOSE_IT}"
            )
    if path.is_file() and (opened_elsewhere(path) or _is_locked(path)):
        raise OutputError(f"cannot replace {path}: another program has it open; {_CLOSE_IT}")


_CLOSE_IT = "close it in QGIS (or the program that has it open) first"


def remove_companions(path: Path) -> None:
    """Remove the empty log, the index and the empty journal that a closed database left behind."""
    for companion in _companions_of(path):
        companion.unlink(missing_ok=True)


def _is_locked(path: Path) -> bool:
    """Return whether a connection to a database, of any process, is holding a lock."""
    try:
        with closing(_connected(path, "rw")) as database:
            # Without this mode, the readers of a database with a log would go unnoticed.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
            database.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    except sqlite3.DatabaseError:
        return False  # not a database
    return False


def _connected(path: Path, mode: str = "ro") -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    if mode == "ro" and not any(each.exists() for each in _companions_of(path)):
        # Otherwise SQLite would make a log and an index beside a database that has had them before,
        # and a connection that only reads cannot remove them.
        address += "&immutable=1"
    return sqlite3.connect(address, uri=True, timeout=0, isolation_level=None)


def _companions_of(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in _COMPANIONS]


def _has_metadata(database: sqlite3.Connection) -> bool:
    asked = "SELECT 1 FROM sqlite_master WHERE name = 'gpkg_metadata_reference'"
    return database.execute(asked).fetchone() is not None


def _stamp_in(database: sqlite3.Connection) -> FoundStamp | None:
    if _has_metadata(database):
        for (text,) in database.execute("SELECT metadata FROM gpkg_metadata ORDER BY id"):
            if (found := find_stamp(str(text).encode())) is not None:
                return found[0]
    return None


def _content_of(database: sqlite3.Connection) -> str:
    """Return a hash of the tables of a GeoPackage and of the rows of those that users fill."""
    digest = hashlib.sha256()
    for value in _values_of(database):
        data = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(f"{type(value).__name__} {len(data)} ".encode())
        digest.update(data)
    return digest.hexdigest()


def _values_of(database: sqlite3.Connection) -> Iterator[Any]:
    tables = database.execute(
        "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'view') "
        "AND name NOT LIKE 'sqlite%' AND name NOT LIKE 'rtree%' ORDER BY name"
    ).fetchall()
    yield from (text for table in tables for text in table)
    yield database.execute("SELECT count(*) FROM gpkg_metadata").fetchone()[0]
    contents = "SELECT table_name, data_type, identifier, description, srs_id FROM gpkg_contents"
    for row in database.execute(f"{contents} ORDER BY table_name"):
        yield from row
    for name, _ in tables:
        if not name.startswith("gpkg_"):
            quoted = name.replace('"', '""')
            for row in database.execute(f'SELECT * FROM "{quoted}"'):  # noqa: S608 (quoted)
                yield from row
