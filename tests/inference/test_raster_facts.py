"""Properties of a raster; oracles: numpy's quantiles, and the values given when writing it."""

import json
from pathlib import Path

import numpy as np
import pytest

from rhm.colour.histogram import Histogram
from rhm.data.radiometry import Scaling
from rhm.errors import ModelFileError, RasterError
from rhm.inference.raster_facts import inspect_raster
from rhm.models.spec import ModelSpec
from tests.data.imagery import noise, write_raster


def test_facts_are_those_of_the_file(tmp_path: Path) -> None:
    pixels = noise(90, 70, dtype="uint16")
    path = write_raster(
        tmp_path / "x.tif", pixels, nodata=0, tiled=True, blockxsize=32, blockysize=16
    )
    facts = inspect_raster(path)
    json.dumps(facts)
    assert (facts["size"], facts["bands"], facts["dtype"]) == ("70 x 90", 3, "uint16")
    assert (facts["crs"], facts["nodata"], facts["block"]) == ("EPSG:32633", 0, "32 x 16")
    assert facts["gsd_m"] == pytest.approx(0.5, rel=1e-3)
    assert facts["pixels_counted"] == 90 * 70
    (values,) = [value for name, value in facts.items() if name.startswith("values")]
    for band, text in enumerate(values):
        lowest, *_, highest = map(float, text.split())
        assert (lowest, highest) == (pixels[..., band].min(), pixels[..., band].max())
        middle = float(text.split()[2])
        assert middle == pytest.approx(np.median(pixels[..., band]), abs=15)


def test_only_valid_pixels_of_the_chosen_bands_are_counted(tmp_path: Path) -> None:
    pixels = noise(20, 20)
    pixels[:5] = 0
    path = write_raster(tmp_path / "x.tif", pixels)
    assert inspect_raster(path, bands=[2])["bands"] == 1
    assert inspect_raster(path)["pixels_counted"] == 400
    assert inspect_raster(path, black_is_nodata=True)["pixels_counted"] == 300


def test_the_values_of_each_band_begin_at_its_own_lowest(tmp_path: Path) -> None:
    pixels = np.array([[[13, 117, 143], [20, 200, 150], [0, 0, 0]]], np.uint8)
    (values,) = values_of(write_raster(tmp_path / "x.tif", pixels, nodata=0))
    assert values == ["13 13 13 20 20", "117 117 117 200 200", "143 143 143 150 150"]
    (values,) = values_of(write_raster(tmp_path / "y.tif", np.full((1, 1), 72, np.uint8)))
    assert values == ["72 72 72 72 72"]


def test_a_raster_without_valid_pixels_has_no_values(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.tif", np.zeros((4, 5, 2), np.uint8), nodata=0)
    assert inspect_raster(path)["pixels_counted"] == 0
    assert values_of(path) == [[None, None]]


@pytest.mark.parametrize("nodata", ["nan", "inf", "-inf"])
def test_nodata_that_json_does_not_have_is_text(tmp_path: Path, nodata: str) -> None:
    path = write_raster(tmp_path / "x.tif", np.ones((4, 5), np.float32), nodata=float(nodata))
    facts = inspect_raster(path)
    json.dumps(facts, allow_nan=False)
    assert facts["nodata"] == nodata


def values_of(path: Path) -> list[object]:
    return [value for name, value in inspect_raster(path).items() if name.startswith("values")]


def test_imagery_of_other_types_has_no_histogram(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.tif", np.zeros((8, 8), np.int32))
    assert "pixels_counted" not in inspect_raster(path)


def test_the_nearest_of_a_models_domains_is_told_with_its_distance(tmp_path: Path) -> None:
    pixels = noise(60, 60)
    shares = Histogram.of(pixels).distribution()
    spec = ModelSpec(
        "unet",
        "resnet18",
        3,
        scalings={"uint8": Scaling("uint8", (0.0,) * 3, (255.0,) * 3)},
        source_histograms={
            "same": shares.tolist(),
            "dark": [[1.0, *[0.0] * 255]] * 3,
        },
    )
    path = write_raster(tmp_path / "x.tif", pixels)
    facts = inspect_raster(path, spec)
    assert facts["nearest_domain"] == "same"
    np.testing.assert_allclose(facts["distance"], 0.0, atol=1e-3)
    moved = write_raster(tmp_path / "y.tif", (pixels // 2).astype(np.uint8))
    distance = inspect_raster(moved, spec)["distance"]
    # Halved, every value moves by half of itself.
    np.testing.assert_allclose(distance, pixels.mean(axis=(0, 1)) / 2 / 255, atol=0.01)


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.tif", noise(20, 20))
    with pytest.raises(ModelFileError, match="4 bands, and 3 of"):
        inspect_raster(path, ModelSpec("unet", "resnet18", 4))
    with pytest.raises(ModelFileError, match="does not record"):
        inspect_raster(path, ModelSpec("unet", "resnet18", 3))
    (tmp_path / "text.tif").write_text("not a raster")
    with pytest.raises(RasterError, match=r"text\.tif"):
        inspect_raster(tmp_path / "text.tif")
