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
    starts, ends = _cut(points, np.roll(points, -1, axis=0), shape)
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


def _cut(starts: Points, ends: Points, shape: tuple[int, int]) -> tuple[Points, Points]:
    """Return the starts and ends of the pieces (M, 2) of edges (N, 2), each within one pixel.

    Some pieces have no length.
    """
    along = ends - starts
    shares = [np.zeros((len(starts), 1)), np.ones((len(starts), 1))]
    for axis, limit in ((0, shape[1]), (1, shape[0])):
        low, high = np.sort([starts[:, axis], ends[:, axis]], axis=0)
        first = np.maximum(np.floor(low) + 1.0, 0.0)
        counts = np.minimum(np.ceil(high), limit + 1.0) - first
        lines = first[:, None] + np.arange(max(0, int(counts.max())))
        crossed = np.arange(lines.shape[1]) < counts[:, None]
        length = np.where(along[:, axis], along[:, axis], 1.0)[:, None]
        shares.append(np.where(crossed, (lines - starts[:, axis, None]) / length, 1.0))
    at = np.sort(np.concatenate(shares, axis=1), axis=1)[..., None]
    corners = starts[:, None] + at * along[:, None]
    return corners[:, :-1].reshape(-1, 2), corners[:, 1:].reshape(-1, 2)
