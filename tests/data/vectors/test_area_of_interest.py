"""Areas of interest, from files of any system and from boxes."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely

from rhm.data.vectors.area_of_interest import read_area
from rhm.data.vectors.vector_layer import Bounds
from rhm.errors import ConfigError, VectorError

UTM = "EPSG:32633"
SQUARE = shapely.box(500_000, 5_000_000, 500_400, 5_000_300)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".shp"])
@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:3857"])
def test_a_file_of_any_system_gives_the_same_ground(tmp_path: Path, suffix: str, crs: str) -> None:
    path = tmp_path / f"area{suffix}"
    there = gpd.GeoSeries([SQUARE.segmentize(10)], crs=UTM).to_crs(crs)
    frame = gpd.GeoDataFrame(geometry=there)
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    found = read_area(path).in_crs(UTM)
    assert found.symmetric_difference(SQUARE).area < 0.01 * SQUARE.area


def test_a_box_is_in_degrees_unless_it_names_a_system() -> None:
    assert read_area("13,52,13.5,52.25").in_crs("EPSG:4326").bounds == (13.0, 52.0, 13.5, 52.25)
    box = read_area(f"500000, 5000000, 500400, 5000300, {UTM}")
    assert shapely.equals(box.in_crs(UTM), SQUARE)
    pacific = read_area("179,-18,-179,-16").in_crs("EPSG:4326")
    assert pacific.area == pytest.approx(4.0)
    assert len(pacific.geoms) == 2


def test_areas_are_equal_if_the_ground_is() -> None:
    assert read_area("1,2,3,4") == read_area("1, 2, 3.0, 4,EPSG:4326")
    assert repr(read_area("1,2,3,4")) == repr(read_area("1,2,3,4.0"))


@pytest.mark.parametrize(
    "text",
    ["1,2,3", "a,b,c,d", "1,2,3,4,Mars", "1,4,3,2", "1,2,1,4", "nan,0,1,1", "5,2,3,4,EPSG:32633",
     "1,2,3,4,EPSG:4326,5", "1,2,3,4,EPSG:4978", "1,2,3,4,EPSG:5773", "missing.geojson", ",",
     "1,2,1e200,4",
     "85.522,27.63,85.52,27.632", "3,0,-3,2", "-3,0,-5,2", "85.5,27,-85.5,28"],
)  # fmt: skip
def test_what_is_neither_file_nor_box_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        read_area(text)


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[1, 2]",
        "{",
        json.dumps({"type": "FeatureCollection", "features": []}),
        json.dumps({"type": "Point", "coordinates": [1, 2]}),
        json.dumps({"type": "Polygon", "coordinates": [[[1, 2], [1e308, 4], [5, 6], [1, 2]]]}),
        json.dumps({"type": "Polygon", "coordinates": [[[1, 2], [3, 1e200], [5, 6], [1, 2]]]}),
        json.dumps({"type": "Polygon", "coordinates": [[[1e400, 2], [3, 4], [5, 6], [1e400, 2]]]}),
        '{"type": "GeometryCollection", "geometries": [' * 3000,
    ],
)
def test_hostile_json_is_said_in_one_line(tmp_path: Path, document: str) -> None:
    path = tmp_path / "area.geojson"
    path.write_text(document)
    with pytest.raises(VectorError) as caught:
        read_area(path)
    assert "\n" not in str(caught.value)


def test_a_place_that_another_system_does_not_reach_is_empty() -> None:
    pole = read_area("0,-90,10,-89.9")
    mercator = pyproj.CRS("EPSG:3857")
    assert pole.in_crs(mercator).is_empty or pole.in_crs(mercator).bounds[3] < -2e7


def around(crs: str, longitude: float, latitude: float, side_m: float) -> Bounds:
    """A box in a CRS, beside a place."""
    there = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = there.transform(longitude, latitude)
    side = side_m / 111_320 if pyproj.CRS(crs).is_geographic else side_m
    return x - 0.4 * side, y - 0.7 * side, x + 0.6 * side, y + 0.3 * side


@pytest.mark.parametrize(
    ("crs", "place"),
    [
        ("EPSG:32633", (15.0, 45.0)),
        ("EPSG:32652", (130.0, 45.0)),
        ("EPSG:32760", (180.0, -17.0)),
        ("EPSG:4326", (180.0, -17.0)),
        ("EPSG:4326", (-180.0, -17.0)),
        ("EPSG:4326", (0.0, 60.0)),
        ("EPSG:3857", (180.0, -17.0)),
        ("EPSG:3857", (-180.0, 70.0)),
        ("EPSG:3832", (-30.0, 45.0)),  # cut at 30 degrees west
        ("EPSG:5041", (30.0, 89.999)),
        ("+proj=laea +lon_0=180 +lat_0=-17", (180.0, -17.0)),
    ],
)
@pytest.mark.parametrize("side_m", [300.0, 200_000.0])
@pytest.mark.parametrize("mercator", [False, True])
def test_an_area_has_the_points_that_lie_in_it_whatever_its_size(
    crs: str, place: tuple[float, float], side_m: float, *, mercator: bool
) -> None:
    longitude, latitude = place
    within = around(crs, longitude, latitude, side_m)
    rng = np.random.default_rng(7)
    x, y = rng.uniform(within[:2], within[2:], (500, 2)).T
    degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    longitudes, latitudes = degrees.transform(x, y)
    to_mercator = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    for across in (1e-3, 1.0, 150.0):
        left, right = longitude - 0.3 * across, longitude + 0.7 * across
        bottom, top = max(-84.0, latitude - across), latitude
        if mercator:  # a box that goes on beyond the end of the map
            (_, bottom_m), (_, top_m) = (to_mercator.transform(0.0, each) for each in (bottom, top))
            west, east = (each * 20_037_508.342789244 / 180 for each in (left, right))
            area = read_area(f"{west},{bottom_m},{east},{top_m},EPSG:3857")
        elif abs(longitude) == 180.0:
            west, east = (each % 360 for each in (left, right))
            area = read_area(f"{west},{bottom},{east - 360},{top}")
        else:
            area = read_area(f"{left},{bottom},{right},{top}")
        found = shapely.contains_xy(area.in_crs(crs, within), x, y)
        expected = ((longitudes - left) % 360 < across) & (bottom < latitudes) & (latitudes < top)
        assert np.count_nonzero(found != expected) <= 2


@pytest.mark.parametrize("latitude", [90, 85])
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:32652", "EPSG:32760", "EPSG:4326"])
def test_the_whole_earth_is_everywhere(crs: str, latitude: int) -> None:
    zones = {"EPSG:32633": 15.0, "EPSG:32652": 129.0}
    within = around(crs, zones.get(crs, 180.0), -17.0, 300.0)
    found = read_area(f"-180,-{latitude},180,{latitude}").in_crs(crs, within)
    assert found.contains(shapely.box(*within))


def test_an_area_across_the_meridian_in_a_local_system_is_not_torn(tmp_path: Path) -> None:
    east, north = around("EPSG:32760", 180.0, -17.0, 1000.0)[:2]
    box = f"{east},{north},{east + 1000},{north + 1000},EPSG:32760"
    area = read_area(box)
    for within in ((179.9, -17.1, 180.1, -16.9), (-180.1, -17.1, -179.9, -16.9)):
        left, bottom, right, top = area.in_crs("EPSG:4326", within).bounds
        assert right - left < 0.02
        assert within[0] < left < right < within[2]
        assert (within[0] + within[2]) / 2 == pytest.approx(left, abs=0.01)
        assert (bottom, top) == pytest.approx((-17.006, -16.997), abs=0.003)


def test_an_area_elsewhere_has_no_part_in_a_box() -> None:
    area = read_area("10,20,11,21")
    for crs in ("EPSG:4326", "EPSG:32633", "EPSG:3857"):
        box = shapely.box(*around(crs, 15.0, 45.0, 300.0))
        assert not area.in_crs(crs, box.bounds).intersects(box)
    # Coordinates that are in no place on Earth are no reason to go round it a billion times.
    assert not area.in_crs("EPSG:4326", (-1e12, -1.0, 1e12, 1.0)).is_empty
