"""Scenes in, footprints out: files, nodata, resolutions, and what cannot be predicted."""

import warnings
from pathlib import Path
from typing import Any

import cv2
import geopandas
import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine, from_origin
from torch import nn

from rhm.data.radiometry import Scaling
from rhm.errors import ModelFileError, OutputError, RasterError
from rhm.inference import polygonize, predict_raster
from rhm.inference.polygons import PolygonConfig
from rhm.models.spec import ModelSpec

UTM = "EPSG:32633"
GRID = from_origin(500_000, 5_000_000, 0.5, 0.5)


def write_scene(
    path: Path,
    pixels: NDArray[Any],
    *,
    crs: str | None = UTM,
    transform: Affine | None = GRID,
    **profile: Any,
) -> Path:
    height, width, bands = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        dataset = rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=height,
            width=width,
            count=bands,
            dtype=pixels.dtype,
            crs=crs,
            transform=transform,
            **profile,
        )
    with dataset:
        dataset.write(np.moveaxis(pixels, -1, 0))
    return path


class Bright(nn.Module):
    """Calls bright pixels building; its spec says what imagery it takes."""

    def __init__(self, spec: ModelSpec | None = None) -> None:
        super().__init__()
        if spec is not None:
            self.spec = spec

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 20.0 * (images.mean(1, keepdim=True) - 0.5)


@pytest.fixture
def houses() -> NDArray[np.uint8]:
    """Return two bright houses of 100 and 30 square metres at half a metre, on dark ground."""
    pixels = np.full((200, 300, 3), 20, np.uint8)
    pixels[20:40, 30:50] = 230
    pixels[100:110, 200:212] = 230
    return pixels


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


def spec(**changes: Any) -> ModelSpec:
    values: dict[str, Any] = {
        "architecture": "unet",
        "encoder": "resnet18",
        "bands": 3,
        "mean": (0.0,),
        "std": (1.0,),
        "scalings": {"uint8": Scaling("uint8", (0.0,) * 3, (255.0,) * 3)},
        "gsd_m": 0.5,
    }
    return ModelSpec(**(values | changes))


def test_a_stored_range_is_applied_as_it_is(tmp_path: Path) -> None:
    pixels = np.full((40, 40, 3), 600, np.uint16)
    pixels[:20] = 400
    scene = write_scene(tmp_path / "x.tif", pixels)
    stored = spec(scalings={"uint16": Scaling("uint16", (0.0,) * 3, (1000.0,) * 3)})
    result = predict_raster(Bright(stored), scene, tmp_path)
    assert result.notes == ()
    with rasterio.open(result.probability) as probability:
        values = probability.read(1)
    np.testing.assert_allclose(values[30], 1 / (1 + np.exp(-20 * 0.1)), atol=1e-4)
    np.testing.assert_allclose(values[10], 1 / (1 + np.exp(20 * 0.1)), atol=1e-4)
    measured = predict_raster(Bright(spec()), scene, tmp_path)
    assert "the range of this scene was measured" in measured.notes[0]


def test_a_standardising_model_sees_the_scene_equalised(tmp_path: Path) -> None:
    """Oracle: OpenCV's equalisation, of the pixels that hold data."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(60, 120, (96, 160, 3)).astype(np.uint8)
    pixels[:, 110:] = 0
    scene = write_scene(tmp_path / "x.tif", pixels, nodata=0)
    model = Bright(spec(standardize="equalize"))
    result = predict_raster(model, scene, tmp_path, tile=64, overlap=16)
    known = pixels[:, :110]
    equalized = [cv2.equalizeHist(np.ascontiguousarray(known[..., band])) for band in range(3)]
    logits = 20.0 * (np.mean(equalized, axis=0) / 255.0 - 0.5)
    with rasterio.open(result.probability) as raster:
        seen = raster.read(1)
    np.testing.assert_allclose(seen[:, :110], 1.0 / (1.0 + np.exp(-logits)), atol=1e-5)
    assert (seen[:, 110:] == -1.0).all()


@pytest.mark.parametrize("standardize", ["equalize", "gray-world"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_scenes_without_data_and_of_one_colour_are_standardised_too(
    tmp_path: Path, standardize: str, dtype: str
) -> None:
    pixels = np.zeros((40, 50, 3), dtype)
    for name, nodata in (("blank", 0), ("flat", None)):
        scene = write_scene(tmp_path / f"{name}.tif", pixels, nodata=nodata)
        model = Bright(spec(standardize=standardize))
        with rasterio.open(predict_raster(model, scene, tmp_path).probability) as raster:
            seen = raster.read(1)
        assert np.unique(seen).size == 1
        assert (seen[0, 0] == -1.0) == (nodata == 0)


def test_a_scene_at_another_resolution_is_said_or_resampled(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    model = Bright(spec(gsd_m=1.0))
    told = predict_raster(model, scene, tmp_path / "told")
    assert "--resample" in told.notes[0]
    resampled = predict_raster(model, scene, tmp_path / "resampled", resample=True)
    assert resampled.notes == ()
    with rasterio.open(scene) as source, rasterio.open(resampled.probability) as probability:
        assert (probability.shape, probability.transform) == (source.shape, source.transform)
    frame = geopandas.read_file(resampled.buildings)
    # Interpolation takes the corners off.
    assert sorted(frame["area_m2"]) == pytest.approx([30.0, 100.0], rel=0.05)


@pytest.mark.parametrize("gsd_m", [0.21, 0.8, 1.7])
def test_a_resampled_prediction_lies_on_the_scene_with_its_nodata(
    houses: NDArray[np.uint8], tmp_path: Path, gsd_m: float
) -> None:
    rng = np.random.default_rng(0)
    pixels = np.maximum(houses, 1)
    nowhere = rng.random(pixels.shape[:2]) < 0.02
    nowhere[60:90, 20:50] = True
    pixels[nowhere] = 0
    scene = write_scene(tmp_path / "x.tif", pixels, nodata=0)
    model = Bright(spec(gsd_m=gsd_m))
    for dtype in ("float32", "uint8"):
        result = predict_raster(model, scene, tmp_path / dtype, resample=True, dtype=dtype)
        with rasterio.open(result.mask) as mask, rasterio.open(result.probability) as probability:
            seen = mask.read(1)
            assert (seen[nowhere] == 255).all()
            assert (probability.dataset_mask()[nowhere] == 0).all()
        # A pixel of the model's grid that holds no data takes its neighbourhood with it.
        known = seen != 255
        assert known.mean() > 0.5
        house = houses[..., 0] == 230
        assert (seen == 1)[known & house].mean() > 0.85
        assert (seen == 1)[known & ~house].mean() < 0.01


def test_scenes_that_do_not_fit_are_refused_and_nothing_is_left(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    scene = write_scene(tmp_path / "x.tif", houses)
    with pytest.raises(ModelFileError, match="has 3 bands, the model takes 4"):
        predict_raster(Bright(spec(bands=4, scalings={})), scene, out)
    with pytest.raises(RasterError, match="no such file"):
        predict_raster(Bright(), tmp_path / "none.tif", out)
    text = tmp_path / "text.tif"
    text.write_text("not a raster")
    with pytest.raises(RasterError, match="not a raster"):
        predict_raster(Bright(), text, out)
    cut = tmp_path / "cut.tif"
    cut.write_bytes(scene.read_bytes()[:-60_000])
    with pytest.raises(RasterError, match=r"cut\.tif"):
        predict_raster(Bright(), cut, out)
    assert not out.exists() or not list(out.iterdir())


def test_a_failure_leaves_earlier_results_alone(houses: NDArray[np.uint8], tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    first = predict_raster(Bright(), scene, tmp_path / "out", tile=64, overlap=16)
    before = {path.name: path.read_bytes() for path in first.mask.parent.iterdir()}

    def failing(images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        predict_raster(failing, scene, tmp_path / "out", tile=64, overlap=16)
    after = {path.name: path.read_bytes() for path in first.mask.parent.iterdir()}
    assert before == after


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb"])
def test_resume_does_a_scene_again_when_anything_changed(
    houses: NDArray[np.uint8], tmp_path: Path, suffix: str
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    options: dict[str, Any] = {"resume": True, "suffix": suffix}

    def again(**changes: Any) -> bool:
        result = predict_raster(Bright(), scene, tmp_path / "out", **(options | changes))
        assert result.count > 0
        return "the results already existed" not in result.notes

    assert again()
    assert not again()
    assert again(polygons=PolygonConfig(threshold=0.4))
    assert again(tile=96)
    houses[150:170, 150:170] = 230
    write_scene(scene, houses)
    assert again(tile=96)
    assert not again(tile=96)
    assert again(tile=96, views=True)
    assert not again(tile=96, views=True)
    assert again(tile=96)
    (tmp_path / "out" / "x_mask.tif").write_bytes(b"")
    assert again(tile=96)


def test_resume_does_a_scene_again_for_another_description_of_the_model(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    wider = {"uint8": Scaling("uint8", (0.0,) * 3, (300.0,) * 3)}
    for changes in ({}, {"standardize": "gray-world"}, {"scalings": wider}):
        for notes in ((), ("the results already existed",)):
            model = Bright(spec(**changes))
            assert predict_raster(model, scene, tmp_path, resume=True).notes == notes


def test_a_place_off_the_earth_is_measured_in_pixels_and_said(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses, crs="EPSG:4326")  # but metres of UTM
    result = predict_raster(Bright(), scene, tmp_path)
    assert "not on Earth" in result.notes[0]
    assert sorted(geopandas.read_file(result.buildings)["area_m2"]) == [120.0, 400.0]


def test_what_geojson_cannot_hold_is_said_before_predicting(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses, crs=None, transform=None)
    options = {"suffix": ".geojson"}
    with pytest.raises(OutputError, match="GeoJSON needs"):
        predict_raster(Bright(), scene, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_blocked_result_leaves_none_of_the_three(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    (tmp_path / "out" / "x_buildings.gpkg").mkdir(parents=True)
    with pytest.raises(OutputError, match="it is a folder"):
        predict_raster(Bright(), scene, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x_buildings.gpkg"]


def test_odd_names_are_written(houses: NDArray[np.uint8], tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "a;b'c%d é.tif", houses)
    result = predict_raster(Bright(), scene, tmp_path / "out")
    assert result.buildings.name == "a;b'c%d é_buildings.gpkg"
    # GDAL itself would misread the name.
    plain = result.buildings.rename(tmp_path / "plain.gpkg")
    assert len(geopandas.read_file(plain)) == 2


def test_a_module_is_left_in_its_mode_with_its_statistics(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1)).train()
    before = model.state_dict()["0.running_mean"].clone()
    predict_raster(model, write_scene(tmp_path / "x.tif", houses), tmp_path)
    assert model.training
    assert torch.equal(model.state_dict()["0.running_mean"], before)


def test_a_model_that_gives_no_numbers_is_refused(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    with pytest.raises(ModelFileError, match="not finite"):
        predict_raster(lambda x: x[:, :1] * torch.nan, scene, tmp_path / "out")


def test_rasters_that_no_prediction_wrote_are_not_replaced(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    precious = write_scene(tmp_path / "x_mask.tif", houses)
    before = precious.read_bytes()
    with pytest.raises(OutputError, match="was not written by a prediction"):
        predict_raster(Bright(), scene, tmp_path)
    assert precious.read_bytes() == before
    assert not (tmp_path / "x_probability.tif").exists()
    precious.unlink()
    predict_raster(Bright(), scene, tmp_path)
    predict_raster(Bright(), scene, tmp_path)


def test_resume_leaves_complete_scenes_alone(houses: NDArray[np.uint8], tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    first = predict_raster(Bright(), scene, tmp_path / "out", resume=True)
    before = first.mask.stat().st_mtime_ns
    again = predict_raster(Bright(), scene, tmp_path / "out", resume=True)
    assert again.count == first.count == 2
    assert first.mask.stat().st_mtime_ns == before
    first.buildings.unlink()
    predict_raster(Bright(), scene, tmp_path / "out", resume=True)
    assert first.buildings.is_file()
    assert first.mask.stat().st_mtime_ns > before


def test_an_output_that_cannot_be_written(houses: NDArray[np.uint8], tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"):
        predict_raster(Bright(), scene, tmp_path / "file")


@pytest.mark.shared
def test_every_odd_raster_is_predicted_or_refused_in_one_line(
    shared_data: Path, tmp_path: Path
) -> None:
    refused = {}
    for path in sorted((shared_data / "odd").glob("*.tif")):
        try:
            result = predict_raster(Bright(), path, tmp_path, dtype="uint8")
        except RasterError as error:
            refused[path.name] = str(error)
            continue
        with rasterio.open(path) as scene, rasterio.open(result.mask) as mask:
            assert mask.shape == scene.shape
            np.testing.assert_array_equal(mask.dataset_mask() > 0, scene.dataset_mask() > 0)
    assert set(refused) == {"corrupt.tif"}
    assert all("\n" not in told for told in refused.values())
