"""Laws of the choice of tiles: probabilities by area, and tiles that count as alike."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare

from rhm.data.catalog import Tile
from rhm.data.tile_choice import TileChoice


def tile(
    width: int,
    height: int,
    building_fraction: float | None,
    *,
    domain: str = "a",
    dtype: str = "uint8",
    gsd_m: float | None = None,
) -> Tile:
    return Tile(
        Path("x.tif"),
        Path("y.tif"),
        domain,
        "ground",
        gsd_m=gsd_m,
        width=width,
        height=height,
        dtype=dtype,
        building_fraction=building_fraction,
    )


TILES = [
    tile(300, 100, 0.1),
    tile(100, 100, 0.0),
    tile(200, 100, 0.2),
    tile(100, 100, 0.2, dtype="uint16"),
    tile(100, 200, None, domain="b"),
    tile(100, 100, 0.0, domain="c"),
]
DRAWS = 3000


def counted(choice: TileChoice, *, built: bool) -> list[int]:
    rng = np.random.default_rng(0)
    drawn = [choice.draw(built=built, rng=rng) for _ in range(DRAWS)]
    return [drawn.count(number) for number in range(len(TILES))]


@pytest.mark.parametrize(("built", "areas"), [(False, [3, 1, 2, 1, 2, 1]), (True, [3, 2, 1, 2])])
def test_a_tile_is_as_likely_as_it_is_large(built: bool, areas: list[int]) -> None:
    counts = counted(TileChoice(TILES, None), built=built)
    # Nobody has said that the fifth has no buildings.
    eligible = [0, 2, 3, 4] if built else range(6)
    assert sum(counts[number] for number in eligible) == DRAWS
    found = [counts[number] for number in eligible]
    expected = np.array(areas) * (DRAWS / sum(areas))
    assert chisquare(found, expected).pvalue > 1e-3


def test_areas_are_compared_on_the_ground() -> None:
    tiles = [tile(100, 100, 0.1, gsd_m=1.0), tile(200, 200, 0.1, gsd_m=0.5)]
    rng = np.random.default_rng(0)
    for gsd_m, share in ((1.0, 0.5), (None, 0.2)):
        choice = TileChoice(tiles, gsd_m)
        first = sum(choice.draw(built=False, rng=rng) == 0 for _ in range(DRAWS))
        # Binomials of a standard deviation of up to 28.
        assert abs(first - share * DRAWS) < 110


def test_without_any_building_all_are_drawn() -> None:
    tiles = [tile(100, 100, 0.0) for _ in range(3)]
    choice = TileChoice(tiles, None)
    rng = np.random.default_rng(0)
    assert {choice.draw(built=True, rng=rng) for _ in range(60)} == {0, 1, 2}


def test_another_is_of_the_same_domain_and_type_and_has_buildings() -> None:
    choice, rng = TileChoice(TILES, None), np.random.default_rng(0)
    like = [{choice.draw_like(number, rng=rng) for _ in range(60)} for number in range(6)]
    # The last has no buildings, and nothing like it has.
    assert like == [{0, 2}, {0, 2}, {0, 2}, {3}, {4}, {5}]


@pytest.mark.parametrize(("built", "expected"), [(False, 6), (True, 4)])
def test_balanced_domains_are_equally_likely_and_areas_count_within_them(
    built: bool, expected: int
) -> None:
    rng = np.random.default_rng(0)
    choice = TileChoice(TILES, None, balance_domains=True)
    drawn = [choice.draw(built=built, rng=rng) for _ in range(DRAWS)]
    counts = np.array([drawn.count(number) for number in range(len(TILES))])
    # In the first domain by area; the last has no buildings, and is then out of the game.
    areas = np.array([3, 0, 2, 1] if built else [3, 1, 2, 1])
    shares = [*(areas / areas.sum()), 1, 0 if built else 1]
    assert (counts > 0).sum() == expected
    probable = np.array(shares)[counts > 0] / sum(shares)
    assert chisquare(counts[counts > 0], probable * DRAWS).pvalue > 1e-3


def test_memory_grows_with_the_tiles_and_not_with_their_domains() -> None:
    tiles = [tile(10, 10, 0.1, domain=str(number)) for number in range(3000)]
    tracemalloc.start()
    choice = TileChoice(tiles, None)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # One share for each pair of a tile and a domain would be 72 MB.
    assert most < 5e6
    assert choice.draw_like(7, rng=np.random.default_rng(0)) == 7
