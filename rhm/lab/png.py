"""Matplotlib figures as PNG files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rhm.files import atomic_path


@contextmanager
def saved_png(figure: Any, path: str | os.PathLike[str]) -> Iterator[None]:
    """Write a figure after it has been drawn, and close it even after an error.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib import pyplot as plt

    try:
        yield
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
    finally:
        plt.close(figure)
