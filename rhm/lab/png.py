"""Figures of matplotlib as PNG files, drawn without a window.

A ``Figure`` that pyplot does not know has a canvas of its own: the backend of the program that
draws it, and its open figures, stay as they are.
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
        path: of the file.
        width: in inches of 150 pixels.
        height: likewise.

    Raises:
        OutputError: the file cannot be written.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    yield figure
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
