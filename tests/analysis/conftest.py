"""Results of the papers' own programs."""

from pathlib import Path

import numpy as np
import pytest

from tests.analysis.samples import Array


@pytest.fixture(scope="module")
def recorded(shared_oracles: Path) -> dict[str, Array]:
    """What the papers' programs gave on a small network."""
    with np.load(shared_oracles / "collapse.npz") as file:
        return {name: file[name] for name in file.files}
