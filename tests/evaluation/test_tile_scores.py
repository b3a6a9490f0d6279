"""One labelled image; oracles: the network's formula written out, and numpy's counts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.affinity import affine_transform

from rhm.colour.histogram import Histogram
from rhm.colour.shifts import SHIFTS
from rhm.data import Catalog
from rhm.data.catalog import Source, Tile
from rhm.data.labels import Label
from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.raster import Raster
from rhm.errors import CatalogError
from rhm.evaluation.outlines.default_footprints import default_footprints
from rhm.evaluation.outlines.outline_counts import OutlineCounts
from rhm.evaluation.scores import Shift
from rhm.evaluation.tile_scores import (
    LEVELS,
    MIN_OBJECT_PX,
    Seen,
    count,
    pooled_histogram,
    see,
    shifted,
    true_objects,
)
from rhm.inference.tiling.stream import Tiling
from rhm.inference.tracing.components import trace
from rhm.models.build import SegmentationModel
from tests.data.imagery import HALF_METRE, UTM, warped, warped_gcps, write_raster

TILING = Tiling(tile=96, overlap=0)


@pytest.fixture(scope="module")
def tile(catalog_path: Path) -> Tile:
    return Catalog.load(catalog_path).select(domains=["alder_aerial"]).tiles[0]


def test_what_is_seen_is_the_image_its_label_and_the_networks_answer(
    bright: SegmentationModel, tile: Tile
) -> None:
    seen = see(bright, tile, shift=None, tiling=TILING)
    with tile.open() as raster:
        pixels, valid = raster.read()
    np.testing.assert_array_equal(seen.pixels, pixels)
    np.testing.assert_array_equal(seen.valid, valid)
    logits = 6.0 * ((pixels / 255.0 - 0.5) / 0.5).mean(axis=-1)
    np.testing.assert_allclose(seen.probability, 1 / (1 + np.exp(-logits)), atol=1e-5)
    drawn = shapely.area(seen.true_objects).sum()
    assert drawn == pytest.approx((seen.truth == 1).sum(), rel=0.05)
    assert len(seen.objects) == len(seen.confidences)


def test_an_image_without_a_label_is_refused(bright: SegmentationModel, tile: Tile) -> None:
    with pytest.raises(CatalogError, match="no label"):
        see(bright, replace(tile, label=None), shift=None, tiling=TILING)


@given(st.integers(0, 1 << 20), st.floats(0.1, 0.9))
def test_counts_are_numpys(tile: Tile, seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    truth = (rng.random((20, 24)) < 0.4).astype(np.uint8)
    valid = rng.random((20, 24)) < 0.8
    probability = rng.random((20, 24), dtype=np.float32)
    empty = np.empty(0, dtype=object)
    pixels = rng.integers(0, 256, (20, 24, 3)).astype(np.uint8)
    seen = Seen(pixels, valid, 0.5, truth, probability, empty, empty, np.empty(0))
    found = count(seen, tile, threshold)
    called = probability >= threshold
    assert found.pixels.true_positives == (called & (truth == 1) & valid).sum()
    assert found.pixels.false_positives == (called & (truth == 0) & valid).sum()
    assert found.pixels.false_negatives == (~called & (truth == 1) & valid).sum()
    assert found.histogram.pixels == valid.sum()
    assert len(found.calibration.pixels) == LEVELS
    assert found.calibration.pixels.sum() == valid.sum()


def test_buildings_too_small_to_count_are_not_counted(tile: Tile) -> None:
    side = MIN_OBJECT_PX**0.5
    small, large = shapely.box(1, 1, 1 + side - 0.5, 1 + side - 0.5), shapely.box(9, 9, 19, 19)
    both = np.array([small, large])
    blank = np.zeros((24, 24))
    seen = Seen(
        np.zeros((24, 24, 3), np.uint8),
        np.ones((24, 24), bool),
        0.5,
        blank.astype(np.uint8),
        blank.astype(np.float32),
        both,
        both,
        np.ones(2),
    )
    assert count(seen, tile, 0.5).objects.true_positives == 1


@pytest.mark.parametrize("family", SHIFTS)
def test_a_shift_is_a_map_of_values_and_its_seeds(family: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (30, 30, 3)).astype(np.uint8)
    pixels = Pixels(values, rng.random((30, 30)) < 0.9)
    shift = Shift(family, 3)
    moved, valid = shifted(shift, "a", pixels)
    np.testing.assert_array_equal(valid, pixels.valid)
    np.testing.assert_array_equal(moved, shifted(shift, "a", pixels).values)
    np.testing.assert_array_equal(moved[~valid], values[~valid])
    assert (moved != shifted(shift, "b", pixels).values).any()
    assert (moved != shifted(Shift(family, 4), "a", pixels).values).any()
    # The same pixel becomes the same pixel, wherever it lies.
    order = rng.permutation(900)
    scattered = values.reshape(-1, 3)[order].reshape(30, 30, 3)
    mask = valid.reshape(-1)[order].reshape(30, 30)
    again = shifted(shift, "a", Pixels(scattered, mask)).values.reshape(-1, 3)
    np.testing.assert_array_equal(again, moved.reshape(-1, 3)[order])


def test_without_valid_pixels_nothing_is_shifted() -> None:
    values = np.full((4, 4, 3), 9, np.uint8)
    pixels = Pixels(values, np.zeros((4, 4), bool))
    np.testing.assert_array_equal(shifted(Shift("gamma", 0), "a", pixels).values, values)


def test_images_are_pooled_as_if_they_were_one(
    bright: SegmentationModel, catalog_path: Path
) -> None:
    tiles = Catalog.load(catalog_path).select(domains=["alder_aerial"]).tiles[:3]
    scores = [count(see(bright, t, shift=None, tiling=TILING), t, 0.5) for t in tiles]
    pixels = []
    for each in tiles:
        with each.open() as raster:
            pixels.append(raster.read()[0])
    expected = Histogram.of(np.concatenate(pixels))
    np.testing.assert_array_equal(pooled_histogram(scores).distribution(), expected.distribution())


def test_true_buildings_lie_where_control_points_say(tmp_path: Path) -> None:
    boxes = np.array([shapely.box(left, 6, left + 12, 26) for left in (20, 34, 74)])
    placed = shapely.transform(boxes, lambda places: warped(places, 80))
    geopandas.GeoDataFrame(geometry=placed, crs=UTM).to_file(tmp_path / "a.gpkg")
    pixels = np.zeros((60, 80, 3), np.uint8)
    image = write_raster(tmp_path / "a.tif", pixels, gcps=warped_gcps(60, 80))
    with Raster(image) as raster, Label(tmp_path / "a.gpkg", raster) as label:
        found = true_objects(label, label.read(), np.ones((60, 80), bool), raster)
    expected = shapely.intersection(boxes, shapely.box(0, 0, 80, 60))
    assert shapely.hausdorff_distance(found, expected).max() < 0.3


@pytest.mark.parametrize(("own", "counted"), [(1.0, 0.5), (None, None)])
def test_an_image_of_unknown_size_does_not_get_the_metres_of_the_model(
    bright: SegmentationModel, tile: Tile, own: float | None, counted: float | None
) -> None:
    spec = bright.spec
    try:
        bright.spec = replace(spec, gsd_m=0.5)
        seen = see(bright, replace(tile, gsd_m=own), shift=None, tiling=TILING)
    finally:
        bright.spec = spec
    assert seen.gsd_m == counted
    assert len(seen.truth) == tile.height * (1 if own is None else 2)
    scores = count(seen, tile, 0.5)
    assert (scores.outlines.matched > 0) == (counted is not None)
    if counted is None:  # a pixel counts as one metre, as in a prediction
        same = count(replace(seen, gsd_m=1.0), tile, 0.5)
        assert scores.boundaries == same.boundaries
        assert scores.outlines.vertices == same.outlines.vertices


def test_an_image_of_which_nothing_is_known_has_no_outlines(
    bright: SegmentationModel, tile: Tile
) -> None:
    seen = see(bright, tile, shift=None, tiling=TILING)
    empty = np.empty(0, dtype=object)
    blank = replace(
        seen,
        valid=np.zeros_like(seen.valid),
        objects=empty,
        true_objects=empty,
        confidences=np.empty(0),
    )
    assert count(blank, tile, 0.5).outlines == OutlineCounts()
    known = replace(blank, valid=np.ones_like(seen.valid))
    assert count(known, tile, 0.5).outlines.images == 1


def test_footprints_are_split_as_those_of_a_prediction(
    bright: SegmentationModel, tmp_path: Path
) -> None:
    """Law: what is scored is what ``rhm predict`` writes by default."""
    pixels = np.zeros((80, 100, 3), np.uint8)
    pixels[20:50, 10:40] = pixels[20:50, 43:73] = pixels[34:36, 40:43] = 255
    pixels[60:64, 10:14] = 255  # 4 square metres: too small for a footprint
    image = write_raster(tmp_path / "a.tif", pixels)
    mask = pixels[..., 0].copy()
    mask[34:36, 40:43] = 0
    label = write_raster(tmp_path / "a-mask.tif", mask)
    tile = Catalog.build([Source(image, label, "town", "a")]).tiles[0]
    seen = see(bright, tile, shift=None, tiling=TILING)
    expected, scores = default_footprints(
        seen.probability[None], seen.valid, threshold=bright.spec.threshold, gsd_m=seen.gsd_m
    )
    assert len(expected) == 2
    assert shapely.equals(seen.objects, expected).all()
    np.testing.assert_array_equal(seen.confidences, scores)
    found = count(seen, tile, bright.spec.threshold).objects
    assert (found.true_positives, found.false_positives) == (2, 0)


def objects_of(folder: Path, label: Path, valid: NDArray[np.bool_], **options: Any) -> NDArray[Any]:
    image = write_raster(folder / "image.tif", np.zeros((*valid.shape, 3), np.uint8))
    with Raster(image) as raster, Label(label, raster, **options) as truth:
        return true_objects(truth, truth.read(), valid, raster)


def test_touching_buildings_of_a_mask_are_several(tmp_path: Path) -> None:
    mask = np.zeros((40, 80), np.uint8)
    for value, left in ((7, 10), (9, 25), (7, 40)):
        mask[10:30, left : left + 15] = value
    mask[15:20, 30:35] = 0  # a court
    label = write_raster(tmp_path / "mask.tif", mask)
    valid = np.ones((40, 80), bool)
    valid[:, 50:] = False
    found = objects_of(tmp_path, label, valid, instances=True)
    expected = [
        shapely.box(10, 10, 25, 30),
        shapely.box(25, 10, 40, 30) - shapely.box(30, 15, 35, 20),
        shapely.box(40, 10, 50, 30),
    ]
    assert len(found) == 3
    assert all(any(shapely.equals(each, other) for other in found) for each in expected)
    (together,) = objects_of(tmp_path, label, valid)
    assert shapely.equals(together, shapely.union_all(expected))


def test_drawn_buildings_end_where_nothing_is_known(tmp_path: Path) -> None:
    """Law: who finds all that can be seen makes no mistake."""
    sides = {5: 20, 30: 20, 55: 6}  # how much of twenty columns lies left of the nodata
    boxes = [shapely.box(left, 10, left + 20, 20) for left in sides]
    placed = [affine_transform(box, HALF_METRE.to_shapely()) for box in boxes]
    geopandas.GeoDataFrame(geometry=placed, crs=UTM).to_file(tmp_path / "a.gpkg")
    valid = np.ones((40, 80), bool)
    valid[12:14, 30:42] = valid[:, 61:] = False
    found = objects_of(tmp_path, tmp_path / "a.gpkg", valid)
    seen = trace(burnt(boxes, (40, 80)).astype(np.float32), valid).polygons
    kept = [each for each in seen if shapely.bounds(each)[0] < 55]
    assert len(found) == len(kept) == 2
    assert sorted(shapely.area(found)) == sorted(shapely.area(kept))
    assert all(any(shapely.equals(each, other) for other in found) for each in kept)


def burnt(boxes: list[shapely.Polygon], shape: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    for box in boxes:
        left, top, right, bottom = map(int, box.bounds)
        mask[top:bottom, left:right] = True
    return mask
