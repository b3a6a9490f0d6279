"""Scalings of all types, and imagery to measure them on."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from rhm.colour.levels import values_of
from rhm.data.radiometry import (
    Scaling,
)

BYTES = Scaling("uint8", (0.0,), (255.0,))


@st.composite
def wide_scalings(draw: st.DrawFn) -> Scaling:
    low = draw(st.integers(0, 2000))
    return Scaling("uint16", (float(low),), (float(low + draw(st.integers(1, 4000))),))


@st.composite
def signed_scalings(draw: st.DrawFn) -> Scaling:
    """Ranges of int16 and float32 that begin and end at values of the type."""
    dtype = draw(st.sampled_from(["int16", "float32"]))
    values = np.unique(values_of(dtype))
    low, high = sorted(draw(st.sets(st.integers(0, len(values) - 1), min_size=2, max_size=2)))
    return Scaling(dtype, (float(values[low]),), (float(values[high]),))


def imagery(dtype: str, height: int = 60, width: int = 70, bands: int = 2) -> NDArray[Any]:
    """Pixels of any type, half of them below 0 where the type has such."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(0 if dtype in ("int16", "float32") else 120, 40, (height, width, bands))
    return np.asarray(drawn.clip(-255, 255).astype(dtype))
