"""GeoJSON of unknown origin; law: GDAL asks no server, and no CRS becomes another in silence.

Oracle of what GDAL does: GDAL itself, and a server on this machine that notes what it is asked for.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.data.footprints import read_footprints
from rhm.data.vectors import json_files
from rhm.data.vectors.area_of_interest import read_area
from rhm.data.vectors.json_files import check_crs_taken, check_json, is_json, version_of
from rhm.data.vectors.side_files import count_rows, driver_of, read_column, read_exactly, read_frame
from rhm.data.vectors.streamed_layer import streamed
from rhm.data.vectors.vector_layer import count_features, read_layer
from rhm.errors import VectorError

UTM = "urn:ogc:def:crs:EPSG::32633"
RING = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
POLYGON: dict[str, Any] = {"type": "Polygon", "coordinates": [RING]}


def named(name: str) -> dict[str, Any]:
    return {"type": "name", "properties": {"name": name}}


def link(address: str) -> dict[str, Any]:
    return {"type": "link", "properties": {"href": address, "type": "esriwkt"}}


def feature(**members: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": {"n": 1}, "geometry": POLYGON, **members}


def collection(*features: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", **members, "features": features or [feature()]}


def topology(**members: Any) -> dict[str, Any]:
    shape = {"type": "GeometryCollection", "geometries": [{"type": "Polygon", "arcs": [[0]]}]}
    return {"type": "Topology", "arcs": [RING], "objects": {"a": shape}, **members}


def written(path: Path, *documents: Any) -> Path:
    texts = (each if isinstance(each, str) else json.dumps(each) for each in documents)
    path.write_text("\n".join(texts))
    return path


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """The address of a server, and the paths that it has been asked for."""
    asked: list[str] = []

    class Noting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Noting) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/crs", asked
        server.shutdown()
        thread.join()


def leading_out(address: str) -> dict[str, list[Any]]:
    """Documents, by a name, from which GDAL fetches an address."""
    bad = link(address)
    text = json.dumps(feature(crs=bad))
    outer = {"type": "GeometryCollection", "geometries": [POLYGON | {"crs": bad}]}
    seq = feature(geometry=POLYGON | {"crs": bad})
    return {
        "link": [collection(crs=bad)],
        "URL": [collection(crs={"type": "URL", "properties": {"url": address}})],
        "prefix": [collection(crs=bad | {"type": "linked"})],
        "capitals": [collection(CRS=bad)],
        "twice": [json.dumps(collection(crs=bad)).replace('"crs"', '"crs": {}, "crs"', 1)],
        "escape": [json.dumps(collection(crs=bad)).replace('"crs"', '"\\u0063r\\u0073"')],
        "null": [json.dumps(collection(crs=bad)).replace('"crs"', '"crs\\u0000a"')],
        "white space": [json.dumps(collection(crs=bad)).replace('"crs":', '"crs"\v:\f')],
        "far": [json.dumps(collection(crs=bad)).replace('"crs":', '"crs"' + " " * 3000 + ":")],
        "padding": ["\n" * 5000 + json.dumps(collection(crs=bad))],
        "mark": ["\ufeff" + json.dumps(collection(crs=bad))],
        "padded": [f"loadGeoJSON({json.dumps(collection(crs=bad))})"],
        "feature": [feature(crs=bad)],
        "geometry": [POLYGON | {"crs": bad}],
        "parts": [collection(feature(geometry=outer))],
        "comment": [text.replace('"crs":', '"crs"/* */:')],
        "comment behind": [text.replace('"crs":', '"crs": // \n')],
        "quotes": [text.replace('"crs"', "'crs'")],
        "quotes inside": [text.replace('"link"', "'link'")],
        "topology": [topology(crs=bad)],
        "lines": [seq, seq],
    }


@pytest.mark.parametrize("name", leading_out(""))
def test_no_server_is_asked(tmp_path: Path, name: str, server: tuple[str, list[str]]) -> None:
    address, asked = server
    path = written(tmp_path / "a.geojson", *leading_out(address)[name])
    readers: list[Callable[[], Any]] = [
        lambda: read_layer(path, lambda _: None),
        lambda: read_footprints(path, "EPSG:32633"),
        lambda: read_area(path),
        lambda: count_features(path),
        lambda: streamed(path, []).__enter__(),
        lambda: read_frame(path),
        lambda: read_exactly(path),
        lambda: read_column(path, "n"),
        lambda: count_rows(path),
        lambda: driver_of(path),
    ]
    for read in readers:
        with pytest.raises(VectorError) as refused:
            read()
        assert "\n" not in str(refused.value)
        assert asked == []


def test_gdal_alone_asks_the_server(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    """In a process of its own, because GDAL keeps the threads of this one waiting."""
    address, asked = server
    names = leading_out(address)
    paths = [
        written(tmp_path / f"{number}.geojson", *leading_out(f"{address}/{number}")[name])
        for number, name in enumerate(names)
    ]
    program = "import sys, pyogrio; [pyogrio.read_dataframe(path) for path in sys.argv[1:]]"
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, *map(str, paths)], check=True)
    assert {path.rpartition("/")[2] for path in asked} == {path.stem for path in paths}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("urn:ogc:def:crs:OGC:1.3:CRS84", 4326),
        ("urn:ogc:def:crs:EPSG::32633", 32633),
        ("EPSG:32633", 32633),
        ("epsg:2154", 2154),
        ("http://www.opengis.net/def/crs/EPSG/0/32633", 32633),
        ("http://www.opengis.net/def/crs/OGC/1.3/CRS84", 4326),
    ],
)
def test_a_crs_with_a_name_is_read(tmp_path: Path, name: str, code: int) -> None:
    crs = pyproj.CRS(code)
    for number, document in enumerate((collection(crs=named(name)), feature(crs=named(name)))):
        path = written(tmp_path / f"{number}.geojson", document)
        for found in (read_layer(path, lambda _: None).crs, read_frame(path).crs):
            assert pyproj.CRS(found).equals(crs, ignore_axis_order=True)


@pytest.mark.filterwarnings("ignore:EPSG.102003 is not a valid CRS code:RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("EPSG:102003", "ESRI:102003"),
        ("urn:ogc:def:crs:EPSG::102003", "ESRI:102003"),
        ("CRS84", "OGC:CRS84"),
        (f"{UTM} ", "EPSG:32633"),
        ("http://www.opengis.net/gml/srs/epsg.xml#4326", "EPSG:4326"),
    ],
)
def test_names_that_gdal_understands_are_read(tmp_path: Path, name: str, known: str) -> None:
    path = written(tmp_path / "a.geojson", collection(crs=named(name)))
    found = pyproj.CRS(read_layer(path, lambda _: None).crs)
    assert found.equals(pyproj.CRS(known), ignore_axis_order=True)


@pytest.mark.parametrize("properties", [{"crs": {"epsg": 32636}}, {"about": {"crs": {"code": 1}}}])
def test_attributes_may_be_objects_of_this_name(tmp_path: Path, properties: Any) -> None:
    path = written(tmp_path / "a.geojson", collection(feature(properties=properties)))
    assert pyproj.CRS(read_layer(path, lambda _: None).crs) == pyproj.CRS("EPSG:4326")


@pytest.mark.parametrize(
    "crs",
    [
        {"type": "EPSG", "properties": {"code": 32633}},
        {"type": "EPSG", "properties": {"code": "32633"}},
        {"TYPE": "Name", "Properties": {"NAME": "EPSG:32633"}},
        {"type": "OGC", "properties": {"urn": UTM}},
    ],
)
def test_other_ways_to_write_a_crs(tmp_path: Path, crs: dict[str, Any]) -> None:
    path = written(tmp_path / "a.json", collection(crs=crs))
    assert pyproj.CRS(read_layer(path, lambda _: None).crs) == pyproj.CRS("EPSG:32633")


@pytest.mark.parametrize(
    ("crs", "told"),
    [
        (named("EPSG::999999"), "its CRS 'EPSG::999999' is unknown"),
        (named("no\nname"), "its CRS 'no\ufffdname' is unknown"),
        (named(""), "its CRS '' is unknown"),
        (named("EPSG:32633\0"), "has no name"),
        ({"type": "EPSG", "code": "foo"}, "has no code"),
        ({"type": "EPSG", "properties": {"code": True}}, "has no code"),
        ({"type": "EPSG", "properties": {"code": 1.5}}, "has no code"),
        ({"type": "EPSG", "properties": {"code": 1}}, "'EPSG:1' is unknown"),
        ({"type": "name", "properties": None}, "has no name"),
        ({"type": "name", "TYPE": "link"}, "damaged or too long"),
        ({"type": "file", "properties": {}}, "of the type 'file', which is not read"),
        ({}, "its member 'crs' is null, or no CRS"),
        (named("a" * 70_000), "damaged or too long"),
        (None, "its member 'crs' is null, or no CRS"),
        ("EPSG:32633", "its member 'crs' is null, or no CRS"),
        ([named(UTM)], "its member 'crs' is null, or no CRS"),
        (32633, "its member 'crs' is null, or no CRS"),
    ],
)
def test_a_crs_that_is_none_does_not_become_wgs_84(tmp_path: Path, crs: Any, told: str) -> None:
    path = written(tmp_path / "a.geojson", collection(crs=crs))
    assert pyogrio.read_info(path)["crs"] in ("EPSG:4326", "EPSG:32633")  # as GDAL reads it
    for read in (lambda: read_layer(path, lambda _: None), lambda: read_frame(path)):
        with pytest.raises(VectorError, match="name the CRS of its coordinates") as refused:
            read()
        assert told in str(refused.value)
        assert "\n" not in str(refused.value)


def test_lines_without_crs_do_not_become_wgs_84(tmp_path: Path) -> None:
    for mark in ("", "\x1e"):
        lines = [mark + json.dumps(feature()), mark + json.dumps(feature(crs=None))]
        with pytest.raises(VectorError, match="or no CRS"):
            read_layer(written(tmp_path / "a.geojsonl", *lines), lambda _: None)


@pytest.mark.parametrize(
    "documents",
    [
        [feature(crs=named(UTM)), feature(crs=named(UTM))],
        [collection(feature(crs=named(UTM)))],
        [collection(crs=named("WGS 84 / UTM zone 33N"))],
    ],
    ids=["lines", "features", "a name that GDAL does not know"],
)
def test_a_crs_that_gdal_does_not_see_is_refused(tmp_path: Path, documents: list[Any]) -> None:
    path = written(tmp_path / "a.geojson", *documents)
    assert pyogrio.read_info(path)["crs"] == "EPSG:4326"
    for read in (lambda: read_layer(path, lambda _: None), lambda: read_frame(path)):
        with pytest.raises(VectorError, match=r"in WGS 84, but says that .* 33N'"):
            read()
    check_crs_taken(path, "EPSG:32633")
    check_crs_taken(path, None)


def test_several_crss_are_refused(tmp_path: Path) -> None:
    other = feature(crs=named("EPSG:32634"))
    with pytest.raises(VectorError, match=r"several CRSs, .* 33N' and .* 34N'"):
        check_json(written(tmp_path / "a.geojson", collection(other, crs=named(UTM))))
    same = feature(crs=named("EPSG:32633"))
    check_json(written(tmp_path / "b.geojson", collection(same, crs=named(UTM))))


@pytest.mark.parametrize(
    "properties",
    [
        {"crs": "EPSG:32633", "CRS": None},
        {"crs": 5, "a": {"crs": [1]}},
        {"a": "crs", "b": "the \"crs\": {'x'", "crs_": {"type": "link"}},
        {"name": "Gesch\u00e4ft \u0043"},
    ],
)
def test_attributes_may_have_any_name(tmp_path: Path, properties: dict[str, Any]) -> None:
    one = feature(properties=properties)
    for name, documents in {"a.geojson": [collection(one, one)], "b.geojsonl": [one, one]}.items():
        path = written(tmp_path / name, *documents)
        assert len(read_layer(path, lambda _: None).polygons) == 2
        assert len(read_frame(path)) == 2


def test_an_unreadable_document_is_for_gdal_to_refuse(tmp_path: Path) -> None:
    whole = json.dumps(collection(feature(properties={"crs": "a"})))
    check_json(written(tmp_path / "a.json", whole[:-20]))
    check_json(written(tmp_path / "b.json", "[" * 9999 + whole))
    check_json(written(tmp_path / "c.json", '{"crs": 1' + '{"a":[' * 9999))


@given(place=st.integers(-80, 80), blocks=st.integers(1, 2), escaped=st.booleans())
def test_names_across_the_ends_of_blocks_are_found(
    tmp_path_factory: pytest.TempPathFactory, place: int, blocks: int, escaped: bool
) -> None:
    path = tmp_path_factory.mktemp("blocks") / "a.geojson"
    member = json.dumps({"crs": {"type": "link"}})[1:-1]
    if escaped:
        member = member.replace("crs", "\\u0063\\u0072\\u0073")
    block, before = 1 << 10, "{"
    gap = " " * (blocks * block + place - len(before))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_files, "_BLOCK", block)
        with pytest.raises(VectorError, match="'link'"):
            check_json(written(path, f"{before}{gap}{member}}}"))
        command = '"type": "gdal_streamed_alg"'
        with pytest.raises(VectorError, match="command that GDAL would execute"):
            check_json(written(path.with_name("b.json"), f"{before}{gap}{command}}}"))
        name = json.dumps({"crs": named(UTM)})[1:-1]
        check_json(written(path.with_name("c.json"), f"{before}{gap}{name}}}"))


def test_a_command_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = "gdal vector pipeline ! read secret.gpkg ! filter"
    document = {"type": "gdal_streamed_alg", "command_line": command}
    path = written(tmp_path / "a.geojson", document)

    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("GDAL has opened the file")

    for name in ("list_layers", "read_info", "read_dataframe", "open_arrow"):
        monkeypatch.setattr(pyogrio, name, opened)
    monkeypatch.setattr("geopandas.read_file", opened)
    for read in (
        lambda: read_layer(path, lambda _: None),
        lambda: streamed(path, []).__enter__(),
        lambda: count_features(path),
        lambda: read_frame(path),
        lambda: read_exactly(path),
        lambda: read_column(path, "n"),
        lambda: count_rows(path),
        lambda: driver_of(path),
    ):
        with pytest.raises(VectorError, match=r"a\.geojson is not read: it holds a command"):
            read()


def test_a_file_that_changes_is_checked_again(tmp_path: Path) -> None:
    path = written(tmp_path / "a.geojson", collection())
    before = version_of(path)
    check_json(path)
    written(path, collection(crs=link("http://localhost/")))
    assert version_of(path) != before
    with pytest.raises(VectorError, match="'link'"):
        check_json(path)


def test_other_formats_are_passed_over(tmp_path: Path) -> None:
    text = json.dumps(collection(crs=link("http://localhost/")))
    check_json(written(tmp_path / "a.kml", f"<kml>{text}</kml>"))
    check_json(written(tmp_path / "empty.geojson"))
    (tmp_path / "a.fgb").write_bytes(np.arange(256, dtype=np.uint8).tobytes())
    check_json(tmp_path / "a.fgb")


def test_what_begins_like_json() -> None:
    assert all(map(is_json, (b"{", b"\xef\xbb\xbf \n{", b"\x1e{", b"\v\f{")))
    assert not any(map(is_json, (b"", b"[", b"<", b"x{", b" \xef\xbb\xbf{")))
