"""Data that many tests share and one of them makes: worlds, banks, trained networks.

With several workers, the first that asks makes it, in a folder that all of them share; the others
wait for it and read. Whoever changes what is stored breaks other tests: copy it first.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the session's temporary files, the same for all workers."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def made_once(folder: Path, make: Callable[[], object]) -> Path:
    """Return the folder, after ``make`` has filled it for whichever worker came first."""
    with FileLock(f"{folder}.lock"):
        done = Path(f"{folder}.done")
        if not done.exists():
            make()
            done.touch()
    return folder


def key_of(values: dict[str, Any]) -> str:
    """Return a name for values that can be written as JSON, the same for the same values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
