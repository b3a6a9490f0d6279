"""The simplex equiangular tight frame: as far apart as the classes can be."""

import numpy as np
from numpy.typing import NDArray

from rhm.errors import ConfigError

FloatArray = NDArray[np.float64]


def simplex_etf(num_classes: int) -> FloatArray:
    """Return the Gram matrix of a simplex ETF, (K, K): ones, and -1/(K - 1) off the diagonal.

    Raises:
        ConfigError: there are fewer than two classes.
    """
    if num_classes < 2:
        raise ConfigError(f"a simplex needs at least 2 classes, not {num_classes}")
    return (num_classes * np.eye(num_classes) - 1.0) / (num_classes - 1)
