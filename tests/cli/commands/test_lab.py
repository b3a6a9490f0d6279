"""The papers' experiments from the command line: numbers, a table and a picture each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Rhm = Callable[..., tuple[int, str, str]]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("words", "rows", "number"),
    [
        (["sphere", "--starts", 2], 5, lambda values: values["settings"][0]["etf_distance"] < 1e-3),
        (
            ["parsimony", "--width", 12, "--rank", 2, "--depth", 4],
            4,
            lambda values: max(each["largest_angle"] for each in values["layers"]) < 1e-5,
        ),
        (
            ["linear-separation", "--depth", 4, "--steps", 20, "--seeds", 2],
            8,
            lambda values: min(values["networks"][0]["compression_r_squared"]) > 0.99,
        ),
        (
            ["matrix-completion", "--size", 24, "--rank", 1, "--known", 0.5, "--steps", 1000],
            13,
            lambda values: values["runs"][5]["train_loss"] < 1e-3,
        ),
        (
            ["deep-lora", "--width", 12, "--rank", 2, "--steps", 40],
            6,
            lambda values: values["errors"][0]["wide"] < 1.0,
        ),
    ],
    ids=["sphere", "parsimony", "linear-separation", "matrix-completion", "deep-lora"],
)
def test_an_experiment_prints_writes_and_draws(
    rhm: Rhm, tmp_path: Path, words: list[Any], rows: int, number: Callable[[Any], bool]
) -> None:
    name = words[0]
    code, printed, err = rhm("lab", *words, "-o", tmp_path, "--seed", 1)
    assert code == 0, err
    lines = printed.splitlines()
    assert lines[-1] == f"figure: {tmp_path / name}.png"
    values = json.loads((tmp_path / f"{name}.json").read_text())
    assert values["seed"] == 1
    assert number(values)
    assert rows + 2 <= len(lines) <= rows + 5
    assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["parsimony", "--width", 6, "--rank", 3], "rank"),
        (["parsimony", "--width", 7, "--rank", 3], "leaves no middle"),
        (["sphere", "--seed", 10**20], "4294967295"),
        (["matrix-completion", "--size", 10, "--rank", 5], "too small"),
        (["deep-lora", "--width", 8, "--rank", 3], "quarter of the width"),
        (["matrix-completion", "--known", 0], "0.01"),
        (["linear-separation", "--depth", 2], "3"),
        (["sphere", "--starts", 0], "1"),
        (["sphere", "--starts", 10**9], "10000"),
        (["parsimony", "--width", 10**6], "1000"),
        (["parsimony", "--width", 1000], "numbers to record"),
        (["parsimony", "--depth", 10**6], "1000"),
        (["matrix-completion", "--size", 10**6], "3000"),
        (["linear-separation", "--depth", 10**6], "200"),
        (["deep-lora", "--width", 10**6], "512"),
    ],
)
def test_impossible_experiments_are_one_line(
    rhm: Rhm, tmp_path: Path, words: list[Any], told: str
) -> None:
    code, printed, err = rhm("lab", *words, "-o", tmp_path / "out")
    assert (code, printed) == (2, "")
    assert told in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["shift", "sphere", "deep-lora"])
def test_files_of_the_user_are_not_replaced(rhm: Rhm, tmp_path: Path, name: str) -> None:
    own = tmp_path / f"{name}.json"
    own.write_text("mine")
    code, printed, err = rhm("lab", name, "-o", tmp_path)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert f"{own} exists: choose another name" in err
    assert [*tmp_path.iterdir()] == [own]
    assert own.read_text() == "mine"


def test_a_group_without_a_command_shows_its_help_only(rhm: Rhm) -> None:
    code, printed, err = rhm("lab")
    assert code == 2
    assert "matrix-completion" in printed
    assert err == ""


def test_what_did_not_happen_is_said(rhm: Rhm, tmp_path: Path) -> None:
    words = ["parsimony", "--width", 12, "--rank", 2, "--depth", 6, "-o", tmp_path]
    assert "the network learned almost nothing" in rhm("lab", *words)[1]
    short = ["--steps", 100, "-o", tmp_path]
    words = ["matrix-completion", "--size", 40, "--rank", 5, "--known", 0.1, *short]
    code, printed, _ = rhm("lab", *words)
    assert code == 0
    assert "nothing can complete it" in printed
    words = ["matrix-completion", "--size", 16, "--rank", 1, "--known", 1.0, *short]
    assert rhm("lab", *words, "--json")[0] == 0
    runs = json.loads((tmp_path / "matrix-completion.json").read_text())["runs"]
    assert {each["test_loss"] for each in runs} == {None}
    assert all(each["converged"] == (each["train_loss"] < 1e-9) for each in runs)
