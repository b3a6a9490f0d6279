"""How a raster is cut: tiles overlap by less than themselves, and are no larger than an image."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.data.rasters.windows import starts
from rhm.errors import ConfigError
from rhm.inference.settings.option import options_of
from rhm.inference.settings.tile_config import Tiling

SIDES = st.integers(1, 3000)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"tile": 0}, "tile must be at least 1, got 0"),
        ({"overlap": -1}, "overlap must be at least 0, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (
            {"tile": 64, "overlap": 64},
            "overlap must be smaller than tile, got overlap 64 and tile 64",
        ),
        # The default overlap is 64.
        ({"tile": 32}, "overlap must be smaller than tile, got overlap 64 and tile 32"),
    ],
)
def test_tiles_that_would_never_end_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Tiling(**values)
    assert str(caught.value) == told


def test_a_step_of_one_pixel_is_allowed() -> None:
    assert Tiling(tile=64, overlap=63).overlap == 63
    assert Tiling(tile=1, overlap=0).tile == 1


def test_turned_and_mirrored_views_are_eight() -> None:
    assert Tiling().passes == 1
    assert Tiling(views=True).passes == 8


def test_the_device_decides_the_batch_on_the_command_line() -> None:
    assert options_of(Tiling)["batch_size"].command_default(Tiling().batch_size) is None


@given(SIDES, SIDES, st.integers(1, 1024), st.data())
def test_a_tile_holds_a_small_image_and_is_no_larger_than_it_asks_for(
    height: int, width: int, tile: int, data: st.DataObject
) -> None:
    given_tiles = Tiling(tile=tile, overlap=data.draw(st.integers(0, tile - 1)), views=True)
    fitted = given_tiles.for_image(height, width)
    longest = max(height, width)
    if fitted == given_tiles:
        # A tile as large as the image asks for would be no smaller.
        assert tile <= max(64, longest + 31)
        return
    # One tile holds the image, so that there is nothing to overlap with.
    assert longest <= fitted.tile < tile
    assert fitted.overlap == 0
    # Networks halve the side five times, and some pool what is left.
    assert fitted.tile % 32 == 0
    assert fitted.tile >= 64
    assert fitted.tile < longest + 32 or fitted.tile == 64
    assert (fitted.batch_size, fitted.views) == (given_tiles.batch_size, True)


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [(1, 1, 64), (64, 10, 64), (65, 10, 96), (10, 200, 224), (480, 480, 480), (481, 5, 512)],
)
def test_the_side_is_the_next_that_networks_take(height: int, width: int, side: int) -> None:
    fitted = Tiling(tile=512, overlap=64).for_image(height, width)
    assert (fitted.tile, fitted.overlap) == (side, 64 if side == 512 else 0)


@given(
    SIDES.map(lambda side: 8 * side),
    SIDES.map(lambda side: 8 * side),
    st.sampled_from([32, 64, 128]),
)
def test_fitted_tiles_cost_less_than_given_ones(height: int, width: int, overlap: int) -> None:
    """Oracle: the tiles of the grid, counted, for this size of tiles and for all others."""
    given_tiles = Tiling(tile=512, overlap=overlap)
    fitted = given_tiles.fitted(height, width, 1536**2)
    assert (fitted.overlap, fitted.batch_size) == (overlap, given_tiles.batch_size)
    assert fitted.tile % 32 == 0
    assert 512 <= fitted.tile <= 1536

    def cost(tile: int) -> int:
        counts = (len(starts(side, tile, overlap)) for side in (height, width))
        return math.prod(counts) * tile**2

    largest = max(512, min(1536, 32 * math.ceil(max(height, width) / 32)))
    assert cost(fitted.tile) == min(map(cost, range(512, largest + 1, 32)))


def test_fitted_tiles_of_large_scenes_waste_an_eighth_at_most() -> None:
    """The tiles of 512 pixels that are the default waste a third."""
    for height, width in ((10_000, 10_000), (12_345, 20_001), (30_000, 9_999)):
        tile = Tiling().fitted(height, width, 1536**2).tile
        rows, cols = (len(starts(side, tile, 64)) for side in (height, width))
        assert rows * cols * tile**2 < 1.125 * height * width


@pytest.mark.parametrize("most_px", [0, 100**2, 511**2])
def test_where_memory_is_short_the_given_tile_stays(most_px: int) -> None:
    assert Tiling(tile=512).fitted(5000, 5000, most_px) == Tiling(tile=512)
