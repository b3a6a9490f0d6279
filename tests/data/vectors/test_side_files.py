"""Reading a vector file leaves its folder as it was."""

import threading
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pyogrio
import pytest
import shapely

from rhm.data.footprints import read_footprints
from rhm.data.vectors.side_files import no_side_files, read_exactly
from rhm.data.vectors.streamed_layer import streamed
from rhm.data.vectors.vector_layer import count_features
from rhm.inference.layers.vector_files import FORMATS

CRS = "EPSG:32633"


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """A GeoPackage with metadata, as predictions write them."""
    path = tmp_path / "town.gpkg"
    gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 9, 9)], crs=CRS).to_file(
        path, dataset_metadata={"RHM": "written by rhm"}, engine="pyogrio"
    )
    return path


def test_nothing_is_written_beside_a_file_that_is_read(layer: Path) -> None:
    assert len(FORMATS[".gpkg"].read(layer)) == FORMATS[".gpkg"].count(layer) == 1
    assert len(read_footprints(layer, CRS, (0, 0, 5, 5))) == 1
    with streamed(layer, ()) as found:
        assert sum(len(batch.polygons) for batch in found.batches) == 1
    assert count_features(layer) == 1
    assert list(layer.parent.iterdir()) == [layer]


def test_columns_are_read_with_their_types(layer: Path) -> None:
    """Oracle: Arrow, as GDAL reads the file into it."""
    frame = gpd.GeoDataFrame(
        {"whole": pd.array([2**60 + 1, None], dtype="Int64"), "flag": [True, None], "text": "a"},
        geometry=[shapely.box(0, 0, 9, 9)] * 2,
        crs=CRS,
    )
    frame["flag"] = frame["flag"].astype("boolean")
    frame.to_file(layer, engine="pyogrio", use_arrow=True)
    before = sorted(layer.parent.iterdir())
    read = read_exactly(layer)
    assert sorted(layer.parent.iterdir()) == before
    with no_side_files():
        _, table = pyogrio.read_arrow(layer)
    for name in ("whole", "flag", "text"):
        assert read[name].dtype == pd.ArrowDtype(table.schema.field(name).type)
        assert read[name].array.__arrow_array__().to_pylist() == table[name].to_pylist()
    assert read["whole"][0] == 2**60 + 1
    assert read.crs == CRS


def test_the_option_is_as_before_when_the_last_thread_has_read(layer: Path) -> None:
    before = pyogrio.get_gdal_config_option("GDAL_PAM_ENABLED")
    inside, leave = threading.Event(), threading.Event()

    def read() -> None:
        with no_side_files():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=read)
    thread.start()
    inside.wait(30)
    with no_side_files():
        pass
    assert pyogrio.get_gdal_config_option("GDAL_PAM_ENABLED") in (False, "NO")
    leave.set()
    thread.join()
    assert pyogrio.get_gdal_config_option("GDAL_PAM_ENABLED") == before
