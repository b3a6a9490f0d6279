"""GeoPackages: stamps, dates, and whether another program has one open."""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rhm.data.vectors.databases import companions_of, connect
from rhm.errors import OutputError
from rhm.inference.layers.stamps import FoundStamp, Stamp, find_stamp
from rhm.system import opened_elsewhere

_METADATA = ("gpkg_metadata", "gpkg_metadata_reference")
_TABLES = "FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"


def date_geopackage(path: Path, modified: float) -> None:
    """Set the dates in a GeoPackage, in seconds since 1970.

    GDAL could set them itself, but only for all files of the process.
    """
    date = datetime.fromtimestamp(modified, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE gpkg_contents SET last_change = ?", (date,))
        if _has_tables(database, *_METADATA):
            database.execute("UPDATE gpkg_metadata_reference SET timestamp = ?", (date,))


def date_of_geopackage(path: Path) -> float:
    """Return the latest date in a GeoPackage, in seconds since 1970; 0 if there is none."""
    with suppress(sqlite3.Error, ValueError, TypeError), closing(connect(path)) as database:
        if not _has_tables(database, "gpkg_contents"):
            return 0.0
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
    with suppress(sqlite3.Error), closing(connect(path)) as database:
        return _stamp_in(database)
    return None


def is_geopackage_as_left(path: Path) -> bool:
    """Return whether a GeoPackage has the layers and features with which it was completed.

    Statistics, spatial indexes and the mode of the database do not count, because programs change
    them when they merely show a layer.
    """
    with suppress(sqlite3.Error), closing(connect(path)) as database:
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
    for companion in companions_of(path):
        companion.unlink(missing_ok=True)


def _is_locked(path: Path) -> bool:
    """Return whether a connection to a database, of any process, is holding a lock."""
    try:
        with closing(connect(path, "rw")) as database:
            # Without this mode, the readers of a database with a log would go unnoticed.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
            database.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    except sqlite3.DatabaseError:
        return False  # not a database
    return False


def _has_tables(database: sqlite3.Connection, *names: str) -> bool:
    """Return whether a database has tables of these names; a view might never end."""
    tables = {str(name) for (name,) in database.execute(f"SELECT name {_TABLES}")}
    return tables.issuperset(names)


def _stamp_in(database: sqlite3.Connection) -> FoundStamp | None:
    if _has_tables(database, *_METADATA):
        for (text,) in database.execute("SELECT metadata FROM gpkg_metadata ORDER BY id"):
            if (found := find_stamp(str(text).encode())) is not None:
                return found[0]
    return None


def _content_of(database: sqlite3.Connection) -> str:
    """Return a hash of the tables of a GeoPackage and of the rows of those that users fill.

    Of views and virtual tables, which rhm never writes, the definition is enough.
    """
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
    plain = {name for (name,) in database.execute(f"SELECT name {_TABLES}")}
    contents = "SELECT table_name, data_type, identifier, description, srs_id FROM gpkg_contents"
    for row in database.execute(f"{contents} ORDER BY table_name"):
        yield from row
    for name, _ in tables:
        if name in plain and not name.startswith("gpkg_"):
            quoted = name.replace('"', '""')
            for row in database.execute(f'SELECT * FROM "{quoted}"'):  # noqa: S608 (quoted)
                yield from row
