"""How much of each pixel a polygon covers."""

import numpy as np
import numpy.typing as npt

from rhm.synthetic.town import Points


def coverage(points: Points, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return how much of each pixel a polygon covers, exactly.

    OpenCV's antialiased polygons are half a pixel larger on every side, so that roofs would not be
    where their labels are.

    Args:
        points: (N, 2) corners of a simple polygon, (x, y) in pixels from the corner of the first
            pixel; they may lie outside of the pixels.
        shape: height and width in pixels.

    Returns:
        Shares (height, width) from 0 to 1.
    """
    height, width = shape
    pieces = [
        _cut(start, end, shape)
        for start, end in zip(points, np.roll(points, -1, axis=0), strict=True)
    ]
    starts, ends = (np.concatenate(each) for each in zip(*pieces, strict=True))
    middles, drops = (starts + ends) / 2.0, (ends - starts)[:, 1]
    rows = np.floor(middles[:, 1]).astype(int)
    here = (rows >= 0) & (rows < height)
    rows, drops, x = rows[here], drops[here], np.clip(middles[here, 0], 0.0, width)
    cols = np.floor(x).astype(int)
    # To the right of a piece lies a trapezoid of its own pixel, and all of the next ones.
    found = np.zeros((height, width + 2))
    np.add.at(found, (rows, cols), drops * (1.0 - (x - cols)))
    np.add.at(found, (rows, cols + 1), drops * (x - cols))
    shares = np.abs(np.cumsum(found, axis=1)[:, :width])
    return np.minimum(shares, 1.0).astype(np.float32)


def _cut(start: Points, end: Points, shape: tuple[int, int]) -> tuple[Points, Points]:
    """Return the starts and ends of the pieces (M, 2) of an edge, each within one pixel."""
    along = end - start
    parts = [np.array([0.0, 1.0])]
    for axis, limit in ((0, shape[1]), (1, shape[0])):
        low, high = sorted((start[axis], end[axis]))
        lines = np.arange(max(np.floor(low) + 1, 0.0), min(np.ceil(high), limit + 1))
        if along[axis]:
            parts.append((lines - start[axis]) / along[axis])
    shares = np.sort(np.concatenate(parts))[:, None]
    corners = start + shares * along
    return corners[:-1], corners[1:]
