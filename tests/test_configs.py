"""Every configuration in the repository is one."""

from pathlib import Path

import pytest

from rhm.training.config import read_config

CONFIGS = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.yaml"))


def test_there_are_configurations() -> None:
    assert {path.stem for path in CONFIGS} >= {"inria", "massachusetts", "spacenet"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_parses_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    config = read_config(path)
    copy = tmp_path / path.name
    copy.write_text(config.to_yaml())
    assert read_config(copy) == config
