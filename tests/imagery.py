"""Images with distributions that are difficult for histogram code."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]

KINDS = ("uniform", "few values", "constant", "11 bit", "dark")


def drawn(kind: str, dtype: type, shape: tuple[int, ...], *, rng: np.random.Generator) -> Image:
    """An image of one of the ``KINDS`` of distribution."""
    highest = int(np.iinfo(dtype).max)
    if kind == "few values":
        return rng.choice(rng.integers(0, highest + 1, 4), size=shape).astype(dtype)
    if kind == "constant":
        return np.full(shape, rng.integers(0, highest + 1), dtype=dtype)
    if kind == "dark":
        return np.minimum(rng.exponential(highest / 40, shape), highest).astype(dtype)
    return rng.integers(0, min(highest, 2047) if kind == "11 bit" else highest, shape).astype(dtype)
