import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pyproj import Geod
from rasterio.crs import CRS
from shapely import Polygon, box

from rhm.data.footprints import areas_m2, burn, metric_crs, polygon_parts, read_footprints
from rhm.errors import VectorError

UTM = "EPSG:32633"
SQUARE = box(500_000, 5_000_000, 500_020, 5_000_010)


def _geojson(path: Path, *geometries: dict[str, Any] | None) -> Path:
    features = [
        {"type": "Feature", "properties": {"note": "x"}, "geometry": each} for each in geometries
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def _ring(*points: tuple[float, ...]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [points]}


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".fgb", ".shp", ".parquet"])
def test_any_format_comes_back_in_the_crs_of_the_raster(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"buildings{suffix}"
    stored = gpd.GeoDataFrame({"kind": ["house"]}, geometry=[SQUARE], crs=UTM).to_crs("EPSG:4326")
    stored.to_parquet(path) if suffix == ".parquet" else stored.to_file(path)
    for crs in (UTM, CRS.from_epsg(32633), CRS.from_epsg(32633).to_wkt()):
        frame = read_footprints(path, crs)
        assert frame.crs == UTM
        assert list(frame.columns) == ["geometry"]
        assert shapely.equals_exact(
            frame.geometry[0].normalize(), SQUARE.normalize(), tolerance=0.02
        )


def test_only_valid_flat_polygons_are_kept(tmp_path: Path) -> None:
    bowtie = _ring((0, 0), (2, 2), (2, 0), (0, 2), (0, 0))
    tall = _ring((5, 0, 9), (6, 0, 9), (6, 1, 9), (5, 0, 9))
    point = {"type": "Point", "coordinates": [0, 0]}
    line = {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}
    nested = {
        "type": "GeometryCollection",
        "geometries": [point, {"type": "GeometryCollection", "geometries": [tall, line]}],
    }
    flat = _ring((0, 0), (1, 1), (2, 2), (0, 0))
    path = _geojson(
        tmp_path / "odd.geojson", None, _ring(), point, line, flat, bowtie, tall, nested
    )
    frame = read_footprints(path, "EPSG:4326")
    assert set(frame.geom_type) == {"Polygon"}
    assert frame.is_valid.all()
    assert not frame.has_z.any()
    assert len(frame) == 4  # two wings of the bowtie, and the same triangle twice
    assert shapely.area(frame.geometry).tolist() == [1.0, 1.0, 0.5, 0.5]


def test_overlapping_parts_of_a_multipolygon_stay_solid(tmp_path: Path) -> None:
    left, right = box(0, 0, 4, 4), box(2, 0, 6, 4)
    both = shapely.MultiPolygon([left, right])
    path = _geojson(tmp_path / "multi.geojson", shapely.geometry.mapping(both))
    frame = read_footprints(path, "EPSG:4326")
    assert frame.union_all().equals(box(0, 0, 6, 4))
    np.testing.assert_array_equal(burn([both], Affine.identity(), 4, 6), np.ones((4, 6)))


def test_coordinates_without_a_place_in_the_crs_are_dropped(tmp_path: Path) -> None:
    nowhere = _ring((0, 1e9), (1, 1e9), (1, 2e9), (0, 1e9))
    here = _ring((15, 45), (15.1, 45), (15.1, 45.1), (15, 45))
    path = _geojson(tmp_path / "far.geojson", nowhere, here)
    assert len(read_footprints(path, UTM)) == 1


def test_ring_left_open_is_dropped_with_a_warning(tmp_path: Path) -> None:
    path = _geojson(tmp_path / "open.geojson", _ring((0, 0), (1, 0), (1, 1)))
    with pytest.warns(RuntimeWarning, match="closed"):
        assert read_footprints(path, "EPSG:4326").empty


@pytest.mark.parametrize("bounds", [None, (0.0, 0.0, 1.0, 1.0)])
def test_no_features_give_an_empty_frame_with_the_crs(tmp_path: Path, bounds: Any) -> None:
    frame = read_footprints(_geojson(tmp_path / "none.geojson"), UTM, bounds)
    assert len(frame) == 0
    assert frame.crs == UTM
    assert frame.geometry.name == "geometry"


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet"])
@pytest.mark.parametrize("to", ["EPSG:4326", "EPSG:3035", UTM])
def test_bounds_limit_what_is_read(tmp_path: Path, suffix: str, to: str) -> None:
    x, y = np.meshgrid(np.arange(20) * 100.0 + 500_000, np.arange(20) * 100.0 + 5_000_000)
    houses = gpd.GeoSeries(shapely.box(x, y, x + 10, y + 10).ravel(), crs=UTM)
    path = tmp_path / f"grid{suffix}"
    frame = gpd.GeoDataFrame(geometry=houses)
    frame.to_parquet(path) if suffix == ".parquet" else frame.to_file(path)
    everything = read_footprints(path, to)
    window = houses[[84]].to_crs(to).buffer(0).total_bounds
    inside = read_footprints(path, to, tuple(window))
    expected = everything[everything.intersects(box(*window))]
    assert 0 < len(inside) < 10
    assert inside.geom_equals(expected.reset_index(drop=True)).all()


def test_bounds_across_the_180th_meridian(tmp_path: Path) -> None:
    east, west, away = box(179.9, 10, 179.95, 10.1), box(-179.95, 10, -179.9, 10.1), box(0, 0, 1, 1)
    path = tmp_path / "fiji.gpkg"
    gpd.GeoDataFrame(geometry=[east, west, away], crs="EPSG:4326").to_file(path)
    pacific = "+proj=merc +lon_0=180 +ellps=WGS84"
    assert len(read_footprints(path, pacific, (-20_000, 1_000_000, 20_000, 1_200_000))) == 2


def test_the_only_layer_of_polygons_is_read(tmp_path: Path) -> None:
    path = tmp_path / "layers.gpkg"
    points = gpd.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=UTM)
    points.to_file(path, layer="points")
    with pytest.raises(VectorError, match="no polygon layer"):
        read_footprints(path, UTM)
    gpd.GeoDataFrame(geometry=[SQUARE], crs=UTM).to_file(path, layer="houses")
    assert len(read_footprints(path, UTM)) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.gpkg", None),
        ("missing.parquet", None),
        ("text.geojson", b"not json"),
        ("cut.geojson", b'{"type": "FeatureCollection", "features": [{"type"'),
        ("cut.gpkg", b"SQLite format 3\x00 and no more"),
        ("text.parquet", b"not parquet"),
        ("table.csv", b"a,b\n1,2\n"),
    ],
)
def test_unreadable_file_is_an_error_of_one_line(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VectorError) as caught:
        read_footprints(path, UTM)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_crs_is_an_error_on_either_side(tmp_path: Path) -> None:
    path = tmp_path / "plain.shp"
    with pytest.warns(UserWarning, match="crs"):
        gpd.GeoDataFrame(geometry=[SQUARE]).to_file(path)
    with pytest.raises(VectorError, match="has no CRS"):
        read_footprints(path, UTM)
    with pytest.raises(VectorError, match="raster without a CRS"):
        read_footprints(path, None)
    with pytest.raises(VectorError, match="unknown CRS EPSG:0"):
        read_footprints(path, "EPSG:0")


def test_burning_goes_by_pixel_centre() -> None:
    grid = Affine(2.0, 0.0, 100.0, 0.0, -2.0, 50.0)
    # Holds the centres (103, 47) and (105, 47) only: row 1, columns 1 and 2.
    house = box(102.5, 46.5, 105.5, 47.5)
    expected = np.zeros((4, 5), np.uint8)
    expected[1, 1:3] = 1
    for footprints in (
        [house, None, Polygon(), shapely.Point(101, 49)],
        gpd.GeoSeries([house]),
        gpd.GeoDataFrame({"a": [1]}, geometry=[house]),
    ):
        mask = burn(footprints, grid, 4, 5)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, expected)
    for nothing in ([], gpd.GeoDataFrame(geometry=[], crs=UTM), [box(0, 0, 1, 1)]):
        assert not burn(nothing, grid, 4, 5).any()


@settings(max_examples=40, deadline=None)
@given(st.floats(-180, 180), st.floats(-89.9, 89.9), st.floats(5, 2000))
def test_areas_equal_geodesic_areas_anywhere(lon: float, lat: float, size_m: float) -> None:
    geod = Geod(ellps="WGS84")
    bearings = np.arange(0, 360, 5)
    lons, lats, _ = geod.fwd(np.full(72, lon), np.full(72, lat), bearings, np.full(72, size_m))
    # In a polar CRS, so that neither the 180th meridian nor the pole cuts the polygon.
    polar = "EPSG:3413" if lat > 0 else "EPSG:3031"
    round_plot = gpd.GeoSeries(gpd.points_from_xy(lons, lats), crs="EPSG:4326").to_crs(polar)
    series = gpd.GeoSeries([Polygon(round_plot.tolist())], crs=polar)
    expected = abs(geod.polygon_area_perimeter(lons, lats)[0])
    assert areas_m2(series)[0] == pytest.approx(expected, rel=1e-5)


def test_metric_crs_keeps_lengths_true_across_the_180th_meridian() -> None:
    fiji = gpd.GeoSeries([box(179.99, -17, 179.995, -16.99), box(-179.995, -17, -179.99, -16.99)])
    fiji = fiji.set_crs("EPSG:4326")
    plane = fiji.to_crs(metric_crs(fiji))
    assert metric_crs(fiji).axis_info[0].unit_name == "metre"
    _, _, expected = Geod(ellps="WGS84").inv(179.99, -17, -179.99, -17)
    corners = [shapely.Point(plane.iloc[0].bounds[:2]), shapely.Point(plane.iloc[1].bounds[2:])]
    assert abs(corners[0].x - corners[1].x) == pytest.approx(expected, rel=1e-3)


def test_areas_in_gradians_from_paris_and_in_web_mercator() -> None:
    house = gpd.GeoSeries([box(652_000, 6_862_000, 652_100, 6_862_050)], crs="EPSG:2154")
    for crs in ("EPSG:4807", "EPSG:3857", "EPSG:4326"):
        assert areas_m2(house.to_crs(crs))[0] == pytest.approx(5000, rel=2e-3)


def test_areas_without_crs_are_pixels() -> None:
    assert areas_m2(gpd.GeoSeries([box(0, 0, 3, 2)])).tolist() == [6.0]
    assert areas_m2(gpd.GeoSeries([], crs=UTM)).shape == (0,)


def test_metric_crs_needs_a_place_on_earth() -> None:
    local = 'LOCAL_CS["site grid",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
    for series in (gpd.GeoSeries([SQUARE]), gpd.GeoSeries([SQUARE], crs=local)):
        with pytest.raises(VectorError, match="no size in metres"):
            metric_crs(series)
    with pytest.raises(VectorError, match="location on Earth"):
        metric_crs(gpd.GeoSeries([None], crs=UTM))


def test_polygon_parts_say_where_they_come_from() -> None:
    bowtie = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    geometries = np.array([shapely.Point(0, 0), bowtie, box(0, 0, 1, 1)], dtype=object)
    parts, source = polygon_parts(geometries)
    assert source.tolist() == [1, 1, 2]
    assert shapely.is_valid(parts).all()


@pytest.mark.shared
@pytest.mark.parametrize("domain", ["spacenet2_vegas", "spacenet1_rio"])
def test_official_footprints_burn_to_the_published_masks(shared_data: Path, domain: str) -> None:
    images = sorted((shared_data / domain / "images").glob("*.tif"))
    labelled = 0
    for image in images:
        vectors = shared_data / domain / "footprints" / f"{image.stem}.geojson"
        if vectors.exists():
            with rasterio.open(image) as raster:
                frame = read_footprints(vectors, raster.crs, raster.bounds)
                mask = burn(frame, raster.transform, raster.height, raster.width)
            _assert_published(mask, shared_data / domain / "masks" / f"{image.stem}.png")
            labelled += 1
    assert labelled >= 10


@pytest.mark.shared
def test_openstreetmap_footprints_fall_on_web_mercator_tiles(shared_data: Path) -> None:
    folder = shared_data / "oam_banepa"
    masks = sorted((folder / "masks").glob("*.png"))[::8]
    for path in masks:
        column, row, zoom = (int(number) for number in path.stem.split("-")[1:])
        side = 2 * np.pi * 6_378_137 / 2**zoom
        left, top = (column - 2 ** (zoom - 1)) * side, (2 ** (zoom - 1) - row) * side
        grid = Affine(side / 512, 0, left, 0, -side / 512, top)
        bounds = (left, top - side, left + side, top)
        frame = read_footprints(folder / "footprints/all.geojson", "EPSG:3857", bounds)
        _assert_published(burn(frame, grid, 512, 512), path)
    assert masks


def _assert_published(mask: NDArray[np.uint8], path: Path) -> None:
    published = np.asarray(Image.open(path)) > 0
    # Their rasteriser decided otherwise about some pixels on outlines.
    assert (published == (mask > 0)).mean() > 0.998, path


def test_labels_beyond_the_180th_meridian_lie_on_an_image_that_goes_on_there(
    tmp_path: Path,
) -> None:
    houses = [shapely.box(left, 0.0, left + 1e-4, 1e-4) for left in (179.9997, 179.99995, 180.0002)]
    placed = gpd.GeoSeries(houses, crs="EPSG:4326").to_crs("EPSG:32660")
    gpd.GeoDataFrame(geometry=placed).to_file(tmp_path / "houses.gpkg")
    found = read_footprints(
        tmp_path / "houses.gpkg", "EPSG:4326", (179.999, -0.001, 180.001, 0.001)
    )
    assert len(found) == 3
    for ours, house in zip(found.geometry, houses, strict=True):
        assert ours.symmetric_difference(house).area < 0.01 * house.area


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet"])
@pytest.mark.parametrize(("image", "drawn"), [(180.01, -179.99), (-179.99, 180.01), (250, -110)])
def test_a_house_is_found_whatever_turn_it_is_drawn_in(
    tmp_path: Path, suffix: str, image: float, drawn: float
) -> None:
    path = tmp_path / f"houses{suffix}"
    houses = [shapely.box(left, 0.0, left + 1e-4, 1e-4) for left in (drawn, drawn - 40.0)]
    frame = gpd.GeoDataFrame(geometry=houses, crs="EPSG:4326")
    frame.to_parquet(path) if suffix == ".parquet" else frame.to_file(path)
    bounds = (image - 1e-3, -1e-3, image + 1e-3, 1e-3)
    (found,) = read_footprints(path, "EPSG:4326", bounds).geometry
    assert found.bounds == pytest.approx((image, 0.0, image + 1e-4, 1e-4), abs=1e-9)
