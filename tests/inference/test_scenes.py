"""Scenes in, footprints out: files, nodata, sizes, places and names."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.rpc import RPC
from rasterio.transform import from_origin
from torch import nn

from rhm.inference import polygonize, predict_raster
from rhm.inference.polygons import PolygonConfig
from tests.inference.scenes import UTM, Bright, write_scene


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_scene_becomes_probability_mask_and_footprints(
    houses: NDArray[np.uint8], tmp_path: Path, dtype: str
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    result = predict_raster(Bright(), scene, tmp_path / "out", tile=64, overlap=16, dtype=dtype)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["x_buildings.gpkg", "x_mask.tif", "x_probability.tif"]
    with rasterio.open(scene) as source, rasterio.open(result.probability) as probability:
        assert (probability.crs, probability.transform) == (source.crs, source.transform)
        assert probability.shape == source.shape
        assert probability.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        values = probability.read(1) * probability.scales[0]
        assert values.dtype.kind == "f"
        assert values[30, 40] > 0.99
        assert values[0, 0] < 0.01
    with rasterio.open(result.mask) as mask:
        assert mask.nodata == 255
        np.testing.assert_array_equal(mask.read(1), houses[..., 0] == 230)
    frame = geopandas.read_file(result.buildings, layer="buildings")
    assert frame.crs == UTM
    assert sorted(frame["area_m2"].round(1)) == pytest.approx([30.0, 100.0], rel=1e-3)
    assert frame["score"].between(0.99, 1.0).all()
    assert frame.geometry.is_valid.all()


def test_the_mask_and_the_footprints_agree_at_the_threshold(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(40, 0).repeat(3, 2)
    scene = write_scene(tmp_path / "ramp.tif", ramp)
    for dtype in ("uint8", "float32"):
        for threshold in (0.5, 0.3, 1 / 254):
            result = predict_raster(
                Bright(),
                scene,
                tmp_path / dtype,
                dtype=dtype,
                polygons=PolygonConfig(threshold=threshold),
            )
            with rasterio.open(result.mask) as mask:
                masked = int(mask.read(1).sum())
            area = polygonize(result.probability, threshold=threshold)["area_m2"].sum()
            assert area == pytest.approx(masked * 0.25, rel=1e-3)


def test_nodata_in_is_nodata_out(houses: NDArray[np.uint8], tmp_path: Path) -> None:
    pixels = houses.copy()
    pixels[:, :35] = 0
    declared = write_scene(tmp_path / "declared.tif", pixels, nodata=0)
    result = predict_raster(Bright(), declared, tmp_path, tile=64, overlap=16)
    with rasterio.open(result.probability) as probability, rasterio.open(result.mask) as mask:
        nowhere = np.zeros(houses.shape[:2], dtype=bool)
        nowhere[:, :35] = True
        np.testing.assert_array_equal(probability.dataset_mask() == 0, nowhere)
        np.testing.assert_array_equal(mask.read(1) == 255, nowhere)
    frame = geopandas.read_file(result.buildings)
    assert frame["area_m2"].max() == pytest.approx(75.0, rel=1e-3)
    undeclared = write_scene(tmp_path / "undeclared.tif", pixels)
    black = predict_raster(Bright(), undeclared, tmp_path, black_is_nodata=True)
    with rasterio.open(black.mask) as mask:
        np.testing.assert_array_equal(mask.read(1) == 255, nowhere)


def test_a_scene_of_nothing_but_nodata_has_no_buildings(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.uint16):
        scene = write_scene(
            tmp_path / f"{np.dtype(dtype)}.tif", np.zeros((70, 50, 3), dtype), nodata=0
        )
        result = predict_raster(Bright(), scene, tmp_path, tile=32, overlap=8)
        assert result.count == 0
        frame = geopandas.read_file(result.buildings)
        assert len(frame) == 0
        assert {"score", "area_m2"} <= set(frame.columns)
        with rasterio.open(result.mask) as mask:
            assert (mask.read(1) == 255).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 7), (513, 20)])
def test_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    scene = write_scene(tmp_path / "s.tif", np.full((*size, 3), 200, np.uint8))
    result = predict_raster(Bright(), scene, tmp_path)
    with rasterio.open(result.probability) as probability:
        assert probability.shape == size
        np.testing.assert_allclose(
            probability.read(1), 1 / (1 + np.exp(-20 * (200 / 255 - 0.5))), atol=1e-5
        )


def test_a_scene_without_crs_is_measured_in_pixels(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses, crs=None, transform=None)
    result = predict_raster(Bright(), scene, tmp_path)
    frame = geopandas.read_file(result.buildings)
    assert frame.crs is None
    assert sorted(frame["area_m2"]) == pytest.approx([120.0, 400.0])


def test_degrees_are_measured_in_metres(houses: NDArray[np.uint8], tmp_path: Path) -> None:
    step = 0.5 / 111_320
    scene = write_scene(
        tmp_path / "x.tif",
        houses,
        crs="EPSG:4326",
        transform=from_origin(10.0, 0.001, step, step),
    )
    frame = geopandas.read_file(predict_raster(Bright(), scene, tmp_path).buildings)
    assert frame.crs == "EPSG:4326"
    assert sorted(frame["area_m2"]) == pytest.approx([30.0, 100.0], rel=0.01)


def test_a_place_off_the_earth_is_measured_in_pixels_and_said(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses, crs="EPSG:4326")  # but metres of UTM
    result = predict_raster(Bright(), scene, tmp_path)
    assert "not on Earth" in result.notes[0]
    assert sorted(geopandas.read_file(result.buildings)["area_m2"]) == [120.0, 400.0]


def test_odd_names_are_written(houses: NDArray[np.uint8], tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "a;b'c%d é.tif", houses)
    result = predict_raster(Bright(), scene, tmp_path / "out")
    assert result.buildings.name == "a;b'c%d é_buildings.gpkg"
    # GDAL itself would misread the name.
    plain = result.buildings.rename(tmp_path / "plain.gpkg")
    assert len(geopandas.read_file(plain)) == 2


def test_a_module_is_evaluated_and_keeps_its_statistics(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1)).train()
    before = model.state_dict()["0.running_mean"].clone()
    predict_raster(model, write_scene(tmp_path / "x.tif", houses), tmp_path)
    # Going back to training would race with other threads that predict with it.
    assert not model.training
    assert torch.equal(model.state_dict()["0.running_mean"], before)


def test_rational_polynomials_are_kept(houses: NDArray[np.uint8], tmp_path: Path) -> None:
    """The only georeferencing of most satellite scenes as they are delivered."""
    ones = [1.0, *[0.0] * 19]
    sloped = [0.0, 1.0, *[0.0] * 18]
    rpcs = RPC(
        *(10.0, 500.0, 45.0, 0.1, sloped, ones, 100.0, 100.0),
        *(15.0, 0.1, sloped, ones, 150.0, 150.0),
    )
    scene = write_scene(tmp_path / "x.tif", houses, crs=None, transform=None, rpcs=rpcs)
    result = predict_raster(Bright(), scene, tmp_path / "out")
    with rasterio.open(scene) as source:
        assert source.rpcs is not None
        for path in (result.probability, result.mask):
            with rasterio.open(path) as raster:
                assert raster.rpcs == source.rpcs


def test_results_are_named_after_a_link_and_not_after_its_target(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    store = write_scene(tmp_path / "3f9a.tif", houses)
    link = tmp_path / "tile7.tif"
    link.symlink_to(store)
    result = predict_raster(Bright(), link, tmp_path / "out")
    assert result.mask.name == "tile7_mask.tif"
    assert result.count == 2


def test_footprints_of_an_earlier_prediction_in_another_format_stay_and_are_told(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene, out = write_scene(tmp_path / "x.tif", houses), tmp_path / "out"
    first = predict_raster(Bright(), scene, out)
    before = first.buildings.read_bytes()
    options: dict[str, Any] = {"suffix": ".geojson", "resume": True}
    options["polygons"] = PolygonConfig(0.4)
    for _ in range(2):
        again = predict_raster(Bright(), scene, out, **options)
        (note,) = [each for each in again.notes if "earlier prediction" in each]
        assert "(.gpkg)" in note
    assert first.buildings.read_bytes() == before
    first.buildings.unlink()
    alone = predict_raster(Bright(), scene, out, **options)
    assert alone.notes == ("the results already existed",)
