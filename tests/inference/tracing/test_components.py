"""Tracing: scikit-image's regions are the oracle; how an image is cut must not matter."""

import cv2
import numpy as np
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import label, regionprops

from rhm.data.footprints import burn
from rhm.inference.tracing.components import Outlines, Tracer, trace
from rhm.inference.tracing.watershed import Watershed
from tests.examples import examples


def in_bands(
    probability: NDArray[np.float32],
    building: NDArray[np.bool_],
    heights: list[int],
    watershed: Watershed | None = None,
) -> Outlines:
    """Trace an image that is seen in bands of these heights, again and again."""
    tracer = Tracer(building.shape[1], watershed)
    found, row, turn = [], 0, 0
    while row < len(building):
        band = slice(row, row + heights[turn % len(heights)])
        found.append(tracer.feed(building[band], probability[band]))
        row, turn = band.stop, turn + 1
    found.append(tracer.finish())
    return Outlines.joined(*found)


@examples(30)
@given(st.integers(0, 2**32 - 1), st.floats(0.2, 0.8))
def test_components_are_labelled_regions(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    probability, valid = rng.random((15, 18)), rng.random((15, 18)) < 0.9
    outlines = trace(probability, valid, threshold=threshold)
    building = valid & (probability >= threshold)
    labels = label(building, connectivity=1)  # type: ignore[no-untyped-call]
    regions = regionprops(labels, intensity_image=probability)  # type: ignore[no-untyped-call]
    regions.sort(key=lambda region: region.coords.tolist()[-1])
    np.testing.assert_allclose(
        outlines.scores, [region.intensity_mean for region in regions], rtol=1e-6
    )
    areas = shapely.area(outlines.polygons)
    np.testing.assert_array_equal(areas, [region.area for region in regions])
    assert shapely.is_valid(outlines.polygons).all()
    for polygon, region in zip(outlines.polygons, regions, strict=True):
        own = np.zeros(building.shape, bool)
        own[tuple(region.coords.T)] = True
        np.testing.assert_array_equal(burn([polygon], Affine.identity(), 15, 18) > 0, own)


@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    smooth=st.booleans(),
    share=st.floats(0.05, 0.95),
    heights=st.lists(st.integers(1, 25), min_size=1, max_size=4),
    watershed=st.sampled_from([None, Watershed(1.0, 0.3)]),
)
def test_bands_of_any_heights_give_the_same_outlines(
    seed: int,
    size: tuple[int, int],
    smooth: bool,
    share: float,
    heights: list[int],
    watershed: Watershed | None,
) -> None:
    probability = np.random.default_rng(seed).random(size).astype(np.float32)
    if smooth:  # large shapes with holes and bays, that many bands cut
        blurred = cv2.GaussianBlur(probability, (0, 0), 1.5)
        probability = np.asarray(blurred, dtype=np.float32).reshape(size)
    building = probability >= np.quantile(probability, share)
    whole = trace(probability, building, threshold=0.0, watershed=watershed)
    banded = in_bands(probability, building, heights, watershed)
    np.testing.assert_array_equal(shapely.to_wkb(banded.polygons), shapely.to_wkb(whole.polygons))
    np.testing.assert_array_equal(banded.scores, whole.scores)


def test_a_spiral_and_a_comb_are_one_building_each_however_they_are_cut() -> None:
    """The arms of both meet only far below, or above, where they begin."""
    building = np.zeros((40, 60), dtype=bool)
    building[0:30, 0:20:4] = True
    building[29, 0:20] = True
    for ring in range(0, 9, 4):
        building[ring, 25 + ring : 60 - ring] = True
        building[ring : 39 - ring, 59 - ring] = True
        building[38 - ring, 25 + ring : 60 - ring] = True
        building[ring + 4 : 39 - ring, 25 + ring] = True
        building[ring + 4, 25 + ring : 30 + ring] = True
    probability = np.ones(building.shape, np.float32)
    for height in range(1, 41):
        outlines = in_bands(probability, building, [height])
        assert len(outlines) == 2
        assert shapely.area(outlines.polygons).sum() == building.sum()


def test_outlines_have_a_vertex_at_every_corner_and_nowhere_else() -> None:
    building = np.zeros((50, 50), dtype=bool)
    building[3:44, 5:30] = True
    building[10:20, 10:20] = False
    for heights in ([50], [7], [1]):
        (outline,) = in_bands(np.ones((50, 50), np.float32), building, heights).polygons
        assert outline.bounds == (5, 3, 30, 44)
        assert [len(ring.coords) for ring in (outline.exterior, *outline.interiors)] == [5, 5]


def test_what_lies_under_nodata_is_ignored_even_nan() -> None:
    probability = np.array([[0.9, np.nan, 0.7], [0.9, 1.0, 0.7]])
    valid = np.array([[True, False, True], [True, False, True]])
    outlines = trace(probability, valid, threshold=0.5)
    assert [polygon.bounds for polygon in outlines.polygons] == [(0, 0, 1, 2), (2, 0, 3, 2)]
    np.testing.assert_allclose(outlines.scores, [0.9, 0.7])


def test_a_pixel_at_the_threshold_is_building() -> None:
    probability = np.array([[0.3, 0.29999]], np.float32)
    outlines = trace(probability, probability > 0, threshold=0.3)
    assert shapely.area(outlines.polygons).tolist() == [1.0]


def test_an_image_without_buildings_has_no_outlines() -> None:
    outlines = trace(np.zeros((4, 5)), np.ones((4, 5), dtype=bool))
    assert len(outlines) == len(outlines.scores) == 0
