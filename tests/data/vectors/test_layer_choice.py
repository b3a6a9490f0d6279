"""Files of several layers; law: no polygon is left out, or chosen, without a word."""

import sqlite3
from contextlib import closing
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely

from rhm.data.footprints import read_footprints
from rhm.data.vectors.area_of_interest import read_area
from rhm.data.vectors.layer_choice import facts_of_layer, polygon_layers, selection
from rhm.data.vectors.streamed_layer import streamed
from rhm.data.vectors.vector_layer import count_features
from rhm.errors import VectorError
from rhm.inference.layers.stamps import Stamp
from rhm.inference.layers.vector_files import Footprints, write_footprints

UTM = "EPSG:32633"
BOXES = [shapely.box(500_000 + x, 5_000_000, 500_006 + x, 5_000_008) for x in range(0, 40, 10)]
SEVERAL = r"several layers with polygons \(one, other\): write .*\(ogr2ogr"


def write(path: Path, **layers: list[shapely.Geometry]) -> Path:
    """Layers of a GeoPackage, which declare the type of their geometries."""
    for name, shapes in layers.items():
        gpd.GeoDataFrame(geometry=shapes, crs=UTM).to_file(path, layer=name, mode="a")
    return path


def folder(name: str, *placemarks: str) -> str:
    return f"<Folder><name>{name}</name>{''.join(placemarks)}</Folder>"


def placemark(shape: shapely.Geometry, **attributes: str) -> str:
    """A polygon or point of a KML file, near the equator."""
    ring = shape.exterior if shape.geom_type == "Polygon" else shape
    text = " ".join(f"{(x - 5e5) / 1e5},{(y - 5e6) / 1e5},0" for x, y in ring.coords)
    place = f"<coordinates>{text}</coordinates>"
    data = "".join(f'<Data name="{k}"><value>{v}</value></Data>' for k, v in attributes.items())
    around = ("Polygon", "outerBoundaryIs", "LinearRing")
    for tag in ("Point",) if shape.geom_type == "Point" else reversed(around):
        place = f"<{tag}>{place}</{tag}>"
    return f"<Placemark><ExtendedData>{data}</ExtendedData>{place}</Placemark>"


def kml(path: Path, *content: str) -> Path:
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?><kml xmlns="http://www.opengis.net/kml/2.2">'
        f"<Document>{''.join(content)}</Document></kml>"
    )
    return path


POINT = placemark(shapely.Point(5e5, 5e6))
HOUSES = [placemark(each) for each in BOXES]
NAMES = ["a", "a", '"quoted" \\ <![CDATA[&]]> ;--', ""]


@pytest.mark.parametrize(
    "content",
    [
        [folder("one", HOUSES[0]), folder("two", *HOUSES[1:])],
        [folder("points first", POINT), folder("houses", *HOUSES)],
        [folder(name, house) for name, house in zip(NAMES, HOUSES, strict=True)],
        [HOUSES[0], folder("outer", HOUSES[1], folder("inner", *HOUSES[2:]))],
        HOUSES,
    ],
    ids=["two", "points first", "any names", "nested", "no folders"],
)
def test_the_folders_of_a_kml_file_are_one_document(tmp_path: Path, content: list[str]) -> None:
    path = kml(tmp_path / "a.kml", *content)
    found = read_footprints(path, "EPSG:4326")
    expected = np.sort([(each.bounds[0] - 5e5) / 1e5 for each in BOXES])
    assert np.sort(found.bounds["minx"]) == pytest.approx(expected)
    assert count_features(path) == len(BOXES)
    area = shapely.from_wkb(read_area(path).wkb)
    assert area.area == pytest.approx(shapely.area(found.geometry.to_numpy()).sum())
    with streamed(path, []) as layer:
        assert sum(len(batch.polygons) for batch in layer.batches) == len(BOXES)


def test_a_kml_file_without_polygons_is_no_buildings(tmp_path: Path) -> None:
    path = kml(tmp_path / "a.kml", folder("one", POINT), folder("two", POINT))
    assert len(read_footprints(path, "EPSG:4326")) == 0


def test_folders_may_have_different_attributes(tmp_path: Path) -> None:
    houses = folder("one", placemark(BOXES[0], height="3"))
    path = kml(tmp_path / "a.kml", houses, folder("two", placemark(BOXES[1], levels="2")))
    with streamed(path, ["height", "levels"]) as layer:
        assert {"height", "levels"} <= set(layer.names)
        batches = list(layer.batches)
    heights, levels = (
        [value for batch in batches for value in batch.texts(name)] for name in ("height", "levels")
    )
    assert (heights, levels) == (["3", None], [None, "2"])


def test_several_layers_of_polygons_are_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", one=BOXES[:1], other=BOXES[1:])
    with pytest.raises(VectorError, match=SEVERAL) as refused:
        read_footprints(path, UTM)
    assert "\n" not in str(refused.value)
    with pytest.raises(VectorError, match=SEVERAL):
        count_features(path)
    with pytest.raises(VectorError, match=SEVERAL):
        read_area(path)
    with pytest.raises(VectorError, match=SEVERAL), streamed(path, []):
        pass


def test_a_view_of_a_layer_is_no_other_layer(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", one=BOXES)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE VIEW first AS SELECT * FROM one WHERE fid = 1")
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, srs_id) "
            "VALUES ('first', 'features', 'first', 32633)"
        )
        database.execute(
            "INSERT INTO gpkg_geometry_columns VALUES ('first', 'geom', 'POLYGON', 32633, 0, 0)"
        )
    assert sorted(pyogrio.list_layers(path)[:, 0]) == ["first", "one"]
    assert len(read_footprints(path, UTM)) == len(BOXES)


def test_of_many_layers_some_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", **{f"layer{n}": BOXES for n in range(7)})
    with pytest.raises(VectorError, match=r"\(layer0, .*, layer4 and 2 more\)"):
        read_footprints(path, UTM)


COLLECTION = shapely.GeometryCollection([shapely.Point(5e5, 5e6), BOXES[3]])


@pytest.mark.parametrize(
    ("other", "read"),
    [
        ([], True),
        ([shapely.Point(5e5, 5e6)], True),
        ([shapely.Point(5e5, 5e6), shapely.LineString([(5e5, 5e6), (6e5, 5e6)])], True),
        ([shapely.GeometryCollection([shapely.Point(5e5, 5e6)])], True),
        ([shapely.Point(5e5, 5e6), BOXES[3]], False),
        ([COLLECTION], False),
    ],
    ids=["nothing", "points", "points and lines", "a collection of points", "a polygon", "inside"],
)
def test_layers_without_polygons_are_passed_over(
    tmp_path: Path, other: list[shapely.Geometry], read: bool
) -> None:
    path = write(tmp_path / "a.gpkg", other=other, one=BOXES)
    if read:
        assert len(read_footprints(path, UTM)) == len(BOXES)
        assert count_features(path) == len(BOXES)
    else:
        with pytest.raises(VectorError, match=r"several layers with polygons \(other, one\)"):
            read_footprints(path, UTM)


def test_styles_that_qgis_keeps_in_a_geopackage_are_no_layer(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", houses=BOXES)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE layer_styles (id INTEGER PRIMARY KEY, styleQML TEXT)")
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier)"
            " VALUES ('layer_styles', 'attributes', 'layer_styles')"
        )
    database.close()
    assert "layer_styles" in pyogrio.list_layers(path)
    assert len(read_footprints(path, UTM)) == len(BOXES)


def test_layers_that_are_all_empty_are_no_buildings(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", one=[], other=[])
    assert len(read_footprints(path, UTM)) == 0


def test_a_layer_that_is_filled_later_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", one=BOXES, other=[])
    assert len(read_footprints(path, UTM)) == len(BOXES)
    write(path, other=BOXES)
    with pytest.raises(VectorError, match=SEVERAL):
        read_footprints(path, UTM)


@pytest.mark.parametrize("own", [True, False])
def test_what_is_added_to_a_prediction_does_not_hide_it(tmp_path: Path, own: bool) -> None:
    path = tmp_path / "scene_buildings.gpkg"
    if own:
        batch = Footprints(np.array(BOXES[:2]), np.full(2, 0.5), np.full(2, 48.0))
        write_footprints(iter([batch]), UTM, path, stamp=Stamp("a" * 16, "b" * 16))
    else:
        write(path, buildings=BOXES[:2])
    write(path, missed=BOXES[2:])
    if own:
        assert len(read_footprints(path, UTM)) == count_features(path) == 2
    else:
        with pytest.raises(VectorError, match=r"\(buildings, missed\)"):
            read_footprints(path, UTM)


def test_the_arguments_of_one_layer_are_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", one=BOXES[:1], two=BOXES[1:])
    assert selection(["one"]) == {"layer": "one"}
    assert len(pyogrio.read_dataframe(path, **selection(["one", "two"]))) == len(BOXES)
    assert polygon_layers(path, ["GPKG"], together=True) == ("one", "two")


def test_the_driver_is_that_of_the_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gpkg", one=BOXES, other=BOXES)
    assert facts_of_layer(path, "other", ["GPKG"])["features"] == len(BOXES)
    with pytest.raises(VectorError, match="GPKG, not what its name says"):
        facts_of_layer(path, "one", ["FlatGeobuf"])
    with pytest.raises(VectorError, match="GPKG, not what its name says"):
        polygon_layers(path, ["FlatGeobuf"])
