"""Databases of unknown origin; law: reading them ends, and reads nothing else."""

import sqlite3
from contextlib import closing
from pathlib import Path, PureWindowsPath

import geopandas
import pytest
import shapely

from rhm.data.footprints import read_footprints
from rhm.data.vectors import databases
from rhm.data.vectors.area_of_interest import read_area
from rhm.data.vectors.databases import check_database, companions_of, connect, views_of
from rhm.data.vectors.side_files import count_rows, read_column, read_exactly, read_frame
from rhm.data.vectors.streamed_layer import streamed
from rhm.data.vectors.vector_layer import count_features
from rhm.errors import VectorError

UTM = "EPSG:32633"
ENDLESS = (
    "CREATE VIEW more AS WITH RECURSIVE c(fid, geom) AS (SELECT fid, geom FROM one UNION ALL "
    "SELECT fid + 1, geom FROM c) SELECT fid, geom FROM c"
)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = tmp_path / "a.gpkg"
    frame = geopandas.GeoDataFrame({"n": [1]}, geometry=[shapely.box(0, 0, 9, 9)], crs=UTM)
    frame.to_file(path, layer="one")
    return path


def changed(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)
    return path


def as_only_layer(path: Path, view: str) -> Path:
    """A view takes the place of the layer in the list of layers."""
    tables = ("gpkg_contents", "gpkg_geometry_columns")
    renamed = [f"UPDATE {table} SET table_name = 'more'" for table in tables]  # noqa: S608
    return changed(
        path, "DELETE FROM gpkg_extensions", "DELETE FROM gpkg_ogr_contents", view, *renamed
    )


def test_a_layer_without_end_is_refused(package: Path) -> None:
    as_only_layer(package, ENDLESS)
    for read in (
        lambda: read_footprints(package, UTM),
        lambda: read_area(package),
        lambda: count_features(package),
        lambda: streamed(package, []).__enter__(),
        lambda: read_frame(package),
        lambda: read_exactly(package),
        lambda: read_column(package, "n"),
        lambda: count_rows(package),
    ):
        with pytest.raises(VectorError, match=r"view 'more' with .* \(WITH\).*ogr2ogr") as refused:
            read()
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "view",
    [
        "CREATE VIEW more AS SELECT fid, geom FROM one",
        "CREATE VIEW more AS SELECT fid, geom FROM one WHERE n <> 'house with /* a garage'",
        'CREATE VIEW more AS SELECT fid, geom, n AS "with", n AS [with] FROM one -- with',
    ],
)
def test_plain_views_are_read(package: Path, view: str) -> None:
    as_only_layer(package, view)
    assert len(read_footprints(package, UTM)) == 1
    assert views_of(package) == {"more"}


@pytest.mark.parametrize(
    "sql",
    [
        ENDLESS.replace("WITH", "/* ' */ with"),
        ENDLESS.replace("AS WITH", "AS/**/WITH--\n"),
        ENDLESS.replace("VIEW more", "VIEW 'as ''more'"),
    ],
)
@pytest.mark.parametrize("kind", ["view", "table", "index"])
def test_no_disguise_hides_a_view(package: Path, sql: str, kind: str) -> None:
    with closing(sqlite3.connect(package)) as database, database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("INSERT INTO sqlite_master VALUES (?, 'more', 'more', 0, ?)", (kind, sql))
    with pytest.raises(VectorError, match=r"WITH|malformed"):
        check_database(package)


@pytest.mark.parametrize("module", ["VirtualShape('x')", '"VirtualText"(x)', "dbstat"])
def test_virtual_tables_of_other_files_are_refused(package: Path, module: str) -> None:
    with closing(sqlite3.connect(package)) as database, database:
        database.execute("PRAGMA writable_schema = ON")
        sql = f"CREATE VIRTUAL TABLE more USING {module}"
        database.execute("INSERT INTO sqlite_master VALUES ('table', 'more', 'more', 0, ?)", (sql,))
    with pytest.raises(VectorError, match="virtual table 'more', which may show other files"):
        read_footprints(package, UTM)


def test_spatial_indexes_are_allowed(package: Path) -> None:
    with closing(sqlite3.connect(package)) as database:
        (number,) = database.execute(
            "SELECT count(*) FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%rtree%'"
        ).fetchone()
    assert number == 1
    check_database(package)


def test_a_query_without_end_is_interrupted(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "_FREE_STEPS", 100_000)
    changed(package, ENDLESS)
    interrupted = pytest.raises(sqlite3.OperationalError, match="interrupted")
    with closing(connect(package)) as database, interrupted:
        database.execute("SELECT count(*) FROM more").fetchone()


def test_every_row_of_a_large_table_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps that are allowed grow with the file, here without those that are free."""
    monkeypatch.setattr(databases, "_FREE_STEPS", 0)
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE a (b, c, d)")
        database.executemany("INSERT INTO a VALUES (?, NULL, 1)", ((n,) for n in range(200_000)))
    with closing(connect(path)) as database:
        assert len(database.execute("SELECT * FROM a ORDER BY b DESC").fetchall()) == 200_000


def test_reading_makes_no_files(package: Path) -> None:
    changed(package, "PRAGMA journal_mode = WAL")
    check_database(package)
    assert views_of(package) == set()
    assert list(package.parent.iterdir()) == [package]
    assert not any(each.exists() for each in companions_of(package))


def test_damaged_databases_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    with pytest.raises(VectorError, match=r"a\.gpkg cannot be read: ") as refused:
        check_database(path)
    assert "\n" not in str(refused.value)
    assert views_of(path) == set()


def test_a_database_on_a_share_has_an_address(tmp_path: Path) -> None:
    share = PureWindowsPath(r"\\server\share\a b.gpkg")
    assert databases._address_of(share) == "file:////server/share/a%20b.gpkg"
    assert databases._address_of(tmp_path / "a.gpkg") == (tmp_path / "a.gpkg").as_uri()
