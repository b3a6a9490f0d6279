"""The simplex equiangular tight frame: the arrangement in which classes are furthest apart."""

import numpy as np
from numpy.typing import NDArray

from rhm.errors import ConfigError

FloatArray = NDArray[np.float64]


def simplex_etf(num_classes: int) -> FloatArray:
    """Return the Gram matrix (K, K) of a simplex ETF: 1 on the diagonal, -1/(K - 1) elsewhere.

    Raises:
        ConfigError: there are fewer than two classes.
    """
    if num_classes < 2:
        raise ConfigError(f"a simplex needs at least 2 classes, got {num_classes}")
    return (num_classes * np.eye(num_classes) - 1.0) / (num_classes - 1)
