import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.data.rasters.windows import (
    Window,
    blend_weights,
    grid,
    partition,
    random_window,
    spread,
    spread_blocks,
    starts,
)

SIZES = st.integers(1, 70)


@st.composite
def tiles(draw: st.DrawFn) -> tuple[int, int]:
    """A tile and an overlap smaller than it."""
    tile = draw(st.integers(1, 40))
    return tile, draw(st.integers(0, tile - 1))


@given(SIZES, SIZES, tiles())
def test_grid_covers_every_pixel_with_tiles_of_one_size(
    height: int, width: int, tiling: tuple[int, int]
) -> None:
    tile, overlap = tiling
    seen = np.zeros((height, width), dtype=int)
    for window in grid(height, width, tile, overlap):
        assert (window.height, window.width) == (tile, tile)
        assert window.row == 0 or window.row + tile <= height
        assert window.col == 0 or window.col + tile <= width
        seen[window.row : window.row + tile, window.col : window.col + tile] += 1
    assert seen.min() >= 1


@given(st.integers(1, 300), tiles())
def test_neighbours_overlap_by_at_least_the_overlap(length: int, tiling: tuple[int, int]) -> None:
    tile, overlap = tiling
    shared = tile - np.diff(starts(length, tile, overlap))
    assert (shared[:-1] == overlap).all()
    assert (shared >= overlap).all()
    assert (shared < tile).all()


@pytest.mark.parametrize(("tile", "overlap"), [(4, 4), (4, -1), (0, 0)])
def test_a_grid_without_a_step_is_refused(tile: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap must be in"):
        starts(10, tile, overlap)


@given(SIZES, SIZES, st.integers(1, 40))
def test_partition_holds_each_pixel_once_and_nothing_beyond(
    height: int, width: int, size: int
) -> None:
    seen = np.zeros((height, width), dtype=int)
    for window in partition(height, width, size):
        assert 0 < window.height <= size
        assert 0 < window.width <= size
        seen[window.row :, window.col :][: window.height, : window.width] += 1
    assert (seen == 1).all()
    assert sum(w.height * w.width for w in partition(height, width, size)) == height * width


@given(SIZES, SIZES, st.integers(1, 40), st.integers(0, 2**32))
def test_a_random_window_is_inside_or_holds_the_image_in_its_middle(
    height: int, width: int, size: int, seed: int
) -> None:
    window = random_window(height, width, size, rng=np.random.default_rng(seed))
    assert (window.height, window.width) == (size, size)
    for first, length in ((window.row, height), (window.col, width)):
        if length >= size:
            assert 0 <= first <= length - size
        else:
            before, after = -first, first + size - length
            assert after - before in (0, 1)


def test_random_windows_reach_every_place_about_equally() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_window(12, 8, 8, rng=rng) for _ in range(2000)]
    counts = np.bincount([window.row for window in drawn], minlength=5)
    assert {window.col for window in drawn} == {0}
    assert counts.size == 5
    # Five binomials of mean 400 and standard deviation 18.
    assert (np.abs(counts - 400) < 90).all()


def test_random_windows_follow_from_the_seed() -> None:
    first, second = (
        [random_window(99, 99, 10, rng=np.random.default_rng(seed)) for _ in range(3)]
        for seed in (3, 3)
    )
    assert first == second
    assert isinstance(first[0], Window)


@given(st.integers(1, 200), tiles())
def test_blend_weights_add_up_to_one_everywhere(length: int, tiling: tuple[int, int]) -> None:
    tile, overlap = tiling
    weights = blend_weights(length, tile, overlap)
    firsts = starts(length, tile, overlap)
    assert weights.shape == (len(firsts), tile)
    assert weights.dtype == np.float32
    total = np.zeros(max(length, tile))
    for first, each in zip(firsts, weights, strict=True):
        assert (each[: length - first] > 0).all()
        total[first : first + tile] += each
    np.testing.assert_allclose(total[:length], 1.0, atol=1e-6)
    assert not total[length:].any()


def test_blend_weights_are_the_same_from_both_ends() -> None:
    weights = blend_weights(304, 64, 16)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-7)


def test_blend_weights_cross_over_along_the_overlap() -> None:
    # sin^2 + cos^2 = 1, but for the floor that keeps weights from vanishing.
    left, right = blend_weights(112, 64, 16)
    rising = np.sin(0.5 * np.pi * (np.arange(16) + 0.5) / 16) ** 2
    np.testing.assert_allclose(right[:16], rising, atol=2e-3)
    np.testing.assert_allclose(left[-16:], rising[::-1], atol=2e-3)
    assert (left[:48] == 1.0).all()


def test_windows_cut_arrays() -> None:
    image = np.arange(20).reshape(4, 5)
    np.testing.assert_array_equal(image[Window(1, 2, 2, 3).slices], [[7, 8, 9], [12, 13, 14]])


WINDOWS = st.builds(
    Window, st.integers(-9, 30), st.integers(-9, 30), st.integers(1, 25), st.integers(1, 25)
)


def pixels_of(window: Window) -> set[tuple[int, int]]:
    """The pixels of a window, by row and column."""
    rows = range(window.row, window.row + window.height)
    return {(row, col) for row in rows for col in range(window.col, window.col + window.width)}


@given(WINDOWS, WINDOWS)
def test_what_windows_have_in_common_is_the_pixels_of_both(one: Window, other: Window) -> None:
    common = one.common(other)
    assert pixels_of(common) == pixels_of(one) & pixels_of(other)
    assert common == other.common(one)


@given(WINDOWS, WINDOWS)
def test_within_another_a_window_is_counted_from_its_corner(one: Window, outer: Window) -> None:
    moved = one.within(outer)
    assert moved[2:] == one[2:]
    assert (moved.row + outer.row, moved.col + outer.col) == one[:2]


@given(WINDOWS, st.integers(1, 12), st.integers(1, 12))
def test_the_blocks_that_a_window_meets_share_out_its_pixels(
    window: Window, height: int, width: int
) -> None:
    met = list(window.blocks(height, width))
    assert all(block.row % height == block.col % width == 0 for block in met)
    shares = [pixels_of(block.common(window)) for block in met]
    assert all(shares)
    assert sum(map(len, shares)) == len(set.union(*shares)) == window.height * window.width


def test_a_window_of_no_height_meets_no_block() -> None:
    assert not list(Window(25, 3, -2, 5).blocks(10, 10))
    assert not list(Window(25, 3, 5, 0).blocks(10, 10))


@given(SIZES, SIZES, st.integers(1, 40))
def test_spread_blocks_are_those_of_a_partition(height: int, width: int, size: int) -> None:
    blocks = list(spread_blocks(height, width, size, most=height * width))
    assert blocks[0] == Window(0, 0, min(size, height), min(size, width))
    assert sorted(blocks) == sorted(partition(height, width, size))


@given(st.integers(1, 1 << 60), st.integers(8, 500))
def test_few_of_many_are_evenly_spread(count: int, most: int) -> None:
    indices = list(spread(count, most))
    assert indices[0] == 0
    assert len(set(indices)) == len(indices) <= min(count, most)
    assert set(indices) <= set(range(count)) if count < 1000 else max(indices) < count
    if count > 100 * most:
        gaps = np.diff(sorted([*indices, count]))
        assert gaps.max() < 3 * count / most
