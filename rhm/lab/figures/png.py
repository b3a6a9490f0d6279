"""matplotlib figures as PNG files, drawn without a window.

A ``Figure`` that was not created by pyplot has its own canvas, and leaves the backend and the open
figures of the calling program unchanged.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib.figure import Figure

from rhm.files import atomic_path


@contextmanager
def saved_png(path: str | os.PathLike[str], *, width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure, and write it after it has been drawn.

    Args:
        path: path of the file.
        width: width in inches of 150 pixels.
        height: height in inches of 150 pixels.

    Raises:
        OutputError: the file cannot be written.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    yield figure
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": "rhm"})
