"""What the model is shown: stored ranges, standardised scenes, another resolution."""

from pathlib import Path

import cv2
import geopandas
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine
from torch import Tensor

from rhm.data.radiometry import Scaling
from rhm.inference import predict_raster
from tests.data.imagery import write_raster
from tests.inference.scenes import Bright, spec, write_scene


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
    told = predict_raster(model, scene, tmp_path / "told", resample=False)
    assert "--resample" in told.notes[0]
    resampled = predict_raster(model, scene, tmp_path / "resampled")
    assert "it is resampled" in resampled.notes[0]
    with rasterio.open(scene) as source, rasterio.open(resampled.probability) as probability:
        assert (probability.shape, probability.transform) == (source.shape, source.transform)
    frame = geopandas.read_file(resampled.buildings)
    # Interpolation takes the corners off.
    assert sorted(frame["area_m2"]) == pytest.approx([30.0, 100.0], rel=0.05)


def test_a_scene_in_degrees_is_seen_without_distortion(tmp_path: Path) -> None:
    """Law: what a network sees of a round building is round, and lies on it in the results."""
    rows, cols = np.mgrid[:240, :240]
    disc = ((rows - 120) ** 2 + (cols - 120) ** 2 / 4 < 40**2).astype(np.uint8)
    pixels = np.repeat(disc[..., None] * np.uint8(255), 3, axis=-1)
    # At 60 degrees north: pixels of 0.5 m from north to south, and 0.25 m from west to east.
    degrees = Affine(0.25 / 55_800, 0, 20.0, 0, -0.5 / 111_412, 60.0)
    scene = write_raster(tmp_path / "x.tif", pixels, crs="EPSG:4326", transform=degrees)
    seen: list[NDArray[np.bool_]] = []

    class Looking(Bright):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images[0, 0].numpy() > 0.5)
            return super().forward(images)

    result = predict_raster(Looking(spec(gsd_m=0.5)), scene, tmp_path, tile=256)
    shown = seen[-1][:, :120]  # beyond the scene, pixels are mirrored
    down, across = (np.ptp(np.flatnonzero(shown.any(axis=axis))) + 1 for axis in (1, 0))
    assert (down, across) == pytest.approx((80, 80), abs=2)
    with rasterio.open(result.mask) as mask:
        assert (mask.read(1) != disc).mean() < 5e-3
    (area,) = geopandas.read_file(result.buildings)["area_m2"]
    assert area == pytest.approx(np.pi * 20**2, rel=0.01)


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
