"""What commands work on, and what they leave."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.commands.test_adapt import adapted as adapted
from tests.cli.conftest import trained as trained
from tests.faults.commands import Place
from tests.forked import rhm
from tests.stored import made_once


@pytest.fixture(scope="session")
def evaluated(trained: Path, catalog_path: Path, shared: Path) -> Path:
    """A copy of the trained run with scores."""
    folder = shared / "evaluated"

    def evaluate() -> None:
        shutil.copytree(trained, folder)
        ended = rhm("evaluate", folder, catalog_path)
        assert ended.code == 0, ended

    return made_once(folder, evaluate)


@pytest.fixture
def place(
    world: Path,
    catalog_path: Path,
    bank_path: Path,
    trained: Path,
    adapted: Path,
    evaluated: Path,
    tmp_path: Path,
) -> Callable[[str], Place]:
    """Makes places with everything that a command needs, and an empty folder to write to."""

    def make(name: str) -> Place:
        folder = tmp_path / name
        shutil.copytree(evaluated, folder / "run")
        (folder / "out").mkdir()
        return Place(folder, world, catalog_path, bank_path, adapted)

    return make
