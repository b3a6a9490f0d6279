"""A scene of two houses."""

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture
def houses() -> NDArray[np.uint8]:
    """Return two bright houses of 100 and 30 square metres at half a metre, on dark ground."""
    pixels = np.full((200, 300, 3), 20, np.uint8)
    pixels[20:40, 30:50] = 230
    pixels[100:110, 200:212] = 230
    return pixels
