from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rhm.data.rasters.blocks import BlockCache, Blocks
from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.windows import Window

HEIGHT, WIDTH = 23, 31
PIXELS = np.random.default_rng(0).integers(0, 1000, (HEIGHT, WIDTH, 3)).astype(np.uint16)
VALID = np.random.default_rng(1).random((HEIGHT, WIDTH)) < 0.9
VALID[:12] = True


class Source:
    """A raster in memory that counts how often a pixel is read."""

    def __init__(self, pixels: NDArray[Any] = PIXELS) -> None:
        self.pixels = pixels
        self.reads = np.zeros((HEIGHT, WIDTH), dtype=int)

    def load(self, window: Window) -> Pixels:
        place = window.slices
        self.reads[place] += 1
        assert self.reads[place].shape == (window.height, window.width)
        valid, values = VALID[place], self.pixels[place].copy()
        return Pixels.everywhere(values) if valid.all() else Pixels(values, valid.copy())

    def blocks(
        self, block_shape: tuple[int, int], cache: BlockCache, *, key: str = "image"
    ) -> Blocks:
        return Blocks(
            self.load,
            shape=(HEIGHT, WIDTH, self.pixels.shape[2]),
            dtype=self.pixels.dtype,
            block_shape=block_shape,
            cache=cache,
            key=key,
        )


windows = st.builds(
    Window, st.integers(-9, 30), st.integers(-9, 40), st.integers(1, 40), st.integers(1, 45)
)


@given(
    st.lists(windows, min_size=1, max_size=6),
    st.tuples(st.integers(1, 30), st.integers(1, 40)),
    st.sampled_from([0, 700, 1 << 20]),
    st.sampled_from([1, 3]),
)
def test_windows_are_those_of_the_whole(
    asked: list[Window], block_shape: tuple[int, int], limit: int, bands: int
) -> None:
    source = Source(PIXELS[..., :bands])
    blocks = source.blocks(block_shape, BlockCache(limit))
    for window in asked:
        pixels, valid = blocks.read(window)
        rows, cols = np.mgrid[
            window.row : window.row + window.height, window.col : window.col + window.width
        ]
        inside = (rows >= 0) & (rows < HEIGHT) & (cols >= 0) & (cols < WIDTH)
        place = rows.clip(0, HEIGHT - 1), cols.clip(0, WIDTH - 1)
        expected = source.pixels[place] * inside[..., None]
        np.testing.assert_array_equal(pixels, expected)
        assert pixels.dtype == np.uint16
        expected_valid = VALID[place] & inside
        np.testing.assert_array_equal(valid, expected_valid)
        # Whoever asked may write into it.
        pixels[:] = 7
        if valid.flags.writeable:
            valid[:] = False


def test_what_fits_is_read_once() -> None:
    source = Source()
    blocks = source.blocks((8, 10), BlockCache(1 << 20))
    rng = np.random.default_rng(0)
    for _ in range(200):
        blocks.read(Window(int(rng.integers(-5, 20)), int(rng.integers(-5, 28)), 9, 9))
    assert (source.reads == 1).all()


def test_images_in_one_cache_are_told_apart() -> None:
    cache = BlockCache(1 << 20)
    first = Source().blocks((8, 8), cache, key="first")
    other = Source(PIXELS + 1).blocks((8, 8), cache, key="other")
    whole = Window(0, 0, HEIGHT, WIDTH)
    for _ in range(2):
        np.testing.assert_array_equal(first.read(whole).values, PIXELS)
        np.testing.assert_array_equal(other.read(whole).values, PIXELS + 1)


@pytest.mark.parametrize("masked", [False, True])
def test_the_blocks_used_last_stay_within_the_limit(masked: bool) -> None:
    loaded: list[int] = []

    def load(key: int) -> Pixels:
        loaded.append(key)
        values = np.zeros((10, 10, 1), np.uint8)
        return Pixels(values, np.ones((10, 10), bool)) if masked else Pixels.everywhere(values)

    cache = BlockCache(600 if masked else 300)
    for key in (0, 1, 2, 0, 3, 0, 2, 1, 9, 1):
        cache.get(key, lambda key=key: load(key))  # type: ignore[misc]
    # Three fit: 3 drives out 1, which drives out 3, and 9 then 0.
    assert loaded == [0, 1, 2, 3, 1, 9]
    large = Pixels.everywhere(np.zeros((99, 99, 1)))
    assert cache.get(4, lambda: large) is large
    cache.get(4, lambda: pytest.fail("a block larger than the limit is kept, alone"))
    cache.get(1, lambda: load(1))
    assert loaded[-1] == 1
