"""Parts hold what their scenes hold, in another system and measured again where needed."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely

from rhm.errors import OutputError, VectorError
from rhm.mapping.merging.scene_parts import crs_of_layer, part_path, read_part, write_part
from rhm.mapping.scene_layers import SceneLayer
from tests.mapping.towns import UTM, ground, layers_in, write_town_scene

HOUSES = [(ground(40, 40, 50, 50), 0.9), (ground(0, 10, 10, 20), 0.5)]


def test_a_part_comes_back(tmp_path: Path) -> None:
    (layer,) = layers_in(write_town_scene(tmp_path, "a", (0, 0, 100, 100), HOUSES))
    crs = pyproj.CRS(UTM)
    path = part_path(tmp_path, layer, crs)
    write_part(layer, crs, path)
    part = read_part(path)
    assert part.numbers("score").tolist() == [0.9, 0.5]
    assert part.numbers("size").tolist() == part.numbers("area_m2").tolist() == [100.0, 100.0]
    assert part.numbers("sight").tolist() == [0, 2]
    assert part.numbers("left", "right").shape == (2, 2)
    assert part.pixel == pytest.approx(0.5)
    assert part.region.area == pytest.approx(1e4)
    stored = shapely.from_wkb(part.table.column("geometry").to_pylist())
    assert all(shapely.equals(stored, [shape for shape, _ in HOUSES]))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(OutputError, match="damaged"):
        read_part(path)


def test_another_system_another_part(tmp_path: Path) -> None:
    (layer,) = layers_in(write_town_scene(tmp_path, "a", (0, 0, 100, 100), HOUSES))
    degrees = pyproj.CRS("EPSG:4326")
    path = part_path(tmp_path, layer, degrees)
    assert path != part_path(tmp_path, layer, pyproj.CRS(UTM))
    write_part(layer, degrees, path)
    part = read_part(path)
    assert np.abs(part.numbers("left")).max() < 180
    assert part.numbers("area_m2").tolist() == [100.0, 100.0]
    layer.vectors.touch()
    assert path != part_path(tmp_path, layer, degrees)  # the file may be another


def test_layers_of_others_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "mine.geojson"
    shapes = gpd.GeoSeries([shapely.MultiPolygon([shape for shape, _ in HOUSES])], crs=UTM)
    shapes.to_crs("EPSG:4326").to_file(path)
    (layer,) = layers_in(path)
    assert (layer.name, layer.mask) == ("mine", None)
    write_part(layer, pyproj.CRS(UTM), tmp_path / "part.arrow")
    part = read_part(tmp_path / "part.arrow")
    assert np.isnan(part.numbers("score")).all()
    assert part.numbers("area_m2") == pytest.approx([100.0, 100.0], rel=2e-3)
    assert part.region is None


def test_a_layer_without_a_system_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a_buildings.gpkg"
    with pytest.warns(UserWarning, match="crs"):
        gpd.GeoSeries([shapely.box(0, 0, 1, 1)]).to_file(path)
    with pytest.raises(VectorError, match="has no CRS"):
        crs_of_layer(SceneLayer("a", path, None, None))
    with pytest.raises(VectorError, match="cannot read"):
        part_path(tmp_path, SceneLayer("a", tmp_path / "x.gpkg", None, None), pyproj.CRS(UTM))
