"""Splitting all components of an image at once; oracle: each of them alone."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import label

from rhm.inference.tracing.components import Outlines, trace
from rhm.inference.tracing.splitting import ComponentPixels
from rhm.inference.tracing.watershed import Watershed
from tests.inference.tracing.houses import two_houses


def test_parts_carry_their_own_scores_and_come_in_the_order_of_components() -> None:
    image = np.pad(two_houses(2), ((0, 20), (0, 0)))
    image[4:20, 24:40] = 0.7
    image[22:26, 4:9] = 0.8
    outlines = trace(image, np.ones(image.shape, bool), watershed=Watershed(4.0, 0.5))
    np.testing.assert_allclose(sorted(outlines.scores[:2]), [0.7, 0.9], atol=0.01)
    np.testing.assert_allclose(outlines.scores[2], 0.8, atol=1e-6)
    left = outlines.polygons[np.argmax(outlines.scores)]
    assert left.bounds[:2] == (4, 4)
    assert shapely.area(shapely.union_all(outlines.polygons)) == (image > 0.5).sum()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 60), st.integers(1, 60)))
def test_components_are_split_as_if_each_were_alone(seed: int, size: tuple[int, int]) -> None:
    rough = np.random.default_rng(seed).random(size).astype(np.float32)
    image = np.asarray(cv2.GaussianBlur(rough, (0, 0), 1.2)).reshape(size)
    threshold = float(np.quantile(image, 0.4))
    watershed = Watershed(1.5, threshold)
    together = trace(image, np.ones(size, bool), threshold=threshold, watershed=watershed)
    components = label(image >= threshold, connectivity=1)  # type: ignore[no-untyped-call]
    alone = [
        trace(image, components == number, threshold=threshold, watershed=watershed)
        for number in range(1, components.max() + 1)
    ]
    expected = Outlines.joined(*alone)
    assert len(together) == len(expected)
    assert set(shapely.to_wkb(together.polygons)) == set(shapely.to_wkb(expected.polygons))
    assert sorted(together.scores) == sorted(expected.scores)
    assert shapely.is_valid(together.polygons).all()
    assert shapely.area(together.polygons).sum() == (image >= threshold).sum()


def test_a_component_too_large_to_hold_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    image = two_houses(2)
    monkeypatch.setattr("rhm.inference.tracing.splitting._LARGEST", 16 * 36 - 1)
    found = trace(image, np.ones(image.shape, bool), watershed=Watershed(4.0, 0.5))
    assert found.too_large.tolist() == [True]
    assert not trace(image, np.ones(image.shape, bool)).too_large.any()  # nothing was to be split


@pytest.mark.parametrize("side", [300, 2300])
def test_a_town_whose_houses_all_touch_is_split(side: int) -> None:
    """The group of 2300 x 2300 pixels is larger than what used to be split."""
    image = np.zeros((side, side), np.float32)
    firsts = range(0, side - 24, 28)
    for row in firsts:
        for col in firsts:
            image[row : row + 24, col : col + 24] = 0.9
    for first in firsts:
        image[first + 10 : first + 12, : firsts[-1] + 24] = 0.9
        image[: firsts[-1] + 24, first + 10 : first + 12] = 0.9
    found = trace(image, np.ones(image.shape, bool), watershed=Watershed(3.0, 0.5))
    assert len(found) == len(firsts) ** 2
    assert not found.too_large.any()


def pixels_of(owners: NDArray[np.intp]) -> ComponentPixels:
    """The pixels of components in an image of their numbers from 1; 0 is none."""
    row, col = np.nonzero(owners)
    owner = owners[row, col] - 1
    order = np.argsort(owner, kind="stable")
    owner, row, col = owner[order], row[order], col[order]
    box = [
        (row[owner == k].min(), col[owner == k].min(), -row[owner == k].max() - 1,
         -col[owner == k].max() - 1)
        for k in range(owner.max() + 1)
    ]  # fmt: skip
    sure = np.full(len(row), 0.9, np.float32)
    return ComponentPixels(owner, row, col, sure, sure, np.array(box))


def image_of(pixels: ComponentPixels, shape: tuple[int, int]) -> NDArray[np.intp]:
    image = np.zeros(shape, np.intp)
    image[pixels.row, pixels.col] = pixels.owner + 1
    return image


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_components_found_in_two_strips_are_united(seed: int, count: int) -> None:
    """United, the parts above and below a cut are the components of the whole."""
    image = np.random.default_rng(seed).integers(0, count + 1, (8, 9))
    image[0, :count] = image[7, :count] = np.arange(1, count + 1)
    whole = pixels_of(image)
    above, below = pixels_of(image[:4]), pixels_of(image[4:])
    moved = np.array([4, 0, -4, 0])
    below = replace(below, row=below.row + 4, box=below.box + moved)
    shifted = replace(below, owner=below.owner + count)
    united = above.and_found(shifted).united(np.tile(np.arange(count), 2), count)
    np.testing.assert_array_equal(image_of(united, image.shape), image)
    np.testing.assert_array_equal(united.box, whole.box)
    assert len(ComponentPixels.none().and_found(whole).box) == count


@given(st.integers(0, 2**32 - 1), st.permutations(range(5)), st.integers(0, 5))
def test_chosen_components_are_renumbered_in_their_order(
    seed: int, order: list[int], count: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 6, (8, 9))
    image[0, :5] = np.arange(1, 6)
    pixels, chosen = pixels_of(image), np.array(order[:count], np.intp)
    kept = pixels.only(chosen)
    expected = np.zeros_like(image)
    for number, component in enumerate(chosen):
        expected[image == component + 1] = number + 1
    np.testing.assert_array_equal(image_of(kept, image.shape), expected)
    np.testing.assert_array_equal(kept.box, pixels.box[chosen])


def test_what_has_one_part_is_not_among_the_split() -> None:
    house = np.zeros((12, 30), np.intp)
    house[2:10, 2:10] = 1
    parts = pixels_of(house).split(Watershed(4.0, 0.5))
    assert len(parts.polygons) == len(parts.scores) == len(parts.component) == 0
    bridged = np.where(two_houses(2) > 0, 1, 0)
    parts = pixels_of(bridged).split(Watershed(4.0, 0.5))
    assert parts.component.tolist() == [0, 0]
    np.testing.assert_allclose(parts.scores, 0.9)
    assert shapely.area(parts.polygons).sum() == (bridged > 0).sum()
