"""The shift between layers is found although many buildings are in one of them only."""

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from rhm.mapping.comparison.imagery_shift import estimate_shift


def town(seed: int, count: int = 400) -> NDArray[np.object_]:
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 1500, (2, count))
    width, height = rng.uniform(6, 20, (2, count))
    return np.asarray(shapely.box(x, y, x + width, y + height), dtype=object)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.2, -1.7), (-9.0, 6.0)])
@pytest.mark.parametrize("noise_m", [0.0, 1.0])
def test_a_shift_is_found_among_strangers(shift: tuple[float, float], noise_m: float) -> None:
    existing = town(0)
    rng = np.random.default_rng(1)
    moves = np.array(shift) + rng.normal(0, noise_m, (len(existing), 2))
    ours = [
        shapely.transform(house, lambda points, move=move: points + move)
        for house, move in zip(existing[:250], moves, strict=False)
    ]
    new = np.array([*ours, *town(2, 150)], dtype=object)
    found = estimate_shift(new, existing, 15.0)
    assert (found.east_m, found.north_m) == pytest.approx(shift, abs=0.05 + 0.3 * noise_m)
    assert found.pairs >= 150
    assert found.spread_m <= 0.1 + 3 * noise_m
    assert found.length_m == pytest.approx(np.hypot(*shift), abs=0.5)
    assert "shifted by" in found.told


def test_too_few_buildings_have_no_shift() -> None:
    found = estimate_shift(town(0)[:5], town(0)[:5], 15.0)
    assert (found.east_m, found.north_m, found.pairs) == (0.0, 0.0, 0)
    assert "too few" in found.told


def test_a_shift_that_nobody_looked_for_is_not_called_unknown() -> None:
    found = estimate_shift(town(0), town(0), 0.0)
    assert (found.east_m, found.north_m, found.pairs, found.sought) == (0.0, 0.0, 0, False)
    assert "compared as they are" in found.told
