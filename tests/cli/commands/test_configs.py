"""``rhm configs``: what it lists is what `rhm train` takes, and what it prints is a file."""

import json
from collections.abc import Callable
from pathlib import Path

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
