"""Tiles as pictures; the oracle is the raster read whole."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from rhm.data.vectors.area_of_interest import AreaOfInterest
from rhm.inference import predict_raster
from rhm.viewer.map_tiles import SIDE, Place, Rendering, image_tile, probability_tile
from rhm.viewer.predictions import find_predictions
from tests.data.imagery import write_raster
from tests.viewer.conftest import Brightness


def picture(data: bytes | None) -> NDArray[np.uint8]:
    assert data is not None
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)


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


@given(
    height=st.integers(1, 2000),
    width=st.integers(1, 2000),
    level=st.integers(0, 12),
)
def test_tiles_of_a_level_cover_every_pixel_once(height: int, width: int, level: int) -> None:
    step = SIDE << level
    rows, cols = -(-height // step), -(-width // step)
    seen = np.zeros((height, width), np.uint8)
    for row in range(rows):
        for col in range(cols):
            part = Place(level, col, row).window(height, width)
            assert part is not None
            window, (tile_rows, tile_cols) = part
            seen[window.toslices()] += 1
            assert 1 <= tile_rows <= SIDE
            assert 1 <= tile_cols <= SIDE
            assert (tile_rows - 1) << level < window.height <= tile_rows << level
            assert (tile_cols - 1) << level < window.width <= tile_cols << level
    assert (seen == 1).all()
    assert Place(level, cols, 0).window(height, width) is None
    assert Place(level, 0, rows).window(height, width) is None


@pytest.mark.parametrize(
    ("colours", "expected"),
    [
        ("red green blue", (1, 2, 3)),
        ("blue green red", (3, 2, 1)),
        ("gray", (1,)),
        ("gray alpha", (1,)),
        ("gray undefined undefined undefined", (1, 2, 3)),
        ("blue green red undefined", (3, 2, 1)),
    ],
)
def test_bands_are_chosen_by_what_the_raster_says_of_their_colour(
    tmp_path: Path, colours: str, expected: tuple[int, ...]
) -> None:
    interpretation = [ColorInterp[name] for name in colours.split()]
    path = write_raster(tmp_path / "x.tif", np.zeros((8, 8, len(interpretation)), np.uint8))
    with rasterio.open(path, "r+") as raster:
        raster.colorinterp = interpretation
    with rasterio.open(path) as raster:
        rendering = Rendering.of(raster)
    assert rendering.bands == expected
    assert (rendering.low == 0).all()
    assert (rendering.high == 255).all()


def test_a_raster_without_any_value_is_stretched_over_some_range(tmp_path: Path) -> None:
    pixels = np.full((8, 8, 1), np.nan, np.float32)
    path = write_raster(tmp_path / "x.tif", pixels, nodata=np.nan)
    with rasterio.open(path) as raster:
        rendering = Rendering.of(raster)
    assert np.isfinite(rendering.low).all()
    assert (rendering.high > rendering.low).all()


def test_of_a_scene_cut_to_an_area_the_part_is_shown(tmp_path: Path) -> None:
    rows, cols = np.mgrid[:600, :900]
    ramps = np.stack([1 + cols // 4, 1 + rows // 3, np.full_like(rows, 99)], -1).astype(np.uint8)
    scene = write_raster(tmp_path / "town.tif", ramps)
    with rasterio.open(scene) as raster:
        left, top = raster.transform @ (200, 100)
        right, bottom = raster.transform @ (700, 400)
        area = shapely.box(left, bottom, right, top)
        of_town = AreaOfInterest(shapely.to_wkb(area), raster.crs.to_wkt(), "part")
    predict_raster(Brightness(), scene, tmp_path / "cut", tile=256, aoi=of_town)
    (found,), notes = find_predictions(tmp_path / "cut", [str(scene)])
    assert (found.height, found.width, found.image_corner, notes) == (300, 500, (100, 200), [])
    with found.open_image() as raster:
        rendering = Rendering.of(raster)
    tile = picture(image_tile(found, rendering, Place(0, 1, 1)))
    expected = ramps[356:400, 456:700, ::-1].astype(int)
    assert np.abs(tile[:44, :244, :3] - expected).max() < 5  # WebP is not exact
    assert not tile[44:, :, 3].any()
    assert not tile[:, 244:, 3].any()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_what_an_alpha_band_makes_clear_is_left_clear(tmp_path: Path, dtype: str) -> None:
    pixels = np.full((200, 200, 2), 50, dtype)
    pixels[:, 80:, 1] = np.nan if dtype == "float32" else 0
    scene = write_raster(tmp_path / "town.tif", pixels, alpha=True)
    predict_raster(Brightness(), scene, tmp_path / "results", tile=256)
    (found,), _ = find_predictions(tmp_path / "results", [str(scene)])
    with found.open_probability() as raster:
        valid = raster.read_masks(1) > 0
    np.testing.assert_array_equal(valid, pixels[..., 1] > 0)
    with found.open_image() as raster:
        rendering = Rendering.of(raster)
    tile = picture(image_tile(found, rendering, Place(0, 0, 0)))
    np.testing.assert_array_equal(tile[:200, :200, 3] > 0, valid)
