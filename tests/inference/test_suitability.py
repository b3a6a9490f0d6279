"""Suitability of a model for a scene."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affine import Affine
from numpy.typing import NDArray
from torch import Tensor, nn

from rhm.data.radiometry import Scaling
from rhm.data.rasters.raster import Raster, describe
from rhm.inference.scenes import predict_raster
from rhm.inference.suitability import (
    SAMPLED_PX,
    dtype_notes,
    expectation,
    imagery_notes,
    suitability,
    undeclared_nodata,
)
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec
from tests.data.imagery import noise, write_raster

SPEC = ModelSpec(
    "unet",
    "resnet18",
    1,
    mean=(0.0,),
    std=(1.0,),
    scalings={"uint8": Scaling("uint8", (0.0,), (255.0,))},
    gsd_m=0.5,
    method="rhm",
    expected_iou=0.9,
)


class Brightness(nn.Module):
    """Calls bright pixels building, the surer the brighter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(40.0))

    def forward(self, images: Tensor) -> Tensor:
        return (images[:, :1] - 0.5) * self.weight


class Surroundings(Brightness):
    """Calls building what is brighter than the mean of all that it sees."""

    def forward(self, images: Tensor) -> Tensor:
        return (images - images.mean((2, 3), keepdim=True)) * self.weight


def model(**changes: Any) -> SegmentationModel:
    built = SegmentationModel(replace(SPEC, **changes)).eval()
    built.network = Brightness()
    return built


def scene(path: Path, building: int, ground: int, *, gsd_m: float = 0.5) -> Path:
    pixels: NDArray[np.uint8] = np.full((600, 700, 1), ground, dtype=np.uint8)
    pixels[::4] = building
    return write_raster(path, pixels, transform=Affine(gsd_m, 0, 5e5, 0, -gsd_m, 5e6))


def test_a_scene_that_the_model_is_sure_of_brings_no_advice(tmp_path: Path) -> None:
    path = scene(tmp_path / "clear.tif", 250, 5)
    found = suitability(model(), path)
    assert found.expected_iou == pytest.approx(1.0, abs=0.01)
    assert found.expected_iou_at_home == 0.9
    assert (found.expected_iou_not_resampled, found.advice) == (None, ())
    assert predict_raster(model(), path, tmp_path).warning is None


def test_a_scene_that_the_model_is_unsure_of_is_warned_about(tmp_path: Path) -> None:
    path = scene(tmp_path / "dull.tif", 135, 120)
    found = suitability(model(), path)
    assert found.expected_iou is not None
    assert found.expected_iou < 0.85
    assert [each.partition(":")[0] for each in found.advice] == [
        "out of domain",
        "without labels",
        "with a few labelled chips",
    ]
    predicted = predict_raster(model(), path, tmp_path)
    assert predicted.expected_iou == pytest.approx(found.expected_iou, abs=0.02)
    assert f"IoU of {predicted.expected_iou:.2f} here, and 0.90 on its" in str(predicted.warning)
    again = predict_raster(model(), path, tmp_path, dtype="uint8")
    assert again.expected_iou == pytest.approx(predicted.expected_iou, abs=1e-3)


def test_a_scene_of_other_resolution_is_seen_both_ways(tmp_path: Path) -> None:
    # Buildings of a fine pattern, which the resolution of the model does not show.
    pixels: NDArray[np.uint8] = np.full((600, 700, 1), 5, dtype=np.uint8)
    pixels[100:300, 100:500] = 250
    pixels[100:300:2, 100:500] = 120
    path = write_raster(
        tmp_path / "fine.tif", pixels, transform=Affine(0.25, 0, 5e5, 0, -0.25, 5e6)
    )
    found = suitability(model(), path)
    here, as_is = found.expected_iou, found.expected_iou_not_resampled
    assert here is not None
    assert as_is is not None
    predicted = predict_raster(model(), path, tmp_path / "resampled")
    assert here == pytest.approx(predicted.expected_iou, abs=0.02)
    predicted = predict_raster(model(), path, tmp_path / "as_is", resample=False)
    assert as_is == pytest.approx(predicted.expected_iou, abs=0.02)
    assert abs(here - as_is) > 0.05
    assert found.advice[0] == (
        "the scene has 0.25 m per pixel, and the model expects 0.5 m: `rhm predict` resamples it"
    )


@pytest.mark.parametrize("gsd_m", [0.5, None])
def test_a_scene_whose_pixels_are_not_square_is_seen_both_ways(
    tmp_path: Path, gsd_m: float | None
) -> None:
    pixels = noise(300, 400, bands=1)
    # At 60 degrees north: pixels of 0.7 m from north to south, and 0.35 m from west to east.
    degrees = Affine(0.35 / 55_800, 0, 20.0, 0, -0.7 / 111_412, 60.0)
    path = write_raster(tmp_path / "x.tif", pixels, crs="EPSG:4326", transform=degrees)
    found = suitability(model(gsd_m=gsd_m), path)
    assert found.expected_iou_not_resampled is not None
    expected = "square ones" if gsd_m is None else "0.5 m"
    assert found.advice[0] == (
        f"the pixels of the scene cover 0.35 x 0.7 m of ground, and the model expects {expected}: "
        "`rhm predict` resamples it"
    )


@pytest.mark.parametrize("shape", [(68, 68), (300, 200), (600, 40), (520, 700)])
def test_a_scene_of_few_tiles_is_seen_as_in_its_prediction(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    """Of a model that sees all of a tile, and so also how much of its edge is mirrored."""
    pixels = noise(*shape, bands=1)
    pixels[: shape[0] // 3, shape[1] // 2 :] //= 4
    path = write_raster(tmp_path / "x.tif", pixels)
    built = model()
    built.network = Surroundings()
    found = suitability(built, path).expected_iou
    predicted = predict_raster(built, path, tmp_path / "out").expected_iou
    assert found == pytest.approx(predicted, abs=1e-6)


def test_a_large_scene_is_sampled_in_the_tiles_of_its_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SAMPLED_PX == 2 * 16 * 512**2
    monkeypatch.setattr("rhm.inference.suitability._TILES_ALONG", 2)
    pixels = noise(1200, 1500, bands=1)
    path = write_raster(tmp_path / "x.tif", pixels)
    built, sizes = model(), []
    built.network = Surroundings()
    built.network.register_forward_pre_hook(lambda _, seen: sizes.append(seen[0].shape[2:]))
    with Raster(path) as raster:
        found = expectation(built, raster)
    assert set(sizes) == {(512, 512)}
    assert len(sizes) == 4
    assert 0.6 * 4 * 512**2 < found.pixels.sum() <= 4 * 512**2
    assert found.value == pytest.approx(
        predict_raster(built, path, tmp_path).expected_iou, abs=0.01
    )


def test_what_is_unknown_of_a_resolution_is_told(tmp_path: Path) -> None:
    placed = scene(tmp_path / "clear.tif", 250, 5)
    (advice,) = suitability(model(gsd_m=None), placed).advice
    assert advice.startswith("the resolution that the model expects is unknown")
    with Raster(placed) as raster:
        pixels = raster.read().values
    nowhere = write_raster(tmp_path / "x.tif", pixels, crs=None)
    (advice,) = suitability(model(), nowhere).advice
    assert advice == "the model expects 0.5 m per pixel, but the resolution of the scene is unknown"
    assert suitability(model(gsd_m=None), nowhere).advice == ()


def test_a_scene_with_hardly_a_building_is_said_to_be_one(tmp_path: Path) -> None:
    pixels = np.full((300, 300, 1), 110, dtype=np.uint8)
    pixels[:2, :2] = 250
    path = write_raster(tmp_path / "desert.tif", pixels)
    assert "hardly any buildings" in str(predict_raster(model(), path, tmp_path).warning)
    assert "hardly any buildings" in suitability(model(), path).advice[0]


def test_what_a_model_does_not_know_of_home_is_asked_of_the_histogram(tmp_path: Path) -> None:
    path = scene(tmp_path / "dull.tif", 135, 120)
    ignorant = model(expected_iou=None)
    assert suitability(ignorant, path, distance=[0.05]).advice == ()
    (advice,) = suitability(ignorant, path, distance=[0.3]).advice
    assert "bank build" in advice
    assert predict_raster(ignorant, path, tmp_path).warning is None


def test_values_beyond_all_that_was_tried_are_told_of_a_sure_model_too(tmp_path: Path) -> None:
    path = scene(tmp_path / "clear.tif", 250, 5)
    assert suitability(model(), path, distance=[0.2]).advice == ()
    (advice,) = suitability(model(), path, distance=[0.3]).advice
    assert "differ from those of the training imagery" in advice


def test_the_silence_of_a_model_without_shifted_colours_is_not_trusted(tmp_path: Path) -> None:
    (advice,) = suitability(model(method="none"), scene(tmp_path / "clear.tif", 250, 5)).advice
    assert "means little" in advice


@pytest.mark.parametrize("shape", [(40, 50), (256, 256), (300, 2000)])
def test_samples_of_small_and_long_scenes_stay_inside_and_skip_nodata(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    pixels = np.full((*shape, 1), 250, dtype=np.uint8)
    pixels[:, : shape[1] // 2] = 0
    path = write_raster(tmp_path / "half.tif", pixels, nodata=0)
    with Raster(path) as raster:
        found = expectation(model(), raster)
    assert 0 < found.pixels.sum() <= shape[0] * (shape[1] - shape[1] // 2)
    assert found.building_share == 1.0


@pytest.mark.parametrize("mark", [-9999.0, -32768.0, 1e20, -3.4028234663852886e38])
def test_a_value_far_from_all_others_is_suspected_to_be_nodata(tmp_path: Path, mark: float) -> None:
    pixels = noise(300, 300).astype(np.float32) / 255
    pixels[:40, :60] = mark
    path = write_raster(tmp_path / "x.tif", pixels)
    with Raster(path) as raster:
        note = undeclared_nodata(raster)
    assert note is not None
    said = float(note.partition("-a_nodata ")[2].partition(",")[0])
    assert said == float(np.float32(mark))
    assert "\n" not in note
    write_raster(path, pixels, nodata=mark)
    with Raster(path) as raster:
        assert undeclared_nodata(raster) is None


@pytest.mark.parametrize(
    "change", ["none", "zero", "one band", "one pixel", "constant", "integers"]
)
def test_plausible_values_are_not_suspected(tmp_path: Path, change: str) -> None:
    pixels = noise(300, 300).astype(np.float32) / 255
    if change == "zero":
        pixels[:40, :60] = 0.0
    elif change == "one band":
        pixels[:40, :60, 0] = -9999.0
    elif change == "one pixel":
        pixels[0, 0] = -9999.0
    elif change == "constant":
        pixels[:] = 0.5
    elif change == "integers":
        pixels = np.full((300, 300, 3), 7, np.int16)
        pixels[:40, :60] = -9999
        pixels[0, 0] = 9
    with Raster(write_raster(tmp_path / "x.tif", pixels)) as raster:
        assert undeclared_nodata(raster) is None


def test_imagery_of_another_type_or_order_of_bands_is_told(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", noise(8, 8))
    info = describe(path)
    satellite = replace(SPEC, scalings={"uint16": Scaling("uint16", (0.0,), (2000.0,))})
    assert imagery_notes(SPEC, info) == []
    (note,) = imagery_notes(satellite, info)
    assert note.startswith("the model was trained on uint16 imagery, and this is uint8")
    (note,) = imagery_notes(SPEC, replace(info, dtype="uint16"))
    assert "stores no value range for uint16" in note
    turned = replace(info, bands=(3, 2, 1))
    (note,) = imagery_notes(SPEC, turned)
    assert "read in the order 3, 2, 1" in note
    assert imagery_notes(SPEC, turned, bands_given=True) == []
    assert dtype_notes(replace(SPEC, scalings={}), "uint8") == []
