"""Maps of various makers are read for their buildings."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from rhm.errors import VectorError
from rhm.inference.layers.stamps import Stamp
from rhm.mapping.comparison.map_buildings import read_map
from rhm.mapping.comparison.overture import OvertureBuildings, write_overture
from tests.mapping.towns import UTM, ground

HOUSES = [ground(0, 0, 10, 10), ground(20, 0, 30, 10), ground(40, 0, 50, 10)]


def degrees(**values: Any) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(values, geometry=HOUSES, crs=UTM).to_crs("EPSG:4326")


@pytest.mark.parametrize("building", [["yes", None, "no"], [1, None, 0]])
def test_extracts_of_openstreetmap_have_other_things_than_buildings(
    tmp_path: Path, building: list[Any]
) -> None:
    path = tmp_path / "osm.geojson"
    values: dict[str, Any] = {"@id": ["way/1", "way/2", "way/3"]}
    values["building"] = pd.array(building, dtype="Int64" if 1 in building else object)
    degrees(**values, landuse=[None, "forest", None]).to_file(path)
    found = read_map(path)
    assert found.ids.tolist() == ["way/1"]
    assert len(found) == 1


def test_a_way_has_its_number_where_it_is_no_relation(tmp_path: Path) -> None:
    path = tmp_path / "osm.gpkg"
    values = {"osm_id": [None, "5", None], "osm_way_id": ["7", None, None]}
    degrees(**values, building=["house"] * 3).to_file(path)
    assert read_map(path).ids.tolist() == ["7", "5", None]


def test_overtures_schema_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "overture.parquet"
    shapes = degrees().geometry.to_numpy()
    unknown = np.full(3, np.nan)
    ids = ["08b", None, None]
    buildings = OvertureBuildings(
        shapes, ids, ids, ["x"] * 3, unknown, np.array([3.5, np.nan, np.nan]), unknown
    )
    write_overture(buildings, path, Stamp("1", "2"))
    found = read_map(path)
    assert found.ids[0] == "08b"
    assert len(set(found.ids)) == 3
    assert found.height[0] == 3.5
    assert np.isnan(found.floors).all()
    assert found.crs == "OGC:CRS84"
    moved = found.in_crs(UTM)
    assert all(shapely.equals_exact(moved, HOUSES, 1e-3))


def test_parts_of_buildings_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "parts.geojson"
    kinds = ["building", "building_part", "building"]
    degrees(theme=["buildings"] * 3, type=kinds).to_file(path)
    assert len(read_map(path)) == 2


def test_layers_of_rhm_have_scores(tmp_path: Path) -> None:
    path = tmp_path / "town.gpkg"
    degrees(id=["a", "b", "c"], score=[0.5, 0.6, 0.7]).to_file(path)
    found = read_map(path)[np.array([True, False, True])]
    assert found.ids.tolist() == ["a", "c"]
    assert found.score.tolist() == [0.5, 0.7]


def test_an_empty_layer_and_one_without_a_system(tmp_path: Path) -> None:
    path = tmp_path / "none.gpkg"
    degrees().iloc[:0].to_file(path, geometry_type="Polygon", engine="pyogrio")
    assert len(read_map(path)) == 0
    with pytest.warns(UserWarning, match="crs"):
        gpd.GeoSeries(HOUSES).to_file(path)
    with pytest.raises(VectorError, match="has no CRS"):
        read_map(path)
