"""The files that those of workers are compared with."""

from pathlib import Path
from typing import Any

OPTIONS: dict[str, Any] = {"tile": 64, "overlap": 16, "dtype": "uint8"}


def files(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
