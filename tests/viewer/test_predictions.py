"""What the viewer finds in a folder: files that belong together, and none from outside it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from rhm.errors import CatalogError, ConfigError, RasterError, VectorError
from rhm.inference import predict_raster
from rhm.inference.polygons import PolygonConfig
from rhm.inference.tiling.storage import THRESHOLD
from rhm.viewer.predictions import find_predictions, open_alone, read_vectors_alone
from tests.data.imagery import write_raster
from tests.viewer.conftest import Brightness, write_scene


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


def test_the_asset_of_an_item_is_the_scene(results: Path, scene: Path) -> None:
    document, other = scene.with_name("items.json"), scene.with_name("red.tif")
    shutil.copy(scene, other)
    assets = {file.stem: {"href": file.name, "type": "image/tiff"} for file in (other, scene)}
    document.write_text(json.dumps({"type": "Feature", "id": "one", "assets": assets}))
    with pytest.raises(CatalogError, match="--asset: red, town"):
        find_predictions(results, [str(document)])
    (found,), notes = find_predictions(results, [str(document)], asset="town")
    assert (found.image, notes) == (str(scene), [])


def test_the_footprints_of_the_mask_are_shown_and_not_earlier_ones(
    results: Path, scene: Path
) -> None:
    options: dict[str, Any] = {"polygons": PolygonConfig(0.9), "suffix": ".geojson"}
    predict_raster(Brightness(), scene, results, tile=256, overwrite=True, **options)
    (results / "town_buildings.gpkg").touch()
    (found,), notes = find_predictions(results, [str(scene)])
    assert (found.threshold, found.buildings) == (0.9, results / "town_buildings.geojson")
    assert notes == [
        "town_buildings.gpkg is left out, because town_buildings.geojson belongs to the mask"
    ]
    (results / "town_buildings.geojson").unlink()
    (found,), (note,) = find_predictions(results, [str(scene)])
    assert found.buildings == results / "town_buildings.gpkg"
    assert "not from the prediction that wrote the mask" in note


def test_a_scene_of_other_pixels_is_not_shown(results: Path, tmp_path: Path) -> None:
    other = write_raster(tmp_path / "town.tif", np.zeros((10, 10), np.uint8))
    (found,), (note,) = find_predictions(results, [str(other)])
    assert found.image is None
    assert "pixels are others" in note


def test_folders_without_predictions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a folder"):
        find_predictions(tmp_path / "missing")
    with pytest.raises(ConfigError, match="contains no results"):
        find_predictions(tmp_path)
    (tmp_path / "x_probability.tif").write_text("not a raster")
    with pytest.raises(ConfigError, match="not a GeoTIFF"):
        find_predictions(tmp_path)


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


def test_the_maps_of_other_classes_are_further_bands(results: Path) -> None:
    path = results / "town_probability.tif"
    with rasterio.open(path) as raster:
        profile, tags, first = raster.profile, raster.tags(), raster.read(1)
    with rasterio.open(path, "w", **(profile | {"count": 3, "driver": "GTiff"})) as raster:
        raster.update_tags(**tags)
        raster.write(np.stack([first] * 3))
    (found,), _ = find_predictions(results)
    assert (found.name, found.width, found.height) == ("town", 900, 600)


def test_the_side_of_a_pixel_is_known_where_the_scene_has_a_place(results: Path) -> None:
    (found,), _ = find_predictions(results)
    with rasterio.open(results / "town_probability.tif") as raster:
        assert found.pixel_m == pytest.approx(raster.res[0], rel=0.01)


def test_the_scene_must_be_there(results: Path) -> None:
    (found,), _ = find_predictions(results)
    with pytest.raises(RasterError, match="not found"):
        found.open_image()


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


@pytest.mark.parametrize(
    ("written", "expected"),
    [("0.25", 0.25), ("1", 1.0), ("1.5", 0.5), ("-0.1", 0.5), ("nan", 0.5), ("high", 0.5)],
)
def test_a_threshold_that_is_no_probability_is_one_half(
    results: Path, written: str, expected: float
) -> None:
    with rasterio.open(results / "town_mask.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as mask:
        mask.update_tags(**{THRESHOLD: written})
    (found,), _ = find_predictions(results)
    assert found.threshold == expected


def test_without_a_mask_the_threshold_is_one_half(results: Path) -> None:
    (results / "town_mask.tif").unlink()
    (found,), _ = find_predictions(results)
    assert found.threshold == 0.5


def test_a_geotiff_is_opened_as_rasterio_opens_it(results: Path) -> None:
    path = results / "town_probability.tif"
    with open_alone(path) as ours, rasterio.open(path) as theirs:
        assert ours.profile == theirs.profile
        np.testing.assert_array_equal(ours.read(), theirs.read())


def test_the_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("not a raster")
    for name in ("text.tif", "missing.tif", "\udcff.tif"):
        with pytest.raises(RasterError, match=r"\.tif is not a GeoTIFF"):
            open_alone(tmp_path / name)


PLACE = {"type": "Point", "coordinates": [0, 0]}
FEATURE = {"type": "Feature", "properties": {}, "geometry": PLACE}
COLLECTION = {"type": "FeatureCollection", "features": [FEATURE]}
LINK = {"type": "link", "properties": {"href": "http://127.0.0.1:9/", "type": "esriwkt"}}
COMMAND = "gdal vector pipeline ! read secret.gpkg ! filter"


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"type": "gdal_streamed_alg", "command_line": COMMAND}, "command that GDAL would execute"),
        (COLLECTION | {"crs": LINK}, "of the type 'link', which is not read"),
        (COLLECTION | {"crs": None}, "or no CRS"),
        (COLLECTION | {"coordRefSys": "[EPSG:32633]"}, "is JSONFG, not GeoJSON"),
        ({"type": "Topology", "arcs": [], "objects": {"a": PLACE}}, "is TopoJSON, not GeoJSON"),
    ],
)
def test_footprints_of_unknown_origin_lead_nowhere(
    tmp_path: Path, document: dict[str, Any], told: str
) -> None:
    path = tmp_path / "town_buildings.geojson"
    path.write_text(json.dumps(document))

    def read(_: Path) -> Any:
        raise AssertionError("the file has been read")

    with pytest.raises(VectorError, match=told) as refused:
        read_vectors_alone(path, read)
    assert "\n" not in str(refused.value)
    path.write_text(json.dumps(COLLECTION))
    assert len(read_vectors_alone(path)) == 1
