"""Oracle: two dozen overlapping scenes give the buildings that predicting their mosaic gives."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import torch
from numpy.typing import NDArray
from rasterio.transform import Affine

from rhm.data.footprints import burn
from rhm.inference.scenes import predict_raster
from rhm.mapping.merged_layer import merge_layers
from rhm.mapping.merging.valid_regions import MARGIN_PX
from rhm.synthetic.world import write_sample_world
from tests.inference.scenes import Bright, spec, write_scene
from tests.mapping.towns import layers_in, read_layer_file

SIDE, ROWS, COLS = 176, 4, 6


class Blurred(Bright):
    """Calls pixels building whose surroundings of 5 x 5 pixels are bright; edges are mirrored."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        around = torch.nn.functional.pad(images, (2, 2, 2, 2), mode="reflect")
        return super().forward(torch.nn.functional.avg_pool2d(around, 5, stride=1))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample world with a scene of 512 x 512 pixels."""
    sizes: dict[str, Any] = {"tile_size": 64, "tiles_per_domain": 1, "scene_size": 512}
    folder = tmp_path_factory.mktemp("world")
    write_sample_world(folder, **sizes, seed=3)
    return folder


def town(world: Path) -> tuple[NDArray[np.uint8], Affine, str]:
    """The scene of the sample world with its true buildings bright, on mottled ground."""
    with rasterio.open(world / "scenes" / "birch_satellite.tif") as scene:
        height, width = scene.shape
        transform, crs = scene.transform, scene.crs.to_string()
        mottled = (scene.read(1).astype(np.int64) % 80).astype(np.uint8)
    truth = gpd.read_file(world / "scenes" / "birch_satellite.gpkg")
    building = burn(truth, transform, height, width) > 0
    pixels = np.where(building, 250 - mottled, mottled)
    return np.repeat(pixels[..., None], 3, axis=2), transform, crs


def cuts(height: int, width: int) -> Iterator[tuple[int, int]]:
    """The upper-left corners of the scenes that cover an image."""
    rows = np.linspace(0, height - SIDE, ROWS).astype(int)
    cols = np.linspace(0, width - SIDE, COLS).astype(int)
    yield from ((int(row), int(col)) for row in rows for col in cols)


def merged_and_mosaic(
    world: Path, folder: Path, network: Bright
) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame, list[shapely.Polygon]]:
    """The merged buildings, those of the mosaic, and the extents of the scenes."""
    pixels, transform, crs = town(world)
    height, width = pixels.shape[:2]
    whole = write_scene(folder / "mosaic.tif", pixels, transform=transform, crs=crs)
    options: dict[str, Any] = {"tile": 256, "overlap": 32}
    mosaic = predict_raster(network, whole, folder / "m", **options)
    files, extents = [], []
    for number, (row, col) in enumerate(cuts(height, width)):
        part = pixels[row : row + SIDE, col : col + SIDE]
        moved = transform @ Affine.translation(col, row)
        scene = write_scene(folder / f"cut{number:02}.tif", part, transform=moved, crs=crs)
        files.append(predict_raster(network, scene, folder / "cuts", **options).buildings)
        corners = [moved @ each for each in ((0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE))]
        extents.append(shapely.Polygon(corners))
    merged = merge_layers(layers_in(*files), folder / "town.gpkg")
    return read_layer_file(merged.path), read_layer_file(mosaic.buildings), extents


def keys(geometries: NDArray[Any]) -> list[bytes]:
    """What is equal for equal polygons: their corners to a millimetre, in one order."""
    corners = shapely.set_precision(shapely.simplify(geometries, 1e-4), 1e-3)
    return [shapely.to_wkb(each) for each in shapely.normalize(corners)]


def test_a_network_that_sees_single_pixels_gives_exactly_the_buildings_of_the_mosaic(
    world: Path, tmp_path: Path
) -> None:
    merged, mosaic, _ = merged_and_mosaic(world, tmp_path, Bright(spec(gsd_m=None)))
    assert len(mosaic) > 40
    assert sorted(keys(merged.geometry.to_numpy())) == sorted(keys(mosaic.geometry.to_numpy()))
    assert (merged["parts"] > 1).any()
    scores = dict(zip(keys(mosaic.geometry.to_numpy()), mosaic["score"], strict=True))
    whole = merged[merged["parts"] == 1]
    for key, score in zip(keys(whole.geometry.to_numpy()), whole["score"], strict=True):
        assert score == pytest.approx(scores[key], abs=1e-7)


def test_a_network_that_sees_its_surroundings_gives_those_that_a_scene_sees_away_from_its_border(
    world: Path, tmp_path: Path
) -> None:
    merged, mosaic, extents = merged_and_mosaic(world, tmp_path, Blurred(spec(gsd_m=None)))
    pixel = np.sqrt(extents[0].area) / SIDE
    inside = shapely.union_all(
        shapely.buffer(np.array(extents), -(MARGIN_PX + 1) * pixel, join_style="mitre")
    )
    interiors = shapely.STRtree(
        shapely.buffer(np.array(extents), -(MARGIN_PX + 1) * pixel, join_style="mitre")
    )

    def clear(frame: gpd.GeoDataFrame) -> set[bytes]:
        found = np.unique(interiors.query(frame.geometry.to_numpy(), predicate="within")[0])
        return set(keys(frame.geometry.to_numpy()[found]))

    assert inside.area > 0
    assert len(clear(mosaic)) > 20
    assert clear(merged) == clear(mosaic)
