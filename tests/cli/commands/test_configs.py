"""``rhm configs``: what it lists is what `rhm train` takes, and what it prints is a file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rhm.training.config import read_config
from rhm.training.configs.named_configs import named_configs

Rhm = Callable[..., tuple[int, str, str]]


def test_every_configuration_is_listed(rhm: Rhm) -> None:
    code, printed, _ = rhm("configs")
    assert code == 0
    assert [line.split()[0] for line in printed.splitlines()] == list(named_configs())
    listed = json.loads(rhm("configs", "--json")[1])["configs"]
    assert [each["name"] for each in listed] == list(named_configs())


def test_a_printed_configuration_is_one(rhm: Rhm, tmp_path: Path) -> None:
    code, printed, _ = rhm("configs", "spacenet")
    assert code == 0
    copy = tmp_path / "mine.yaml"
    copy.write_text(printed)
    assert read_config(copy) == read_config("spacenet")
    code, printed, told = rhm("configs", "nothing")
    assert (code, printed, told.count("\n")) == (2, "", 1)


def test_a_configuration_is_printed_with_all_settings(rhm: Rhm, tmp_path: Path) -> None:
    code, printed, _ = rhm("configs", "inria", "--all")
    assert code == 0
    copy = tmp_path / "mine.yaml"
    copy.write_text(printed)
    assert read_config(copy) == read_config("inria")
    assert "  # Number of optimiser steps.\n  steps: 20000\n" in printed
    values = json.loads(rhm("configs", "inria", "--all", "--json")[1])
    assert (values["name"], values["text"]) == ("inria", printed)
    copy.write_text("name: a\n")
    for words, told in (([], "give its name"), ([copy], "data: missing")):
        code, printed, err = rhm("configs", *words, "--all")
        assert (code, printed, err.count("\n")) == (2, "", 1)
        assert told in err


def test_a_folder_of_the_name_of_a_configuration_is_passed_over(
    rhm: Rhm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rhm("configs", "inria")
    monkeypatch.chdir(tmp_path)
    Path("inria").mkdir()
    assert rhm("configs", "inria") == expected
    assert expected[0] == 0


def test_what_is_no_text_is_refused_in_one_line(rhm: Rhm, tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\0")
    for name in ("", tmp_path, binary, "x" * 5000, "a\nb"):
        code, printed, told = rhm("configs", name)
        assert (code, printed, told.count("\n")) == (2, "", 1)
        assert "configuration" in told or "is a folder" in told
