"""Parts hold what their scenes hold, in another system and measured again where needed."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

from rhm.errors import OutputError, VectorError
from rhm.inference.layers.vector_files import Footprints, write_footprints
from rhm.mapping.merging.scene_parts import crs_of_layer, part_path, read_part, write_part
from rhm.mapping.merging.valid_regions import CLEAR, NEAR
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
    assert part.numbers("size").tolist() == [100.0, 100.0]
    # A square metre of the projection is 1.0008 of the ground.
    assert part.numbers("area_m2") == pytest.approx([100.08, 100.08], rel=1e-5)
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
    assert part.numbers("area_m2") == pytest.approx([100.08, 100.08], rel=1e-5)
    layer.vectors.touch()
    assert path != part_path(tmp_path, layer, degrees)  # the file may be another


def test_a_part_beyond_the_180th_meridian_is_whole_in_the_principal_turn(tmp_path: Path) -> None:
    """A scene in Web Mercator beyond the end of the map; its footprints in degrees, cut there."""
    end = 20_037_508.342789244
    across, beyond = shapely.box(end - 5, 0, end + 9, 10), shapely.box(end + 38, 0, end + 48, 10)
    batch = Footprints(np.array([across, beyond]), np.array([0.9, 0.8]), np.array([140.0, 100.0]))
    for suffix, count in ((".gpkg", 2), (".geojson", 3)):
        path = tmp_path / suffix[1:] / f"a_buildings{suffix}"
        path.parent.mkdir()
        write_footprints([batch], "EPSG:3857", path)
        with rasterio.open(
            path.with_name("a_mask.tif"), "w", driver="GTiff", height=100, width=200, count=1,
            dtype="uint8", nodata=255, crs="EPSG:3857",
            transform=from_origin(end - 49, 30, 0.5, 0.5),
        ) as mask:  # fmt: skip
            mask.write(np.zeros((1, 100, 200), np.uint8))
        (layer,) = layers_in(path)
        for crs, turn in (("EPSG:4326", 360.0), ("EPSG:3857", 2 * end)):
            write_part(layer, pyproj.CRS(crs), tmp_path / "part.arrow")
            part = read_part(tmp_path / "part.arrow")
            assert part.turn is not None
            assert part.turn.length == pytest.approx(turn)
            left, right = part.numbers("left", "right").T
            metre = turn / 2 / end
            assert (right - left).max() < 15 * metre
            assert np.abs(left + right).max() <= turn
            assert part.region.bounds[2] - part.region.bounds[0] == pytest.approx(100 * metre)
            assert part.pixel == pytest.approx(0.5 * metre, rel=1e-3)
            # The last one is near the border of the scene; the end of the map is none.
            assert part.numbers("sight").tolist() == [CLEAR] * (count - 1) + [NEAR]


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


def test_areas_are_those_of_the_polygons_whatever_the_file_says(tmp_path: Path) -> None:
    """A feature of several parts has the area of all, and an edited one that of before."""
    path = tmp_path / "a_buildings.gpkg"
    both = shapely.MultiPolygon([ground(40, 40, 50, 50), ground(60, 40, 68, 50)])
    shapes = [both, ground(10, 10, 15, 20)]
    columns = {"score": [0.9, 0.8], "area_m2": [200.0, 200.0]}
    gpd.GeoDataFrame(columns, geometry=shapes, crs=UTM).to_file(path)
    (layer,) = layers_in(path)
    crs = pyproj.CRS(UTM)
    write_part(layer, crs, part_path(tmp_path, layer, crs))
    found = read_part(part_path(tmp_path, layer, crs)).numbers("area_m2")
    assert sorted(found) == pytest.approx([50.04, 80.06, 100.08], rel=1e-4)
