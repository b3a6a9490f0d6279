"""Made-up buildings that touch."""

import numpy as np
from numpy.typing import NDArray


def two_houses(neck: int, between: float = 0.9) -> NDArray[np.float32]:
    """Two houses of 16 by 16 pixels, and a bridge of 4 between them, so wide and so probable."""
    image = np.zeros((24, 44), dtype=np.float32)
    image[4:20, 4:20] = image[4:20, 24:40] = 0.9
    image[12 - neck // 2 : 12 + (neck + 1) // 2, 20:24] = between
    return image
