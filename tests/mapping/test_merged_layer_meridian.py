"""One layer from scenes on both sides of the 180th meridian, as anywhere else on Earth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.transform import from_origin

from rhm.data.footprints import areas_m2
from rhm.inference.layers.vector_files import Footprints, write_footprints
from rhm.mapping.merge_config import MergeConfig
from rhm.mapping.merged_layer import merge_layers
from tests.mapping.towns import layers_in, read_layer_file

METRE = 1 / 111_320
"""Degrees of a metre along the equator, where the town is."""

MERCATOR = 40_075_016.685_578_49
SYSTEMS = {"EPSG:4326": 180.0, "EPSG:3857": MERCATOR / 2, "EPSG:32660": None, "EPSG:32601": None}


def house(left: float, bottom: float, right: float, top: float) -> Any:
    """A rectangle in metres east of the meridian, in degrees, some of which may be beyond 180."""
    return shapely.box(180 + left * METRE, bottom * METRE, 180 + right * METRE, top * METRE)


def placed(shapes: Sequence[Any] | NDArray[Any], crs: str, side: float) -> NDArray[Any]:
    """Shapes in a CRS; if it has a cut at the meridian, beyond its east or west end (side)."""
    half = SYSTEMS[crs]
    if half is None:
        local = gpd.GeoSeries(shapes, crs="EPSG:4326").to_crs(crs)
        return np.asarray(local.to_numpy(), dtype=object)
    on_equator = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)

    def moved(points: NDArray[np.float64]) -> NDArray[np.float64]:
        _, y = on_equator.transform(np.zeros(len(points)), points[:, 1])
        return np.column_stack([points[:, 0] / 180 * half + (side - 1) * half, y])

    return np.asarray(shapely.transform(np.array(shapes, dtype=object), moved), dtype=object)


def write_scene(
    folder: Path,
    name: str,
    crs: str,
    extent: tuple[float, float, float, float],
    shapes: Sequence[tuple[Any, float]],
    *,
    side: float = 1.0,
    suffix: str = ".gpkg",
) -> Path:
    """Write mask and footprints of a scene that shows an extent in metres; see ``house``."""
    folder.mkdir(parents=True, exist_ok=True)
    (frame,) = placed([house(*extent)], crs, side)
    left, bottom, right, top = frame.bounds
    height, width = round((extent[3] - extent[1]) * 2), round((extent[2] - extent[0]) * 2)
    transform = from_origin(left, top, (right - left) / width, (top - bottom) / height)
    with rasterio.open(
        folder / f"{name}_mask.tif", "w", driver="GTiff", height=height, width=width, count=1,
        dtype="uint8", nodata=255, crs=crs, transform=transform,
    ) as raster:  # fmt: skip
        raster.write(np.zeros((1, height, width), np.uint8))
    inside = [(shapely.intersection(shape, house(*extent)), score) for shape, score in shapes]
    inside = [(shape, score) for shape, score in inside if shape.area > 0]
    degrees = np.array([shape for shape, _ in inside], dtype=object)
    areas = areas_m2(gpd.GeoSeries(degrees, crs="EPSG:4326"))
    scores = np.array([score for _, score in inside])
    path = folder / f"{name}_buildings{suffix}"
    write_footprints([Footprints(placed(degrees, crs, side), scores, areas)], crs, path)
    return path


def widest(geometries: gpd.GeoSeries) -> float:
    parts = shapely.get_parts(geometries.to_numpy())
    left, _, right, _ = shapely.bounds(parts).T
    return float((right - left).max())


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb", ".geojson"])
def test_a_building_on_the_meridian_hides_none_that_is_far_away(
    tmp_path: Path, suffix: str
) -> None:
    on, west, east = (
        house(-9, 0, 12, 20),
        house(-20e3, 5, -20e3 + 30, 35),
        house(9e3, 4, 9e3 + 9, 9),
    )
    files = [
        write_scene(tmp_path, "mid", "EPSG:32660", (-99, -50, 99, 50), [(on, 0.9)]),
        write_scene(tmp_path, "w", "EPSG:32660", (-20100, -50, -19800, 50), [(west, 0.8)]),
        write_scene(tmp_path, "e", "EPSG:32601", (8900, -50, 9200, 50), [(east, 0.7)]),
    ]
    merged = merge_layers(layers_in(*files), tmp_path / f"town{suffix}")
    town = read_layer_file(merged.path)
    assert (merged.count, merged.seen_again, len(town)) == (3, 0, 3)
    assert merged.crs == "EPSG:4326"
    assert widest(town.geometry) < 40 * METRE
    assert sorted(town["area_m2"]) == pytest.approx([45.0, 420.0, 900.0], rel=0.01)
    if suffix == ".geojson":  # RFC 7946, section 3.1.9: cut at the meridian
        assert np.abs(shapely.get_coordinates(town.geometry.to_numpy())[:, 0]).max() <= 180.0


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", None])
def test_scenes_of_any_system_see_the_same_buildings(tmp_path: Path, crs: str | None) -> None:
    shapes = [house(-12, 0, 9, 20), house(-40, 0, -30, 10), house(30, 0, 40, 10)]
    extent = (-90, -50, 90, 70)
    files = [
        write_scene(tmp_path, f"{number}", own, extent, [(each, score) for each in shapes], side=at)
        for number, (own, at, score) in enumerate(
            (own, at, 0.5 + 0.1 * number)
            for number, own in enumerate(SYSTEMS)
            for at in ((1.0, -1.0) if SYSTEMS[own] else (1.0,))
        )
    ]
    files.append(
        write_scene(
            tmp_path, "json", "EPSG:32660", extent, [(shapes[1], 0.4), (shapes[2], 0.4)],
            suffix=".geojson",
        )
    )  # fmt: skip
    merged = merge_layers(layers_in(*files), tmp_path / "town.gpkg", MergeConfig(crs=crs))
    town = read_layer_file(merged.path)
    assert merged.count == len(town) == 3
    assert merged.seen_again == 3 * (len(files) - 2) + 2
    half = 180.0 if town.crs.is_geographic else MERCATOR / 2
    assert widest(town.geometry) < 30 * METRE / 180 * half
    middles = np.abs(shapely.bounds(town.geometry.to_numpy())[:, ::2].mean(axis=1))
    assert (middles <= half).all()


def test_one_system_throughout_finds_neighbours_beyond_its_cut(tmp_path: Path) -> None:
    shape, extent = house(-4, 0, 10, 20), (-90.0, -50.0, 90.0, 70.0)
    for crs in ("EPSG:4326", "EPSG:3857"):
        files = [
            write_scene(tmp_path / crs[-4:], name, crs, extent, [(shape, 0.5)], side=side)
            for name, side in (("east", 1.0), ("west", -1.0))
        ]
        merged = merge_layers(layers_in(*files), tmp_path / f"{crs[-4:]}.gpkg")
        assert (merged.count, merged.seen_again, merged.crs) == (1, 1, crs)


def test_pieces_that_meet_at_the_meridian_become_one_building(tmp_path: Path) -> None:
    across, apart = house(-10, 0, 15, 20), house(40, 0, 50, 10)
    shapes = [(across, 0.8), (apart, 0.8)]
    files = [
        write_scene(tmp_path, "a", "EPSG:4326", (-90, -50, 0, 70), shapes),
        write_scene(tmp_path, "b", "EPSG:4326", (0, -50, 90, 70), shapes, side=-1.0),
    ]
    merged = merge_layers(layers_in(*files), tmp_path / "town.gpkg")
    town = read_layer_file(merged.path)
    assert (merged.count, merged.joined) == (2, 1)
    (joined,) = town[town.parts == 2].itertuples()
    assert joined.geometry.bounds[2] - joined.geometry.bounds[0] == pytest.approx(25 * METRE)
    assert joined.area_m2 == pytest.approx(500.0, rel=0.01)
    assert joined.geometry.centroid.x == pytest.approx(-180 + 2.5 * METRE, abs=1e-9)


def test_greenwich_stays_whole_beside_the_meridian(tmp_path: Path) -> None:
    """Scenes at both meridians: the layer's turn must not begin at either of them."""
    there, here = house(-9, 0, 12, 20), shapely.transform(house(-9, 0, 12, 20), at_greenwich)
    files = [write_scene(tmp_path, "fiji", "EPSG:32660", (-99, -50, 99, 50), [(there, 0.9)])]
    for name in ("a", "b"):
        path = tmp_path / f"{name}_buildings.gpkg"
        write_footprints(
            [Footprints(np.array([here]), np.array([0.5]), np.array([420.0]))], "EPSG:4326", path
        )
        files.append(path)
    merged = merge_layers(layers_in(*files), tmp_path / "town.gpkg")
    town = read_layer_file(merged.path)
    assert (merged.count, merged.seen_again) == (2, 1)
    assert min(abs(shape.centroid.x) for shape in town.geometry) < 1e-3
    assert widest(town.geometry) < 30 * METRE


def at_greenwich(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points - [180.0, 0.0]
