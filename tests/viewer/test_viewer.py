"""What the viewer's server finds, shows, and refuses."""

import json
import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import geopandas
import numpy as np
import pandas
import pyogrio
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint

from rhm.cli.main import run
from rhm.errors import ConfigError, OutputError, RasterError, VectorError
from rhm.inference import predict_raster
from rhm.viewer.footprint_layer import MOST, FootprintLayer
from rhm.viewer.map_tiles import Place, Rendering, image_tile, probability_tile
from rhm.viewer.predictions import find_predictions
from rhm.viewer.server import ViewerServer
from tests.data.imagery import write_raster
from tests.viewer.conftest import Brightness, write_scene


@contextmanager
def serving(folder: Path, *scenes: Path) -> Iterator[ViewerServer]:
    predictions, _ = find_predictions(folder, map(str, scenes))
    with ViewerServer(predictions) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(url: str, **headers: str) -> tuple[int, bytes, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:  # noqa: S310
            return answer.status, answer.read(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), ""


def picture(data: bytes | None) -> NDArray[np.uint8]:
    assert data is not None
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)


def test_it_finds_what_belongs_together(results: Path, scene: Path) -> None:
    (found,), notes = find_predictions(results)
    assert (found.name, found.height, found.width) == ("town", 600, 900)
    assert found.threshold == 0.4
    assert found.buildings == results / "town_buildings.gpkg"
    assert found.image is None
    assert "--scene" in notes[0]
    (found,), notes = find_predictions(results, [str(scene)])
    assert (found.image, notes) == (str(scene), [])
    shutil.copy(scene, results / "town.tif")
    (found,), notes = find_predictions(results)
    assert (found.image, notes) == (str(results / "town.tif"), [])


def test_a_scene_of_another_size_is_not_shown(results: Path, tmp_path: Path) -> None:
    other = write_raster(tmp_path / "town.tif", np.zeros((10, 10), np.uint8))
    (found,), (note,) = find_predictions(results, [str(other)])
    assert found.image is None
    assert "another size" in note


def test_folders_without_predictions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a folder"):
        find_predictions(tmp_path / "missing")
    with pytest.raises(ConfigError, match="contains no results"):
        find_predictions(tmp_path)
    (tmp_path / "x_probability.tif").write_text("not a raster")
    with pytest.raises(ConfigError, match="not a GeoTIFF"):
        find_predictions(tmp_path)


def test_tiles_are_the_raster_at_every_level(results: Path) -> None:
    (found,), _ = find_predictions(results)
    with rasterio.open(found.probability) as raster:
        stored = raster.read(1)
    tile = picture(probability_tile(found, Place(0, 1, 0)))
    np.testing.assert_array_equal(tile, stored[:256, 256:512])
    corner = picture(probability_tile(found, Place(0, 3, 2)))
    np.testing.assert_array_equal(corner[:88, :132], stored[512:, 768:])
    assert (corner[88:] == 255).all()
    assert (corner[:, 132:] == 255).all()
    whole = picture(probability_tile(found, Place(2, 0, 0)))
    assert (whole[150:] == 255).all()
    np.testing.assert_allclose(
        whole[51:56, 27:33], stored[204:224, 108:132].reshape(5, 4, 6, 4).mean((1, 3)), atol=2
    )
    assert probability_tile(found, Place(0, 4, 0)) is None


def test_probabilities_as_floats_are_shown_alike(results: Path, scene: Path) -> None:
    (as_bytes,), _ = find_predictions(results)
    predict_raster(Brightness(), scene, results / "floats", tile=256, dtype="float32")
    (as_floats,), _ = find_predictions(results / "floats")
    for place in (Place(0, 0, 0), Place(0, 3, 2)):
        first, second = (picture(probability_tile(p, place)) for p in (as_bytes, as_floats))
        np.testing.assert_array_equal(first, second)


def test_scenes_are_shown_in_colour_with_nodata_left_clear(results: Path, scene: Path) -> None:
    (found,), _ = find_predictions(results, [str(scene)])
    with found.open_image() as raster:
        rendering = Rendering.of(raster)
    assert rendering.bands == (1, 2, 3)
    tile = picture(image_tile(found, rendering, Place(0, 3, 0)))
    assert tile.shape == (256, 256, 4)
    assert tile[5, 20, 0] == pytest.approx(20, abs=2)
    assert tile[5, 20, 3] == 255
    assert (tile[:, 112:, 3] == 0).all()


def test_sixteen_bits_are_stretched_to_what_is_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = write_raster(tmp_path / "x.tif", rng.integers(300, 900, (64, 64, 1)).astype(np.uint16))
    with rasterio.open(path) as raster:
        rendering = Rendering.of(raster)
    assert rendering.bands == (1,)
    assert 300 <= rendering.low[0] < 330
    assert 870 < rendering.high[0] <= 900


def test_footprints_are_told_in_pixels(results: Path) -> None:
    (found,), _ = find_predictions(results)
    layer = FootprintLayer(found)
    assert len(layer) == 2
    answer = json.loads(layer.within(90, 190, 150, 240))
    assert answer["count"] == 1
    (footprint,) = answer["footprints"]
    assert footprint["score"] > 0.9
    assert footprint["area_m2"] == pytest.approx(40 * 30 / 4, rel=0.05)
    (ring,) = footprint["rings"]
    assert shapely.Polygon(ring).bounds == pytest.approx((100, 200, 140, 230), abs=0.5)
    assert json.loads(layer.within(500, 0, 600, 100)) == {"count": 0, "footprints": []}


@pytest.mark.parametrize("suffix", [".parquet", ".fgb", ".geojson"])
def test_footprints_of_every_format_lie_in_the_same_place(
    results: Path, scene: Path, tmp_path: Path, suffix: str
) -> None:
    (found,), _ = find_predictions(results)
    expected = json.loads(FootprintLayer(found).within(0, 0, 900, 600))
    frame = geopandas.read_file(found.buildings)
    assert found.buildings is not None
    other = tmp_path / f"x{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(other)
    else:
        (frame.to_crs(4326) if suffix == ".geojson" else frame).to_file(other)
    layer = FootprintLayer(replace(found, buildings=other))
    answer = json.loads(layer.within(0, 0, 900, 600))
    key = lambda each: each["score"]  # noqa: E731
    for ours, theirs in zip(
        sorted(answer["footprints"], key=key), sorted(expected["footprints"], key=key), strict=True
    ):
        assert shapely.Polygon(ours["rings"][0]).equals_exact(
            shapely.Polygon(theirs["rings"][0]), 0.05, normalize=True
        )


def test_ground_control_points_place_footprints_too(tmp_path: Path) -> None:
    gcps = [
        GroundControlPoint(row, col, 500_000 + col * 0.5 + row * 0.1, 5_000_000 - row * 0.5)
        for row in (0, 600)
        for col in (0, 900)
    ]
    pixels = np.full((600, 900, 1), 20, dtype=np.uint8)
    pixels[200:230, 100:140] = 250
    with rasterio.open(
        tmp_path / "town.tif", "w", driver="GTiff", height=600, width=900, count=1,
        dtype="uint8", gcps=gcps, crs="EPSG:32633",
    ) as raster:  # fmt: skip
        raster.write(pixels[..., 0], 1)
    predict_raster(Brightness(), tmp_path / "town.tif", tmp_path / "out", tile=256)
    (found,), _ = find_predictions(tmp_path / "out")
    (footprint,) = json.loads(FootprintLayer(found).within(0, 0, 900, 600))["footprints"]
    assert shapely.Polygon(footprint["rings"][0]).bounds == pytest.approx(
        (100, 200, 140, 230), abs=0.5
    )


def test_more_footprints_than_can_be_told_apart_are_only_counted(results: Path) -> None:
    (found,), _ = find_predictions(results)
    frame = geopandas.read_file(found.buildings)
    many = geopandas.GeoDataFrame(geometry=[frame.geometry.iloc[0]] * (MOST + 1), crs=frame.crs)
    many.to_parquet(results / "many.parquet")
    layer = FootprintLayer(replace(found, buildings=results / "many.parquet"))
    assert json.loads(layer.within(0, 0, 900, 600)) == {"count": MOST + 1, "footprints": []}


def test_the_server_answers_what_the_page_asks(results: Path, scene: Path) -> None:
    with serving(results, scene) as server:
        code, body, kind = ask(server.url)
        assert (code, kind) == (200, "text/html; charset=utf-8")
        assert b"viewer.js" in body
        for name in ("viewer.js", "viewer.css", "leaflet.js", "leaflet.css"):
            assert ask(server.url + name)[0] == 200
        (facts,) = json.loads(ask(server.url + "scenes.json")[1])
        assert facts["name"] == "town"
        assert ask(server.url + "tiles/0/probability/0/0/0")[2] == "image/png"
        assert ask(server.url + "tiles/0/image/0/0/0")[2] == "image/webp"
        assert json.loads(ask(server.url + "footprints/0/0/0/900/600")[1])["count"] == 2


@pytest.mark.parametrize(
    "asked",
    [
        "../", "..%2f..%2fetc/passwd", "/etc/passwd", "static/viewer.js", "town_mask.tif",
        "tiles/1/probability/0/0/0", "tiles/0/secret/0/0/0", "tiles/0/probability/0/-1/0",
        "tiles/0/probability/25/0/0", "tiles/0/probability/0/9999999/0", "footprints/0/1/2/3",
        "footprints/9/0/0/1/1", "viewer.js?x", "tiles/0/probability/0/%D9%A3/0",
    ],
)  # fmt: skip
def test_the_server_answers_nothing_else(results: Path, asked: str) -> None:
    with serving(results) as server:
        url = server.url + urllib.parse.quote(asked, safe="/%?.-")
        assert ask(url)[0] == 404


def test_the_server_asks_for_its_secret_and_its_own_name(results: Path) -> None:
    with serving(results) as server:
        assert server.server_address[0] == "127.0.0.1"
        root = f"http://127.0.0.1:{server.server_port}/"
        for wrong in ("", "scenes.json", "x" * len(server.secret) + "/scenes.json"):
            assert ask(root + wrong)[0] == 404
        assert ask(server.url, Host="evil.example")[0] == 404
        assert ask(server.url, Host=f"localhost:{server.server_port}")[0] == 200


def test_links_out_of_the_folder_are_left_out(results: Path, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir()
    for file in list(results.iterdir()):
        shutil.copy(file, private)
    (results / "leak_probability.tif").symlink_to(private / "town_probability.tif")
    (results / "town_buildings.gpkg").unlink()
    (results / "town_buildings.gpkg").symlink_to(private / "town_buildings.gpkg")
    (results / "town.tif").symlink_to(write_scene(private / "town.tif"))
    (found,), notes = find_predictions(results)
    assert (found.name, found.buildings, found.image) == ("town", None, None)
    assert any("link that leads out of the folder" in note for note in notes)


def test_virtual_files_under_a_rasters_name_are_not_opened(results: Path, tmp_path: Path) -> None:
    private = write_scene(tmp_path / "private.tif")
    virtual = (
        f'<VRTDataset rasterXSize="900" rasterYSize="600"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{private}</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    (results / "town.tif").write_text(virtual)
    (results / "leak_probability.tif").write_text(virtual)
    (found,), notes = find_predictions(results)
    assert (found.name, found.image) == ("town", None)
    assert sum("not a GeoTIFF" in note for note in notes) == 2
    vector = results / "town_buildings.gpkg"
    vector.write_text(
        "<OGRVRTDataSource><OGRVRTLayer name='x'><SrcDataSource>/etc</SrcDataSource>"
        "</OGRVRTLayer></OGRVRTDataSource>"
    )
    with pytest.raises(VectorError, match="is not GPKG"):
        FootprintLayer(found)


def test_side_files_are_not_read(results: Path, tmp_path: Path) -> None:
    side = results / "town_probability.tif.aux.xml"
    side.write_text(
        f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">'
        f"{write_scene(tmp_path / 'private.tif')}</MDI></Metadata></PAMDataset>"
    )
    (found,), _ = find_predictions(results)
    with found.open_probability() as raster:
        assert raster.tags(ns="OVERVIEWS") == {}


@pytest.mark.parametrize("bands", [3, 1])
def test_rasters_of_something_else_are_left_out(results: Path, bands: int) -> None:
    with rasterio.open(
        results / "x_probability.tif", "w", driver="GTiff", height=9, width=9, count=bands,
        dtype="uint8" if bands > 1 else "complex64", crs="EPSG:32633",
        transform=rasterio.transform.from_origin(0, 9, 1, 1),
    ) as raster:  # fmt: skip
        raster.write(np.zeros((bands, 9, 9), raster.dtypes[0]))
    (found,), notes = find_predictions(results)
    assert found.name == "town"
    assert any("contains no probabilities" in note for note in notes)


def test_footprints_without_geometry_are_one_error(results: Path) -> None:
    (found,), _ = find_predictions(results)
    assert found.buildings is not None
    pyogrio.write_dataframe(pandas.DataFrame({"score": [1.0]}), results / "none.gpkg")
    with pytest.raises(VectorError, match="no geometry"):
        FootprintLayer(replace(found, buildings=results / "none.gpkg"))


def test_a_raster_that_breaks_while_it_is_shown_is_one_error(results: Path) -> None:
    with serving(results) as server:
        path = results / "town_probability.tif"
        path.write_bytes(path.read_bytes()[:2000])
        code, body, _ = ask(server.url + "tiles/0/probability/0/0/0")
        assert code == 500
        assert b"town_probability.tif" in body
        (results / "town_buildings.gpkg").write_bytes(b"SQLite format 3\0 nonsense")
        code, body, _ = ask(server.url + "footprints/0/0/0/9/9")
        assert code == 500
        assert b"town_buildings.gpkg" in body or b"town_probability.tif" in body


def test_footprints_without_numbers_are_shown_without(results: Path) -> None:
    (found,), _ = find_predictions(results)
    frame = geopandas.read_file(found.buildings)[["geometry"]].assign(score="<b>high</b>")
    frame.to_parquet(results / "odd.parquet")
    layer = FootprintLayer(replace(found, buildings=results / "odd.parquet"))
    (first, _) = json.loads(layer.within(0, 0, 900, 600))["footprints"]
    assert (first["score"], first["area_m2"]) == (None, None)


def test_a_taken_port_is_said(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions, _ = find_predictions(results)
    with ViewerServer(predictions) as server:
        with pytest.raises(OutputError, match="cannot be used"):
            ViewerServer(predictions, server.server_port)
        words = ["view", str(results), "--port", str(server.server_port), "--no-browser"]
        assert run(words) == 2
    assert "cannot be used" in capsys.readouterr().err


def test_the_scene_must_be_there(results: Path) -> None:
    (found,), _ = find_predictions(results)
    with pytest.raises(RasterError, match="not found"):
        found.open_image()
