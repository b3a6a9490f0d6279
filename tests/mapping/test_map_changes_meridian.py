"""A comparison on both sides of the 180th meridian, as anywhere else on Earth."""

from pathlib import Path

import geopandas as gpd
import pytest
import shapely

from rhm.data.vectors.area_of_interest import read_area
from rhm.mapping.map_changes import compare_maps

METRE = 1 / 111_320
"""Degrees of a metre along the equator."""

HOUSES = [
    shapely.box(180 + x * METRE, y * METRE, 180 + (x + 12) * METRE, (y + 10) * METRE)
    for x in range(-206, 200, 40)  # one of them on the meridian
    for y in (0, 40)
]


def write(path: Path, crs: str, houses: list[shapely.Polygon]) -> Path:
    placed = gpd.GeoSeries(houses, crs="EPSG:4326").to_crs(crs)
    if crs == "EPSG:4326":
        placed = gpd.GeoSeries(houses, crs=crs)  # as rhm writes them: some are beyond 180
    values = {"id": [str(number) for number in range(len(houses))]}
    gpd.GeoDataFrame(values, geometry=placed).to_file(path)
    return path


@pytest.mark.parametrize("ours", ["EPSG:32660", "EPSG:4326"])
@pytest.mark.parametrize("theirs", ["EPSG:32601", "EPSG:4326"])
def test_buildings_on_the_meridian_are_matched_and_written_whole(
    tmp_path: Path, ours: str, theirs: str
) -> None:
    new = write(tmp_path / "new.gpkg", ours, HOUSES)
    old = write(tmp_path / "map.gpkg", theirs, HOUSES)
    today = tmp_path / "today.parquet"
    found = compare_maps(new, old, tmp_path / "changes.gpkg", overture=today)
    assert (found.matched, found.new, found.gone, found.changed) == (len(HOUSES), 0, 0, 0)
    assert gpd.read_file(found.path).geometry.bounds.eval("maxx - minx").max() < 20
    exported = gpd.read_parquet(today)
    assert len(exported) == len(HOUSES)
    assert exported.geometry.bounds.eval("maxx - minx").max() < 1


def test_an_area_as_large_as_the_earth_holds_all(tmp_path: Path) -> None:
    new = write(tmp_path / "new.gpkg", "EPSG:32660", HOUSES[:8])
    old = write(tmp_path / "map.gpkg", "EPSG:32601", HOUSES)
    area = read_area("-180,-90,180,90")
    found = compare_maps(new, old, tmp_path / "changes.gpkg", area=area)
    assert (found.matched, found.gone) == (8, len(HOUSES) - 8)
