"""Scenes of models with classes: further bands, buildings that touch, the same results any way."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from torch import nn

from rhm.inference import polygonize, predict_raster
from rhm.inference.polygons import PolygonConfig
from rhm.models.building_classes import SEPARATIONS
from tests.inference.scenes import spec, write_scene


class Coloured(nn.Module):
    """Calls red pixels the inside of buildings, green ones boundary, blue ones contact."""

    def __init__(self, separation: str) -> None:
        super().__init__()
        self.spec = spec(classes=SEPARATIONS[separation])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        shown = images[:, : len(self.spec.classes) - 1]
        ground = 1.0 - shown.amax(dim=1, keepdim=True)
        return 12.0 * torch.cat([ground, shown], dim=1)


def row_of_houses() -> NDArray[np.uint8]:
    """Two houses with a common wall, and one behind a narrow gap, on black ground."""
    pixels = np.zeros((90, 120, 3), dtype=np.uint8)
    for left in (20, 40, 64):
        pixels[30:50, left : left + 20, 1] = 255
        pixels[32:48, left + 2 : left + 18] = (255, 0, 0)
    pixels[30:50, 60:64] = (0, 0, 255)
    return pixels


def predicted(folder: Path, separation: str, **options: Any) -> Any:
    scene = folder / "row.tif"
    if not scene.exists():
        write_scene(scene, row_of_houses())
    values: dict[str, Any] = {"tile": 64, "overlap": 16} | options
    return predict_raster(Coloured(separation), scene, folder / "out", **values)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("separation", ["boundary", "contact"])
def test_buildings_that_touch_are_separated(tmp_path: Path, separation: str, dtype: str) -> None:
    result = predicted(tmp_path, separation, dtype=dtype)
    frame = geopandas.read_file(result.buildings)
    assert result.count == len(frame) == 3
    assert frame["area_m2"].tolist() == pytest.approx([100.0] * 3, rel=2e-3)
    with rasterio.open(result.probability) as raster:
        names = ["building", "boundary", "contact"][: raster.count]
        assert raster.count == len(SEPARATIONS[separation]) - 1
        assert list(raster.descriptions) == [f"{name} probability" for name in names]
        assert raster.colorinterp[0] != rasterio.enums.ColorInterp.red
        maps = raster.read() * raster.scales[0]
    pixels = row_of_houses()
    np.testing.assert_array_equal(maps[0] > 0.5, pixels[..., :2].any(axis=-1))
    np.testing.assert_array_equal(maps[1] > 0.5, pixels[..., 1] > 0)
    again = polygonize(result.probability, separate=0.3)
    assert [each.wkb for each in again.geometry] == [each.wkb for each in frame.geometry]
    assert len(polygonize(result.probability, separate=0.0)) == 2


def test_resumed_results_are_the_same_and_the_drop_is_part_of_them(tmp_path: Path) -> None:
    first = predicted(tmp_path, "contact", dtype="uint8")
    stored = first.probability.read_bytes(), first.buildings.read_bytes()
    same = predicted(tmp_path, "contact", dtype="uint8", resume=True)
    assert "the results already existed" in same.notes
    merged = predicted(
        tmp_path, "contact", dtype="uint8", resume=True, polygons=PolygonConfig(separate=0.0)
    )
    assert "the probabilities already existed" in merged.notes
    assert merged.count == 2
    again = predicted(tmp_path, "contact", dtype="uint8", resume=True, polygons=PolygonConfig())
    assert (again.probability.read_bytes(), again.buildings.read_bytes()) == stored


def test_tiles_blend_every_map_exactly(tmp_path: Path) -> None:
    whole = predicted(tmp_path, "contact", tile=128, overlap=0)
    with rasterio.open(whole.probability) as raster:
        expected = raster.read()
    for tile, overlap, views in ((32, 0, False), (32, 8, False), (96, 64, True)):
        result = predicted(tmp_path, "contact", tile=tile, overlap=overlap, views=views)
        with rasterio.open(result.probability) as raster:
            np.testing.assert_allclose(raster.read(), expected, atol=2e-6)


def test_another_resolution_keeps_the_maps_and_the_buildings(tmp_path: Path) -> None:
    coarse = row_of_houses().repeat(2, axis=0).repeat(2, axis=1)
    scene = write_scene(
        tmp_path / "fine.tif", coarse, transform=rasterio.transform.from_origin(0, 0, 0.25, 0.25)
    )
    result = predict_raster(Coloured("contact"), scene, tmp_path / "out", tile=64, overlap=16)
    with rasterio.open(result.probability) as raster:
        assert (raster.count, *raster.shape) == (3, *coarse.shape[:2])
    assert result.count == 3
