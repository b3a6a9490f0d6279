"""What fills the part of a chip or tile that lies beyond the edge of its image."""

import numpy as np

from rhm.data.rasters.pixels import Pixels


def mirrored(pixels: Pixels, height: int, width: int, *, row: int = 0, col: int = 0) -> Pixels:
    """Return (height, width) pixels that contain others, surrounded by their mirror image.

    Training and prediction both fill what lies beyond the edge of an image in this way. Black would
    be a pattern of its own, and a network that rarely saw it in training would be misled by it in
    prediction.

    Args:
        pixels: pixels up to the edge of the image.
        height: rows of the result.
        width: columns of the result.
        row: row of the result in which these pixels begin.
        col: column of the result in which these pixels begin.

    Returns:
        Pixels that are not valid in the mirror image; the given pixels themselves if they already
        have that size.
    """
    rows, cols = pixels.valid.shape
    if (rows, cols) == (height, width):
        return pixels
    around = ((row, height - rows - row), (col, width - cols - col))
    values = np.pad(pixels.values, (*around, (0, 0)), mode="reflect")
    return Pixels(values, np.pad(pixels.valid, around))
