"""Fixtures that find the real imagery and the oracles, and skip with a reason without them."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def _shared_folder() -> Path:
    return (REPOSITORY / os.environ.get("RHM_DATA", "../shared/data")).resolve()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real labelled imagery."""
    folder = _shared_folder()
    if not folder.is_dir():
        pytest.skip(f"real imagery not found at {folder}; set RHM_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def shared_oracles() -> Path:
    """The folder of numbers computed with the papers' own programs."""
    folder = _shared_folder().parent / "oracles"
    if not folder.is_dir():
        pytest.skip(f"oracles not found at {folder}; set RHM_DATA to the folder beside them")
    return folder
