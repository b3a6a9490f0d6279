"""GeoPackages that someone has open are not replaced, and every edit of them is seen."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely

from rhm.errors import OutputError
from rhm.inference.layers.geopackage import (
    date_of_geopackage,
    is_geopackage_as_left,
    stamp_of_geopackage,
)
from rhm.inference.layers.stamps import Stamp
from rhm.inference.layers.vector_files import (
    Footprints,
    check_closed,
    check_replaceable,
    write_footprints,
)

STAMP = Stamp("ab12", "cd34")
HOLDER = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    database.execute(statement).fetchall()
print("ready", flush=True)
time.sleep(60)
"""


def written(path: Path) -> Path:
    polygons = np.array([shapely.box(0, 0, 9, 9), shapely.box(20, 0, 25, 5)])
    batch = Footprints(polygons, np.array([0.9, 0.6]), shapely.area(polygons))
    write_footprints([batch], "EPSG:32633", path, stamp=STAMP)
    return path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return written(tmp_path / "x_buildings.gpkg")


@contextmanager
def held(package: Path, *statements: str) -> Iterator[None]:
    """Hold a database open in another process, after some statements."""
    words = [sys.executable, "-c", HOLDER, str(package), *statements]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        process.kill()


LOG = "PRAGMA journal_mode = WAL"
READ = "SELECT count(*) FROM buildings"


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        ([LOG, READ], "another program has it open"),
        ([LOG, "CREATE TABLE notes (text)"], "holds changes that are not in the file yet"),
        (["BEGIN IMMEDIATE", "CREATE TABLE notes (text)"], "x_buildings.gpkg"),
        (["BEGIN EXCLUSIVE"], "another program has it open"),
    ],
)
def test_a_database_in_use_is_not_replaced(package: Path, statements: list[str], told: str) -> None:
    before = package.read_bytes()
    with held(package, *statements):
        holding = package.read_bytes()
        with pytest.raises(OutputError, match="close it in QGIS") as refused:
            written(package)
        assert told in str(refused.value)
        assert package.read_bytes() == holding
    assert before[100:] == holding[100:]  # all but the header, which names the mode


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a file open")
def test_a_database_that_is_merely_open_is_not_replaced(package: Path) -> None:
    with held(package, READ), pytest.raises(OutputError, match="close it in QGIS"):
        check_closed(package)


def test_a_program_that_opens_the_database_during_the_prediction_is_noticed(
    package: Path,
) -> None:
    """QGIS may open the old results at any time before the new ones are complete."""
    before = geopandas.read_file(package)

    def opened() -> Iterator[Footprints]:
        with held(package, LOG, "UPDATE gpkg_contents SET description = 1"):
            yield Footprints(np.array([shapely.box(0, 0, 1, 1)]), np.ones(1), np.ones(1))

    with pytest.raises(OutputError, match="holds changes"):
        write_footprints(opened(), "EPSG:32633", package)
    assert geopandas.read_file(package).equals(before)


def test_what_a_killed_program_left_empty_is_removed_with_the_old_file(package: Path) -> None:
    with held(package, LOG, READ):
        pass
    beside = [package.with_name(package.name + suffix) for suffix in ("-wal", "-shm")]
    assert [path.is_file() for path in beside] == [True, True]
    assert beside[0].stat().st_size == 0
    written(package)
    assert [path.exists() for path in beside] == [False, False]
    assert len(geopandas.read_file(package)) == 2


def add_layer(package: Path) -> None:
    frame = geopandas.GeoDataFrame({"name": ["mine"]}, geometry=[shapely.Point(1, 1)], crs=32633)
    frame.to_file(package, layer="wells", driver="GPKG")


def change(statement: str) -> Callable[[Path], None]:
    def by(package: Path) -> None:
        with closing(sqlite3.connect(package)) as database, database:
            # The triggers of the spatial index call functions that only GDAL has.
            database.create_function("ST_IsEmpty", 1, lambda geometry: True)
            for corner in ("MinX", "MaxX", "MinY", "MaxY"):
                database.create_function(f"ST_{corner}", 1, lambda geometry: None)
            database.execute(statement)

    return by


ENDLESS = (
    "CREATE VIEW {} AS WITH RECURSIVE c(id, metadata, last_change, table_name) AS (SELECT 1, 'a', "
    "'2026-01-01', 'b' UNION ALL SELECT id + 1, metadata, last_change, table_name FROM c) "
    "SELECT * FROM c"
)

EDITS = {
    "an endless view": change(ENDLESS.format("more")),
    "a layer": add_layer,
    "a table": change("CREATE TABLE layer_styles (style TEXT)"),
    "a column": change("ALTER TABLE buildings ADD COLUMN checked INTEGER"),
    "a value": change("UPDATE buildings SET score = 1.0 WHERE fid = 1"),
    "a feature": change("INSERT INTO buildings (score, area_m2) VALUES (0.5, 3.0)"),
    "a geometry": change("UPDATE buildings SET geom = x'00' WHERE fid = 1"),
    "metadata": change("INSERT INTO gpkg_metadata (md_standard_uri, metadata) VALUES ('x', 'y')"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_is_seen(package: Path, edit: str) -> None:
    columns = pyogrio.read_info(package)["geometry_name"]
    assert columns == "geom"
    assert is_geopackage_as_left(package)
    EDITS[edit](package)
    assert not is_geopackage_as_left(package)
    with pytest.raises(OutputError, match=r"was edited after its prediction: .* --overwrite"):
        check_replaceable(package, STAMP.origin)


@pytest.mark.parametrize("table", ["gpkg_metadata", "gpkg_metadata_reference", "gpkg_contents"])
def test_a_view_in_the_place_of_a_table_is_not_read(package: Path, table: str) -> None:
    """Without end, the views would be read for ever."""
    with closing(sqlite3.connect(package)) as database, database:
        for (trigger,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            database.execute(f'DROP TRIGGER "{trigger}"')
        database.execute(f"DROP TABLE {table}")
        database.execute(ENDLESS.format(table))
    assert not is_geopackage_as_left(package)
    assert (stamp_of_geopackage(package) is None) is (table != "gpkg_contents")
    assert date_of_geopackage(package) == 0.0


def test_looking_at_a_layer_is_no_edit(package: Path) -> None:
    geopandas.read_file(package)
    change(LOG)(package)
    with closing(sqlite3.connect(package)) as database:
        database.execute("ANALYZE")
    assert is_geopackage_as_left(package)
    found = stamp_of_geopackage(package)
    assert found is not None
    assert (found.fingerprint, found.origin) == ("ab12", "cd34")
    check_replaceable(package, STAMP.origin)


def test_reading_a_stamp_leaves_nothing_beside_a_database_that_has_had_a_log(
    package: Path,
) -> None:
    change(LOG)(package)
    before = sorted(package.parent.iterdir())
    assert stamp_of_geopackage(package) is not None
    assert sorted(package.parent.iterdir()) == before
    with held(package, "CREATE TABLE notes (text)"):
        # What is only in the log is read as well.
        assert stamp_of_geopackage(package) is not None
        assert not is_geopackage_as_left(package)


def test_a_file_that_is_no_database_has_no_stamp(tmp_path: Path) -> None:
    path = tmp_path / "x.gpkg"
    path.write_text("notes of mine" * 100)
    assert stamp_of_geopackage(path) is None
    check_closed(path)
    with pytest.raises(OutputError, match="was not written by a prediction"):
        check_replaceable(path, STAMP.origin)
