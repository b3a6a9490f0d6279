"""Configurations by name; law: each can be read, says what it is for, and gives way to a file."""

from pathlib import Path

import pytest

from rhm.errors import ConfigError
from rhm.training.config import read_config
from rhm.training.configs.named_configs import config_file, named_configs, purpose_of


@pytest.mark.parametrize("name", named_configs())
def test_each_can_be_read_and_says_what_it_is_for(name: str) -> None:
    config = read_config(name, data__catalog="mine.parquet")
    assert config.data.catalog == "mine.parquet"
    assert purpose_of(named_configs()[name]).endswith(".")


def test_a_file_takes_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config_file("inria") == named_configs()["inria"]
    Path("inria").touch()
    assert config_file("inria") == Path("inria")


def test_a_folder_hides_no_name_and_is_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("inria", "mine"):
        Path(name).mkdir()
    assert config_file("inria") == named_configs()["inria"]
    assert read_config("inria") == read_config(named_configs()["inria"])
    for name in ("mine", "", ".", str(tmp_path)):
        with pytest.raises(ConfigError, match=r"is a folder: give a file, or one of the names"):
            config_file(name)
    for name in ("x" * 5000, "\0", "a\nb"):
        with pytest.raises(ConfigError, match=r"^no configuration at .*: give a file, or one of"):
            config_file(name)


@pytest.mark.parametrize("name", ["inriA", "../inria", "inria.yaml", ""])
def test_other_names_are_refused_with_those_that_exist(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"one of the names inria, massachusetts"):
        config_file(name or "none")
