"""Outlines of many buildings, traced once."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from shapely import box

from tests.inference.regularization.buildings import (
    COURT,
    CUT_CORNER,
    L_SHAPE,
    LEANING,
    U_SHAPE,
    array,
    as_traced,
    placed,
)


@pytest.fixture(scope="session")
def rectangles() -> tuple[NDArray[Any], NDArray[Any]]:
    """120 rectangles, as they are and as traced."""
    rng = np.random.default_rng(1)
    sides = rng.uniform(8, 28, (120, 2))
    truth = array(*(placed(box(0, 0, *pair), rng) for pair in sides))
    return truth, array(*(as_traced(each, rng) for each in truth))


@pytest.fixture(scope="session")
def houses() -> tuple[NDArray[Any], NDArray[Any]]:
    """60 houses with wings, courts and oblique walls, as they are and as traced."""
    rng = np.random.default_rng(2)
    kinds = (L_SHAPE, U_SHAPE, COURT, CUT_CORNER, LEANING)
    truth = array(*(placed(kinds[index % 5], rng) for index in range(60)))
    return truth, array(*(as_traced(each, rng) for each in truth))
