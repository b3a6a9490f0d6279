"""``rhm evaluate``: a row of scores for each run and domain."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rhm.cli.commands.evaluate import score_lines
from rhm.evaluation.scores import read_scores

Rhm = Callable[..., tuple[int, str, str]]


@pytest.fixture
def evaluated(rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path) -> str:
    """What is printed of the scores in ``tmp_path``."""
    asked = ["--domain", "alder_aerial", "--shift", "gamma", "--shift-seed", 3]
    code, printed, err = rhm("evaluate", trained, catalog_path, *asked, "-o", tmp_path)
    assert code == 0, err
    return printed


def test_what_is_printed_is_what_is_in_the_file(evaluated: str, tmp_path: Path) -> None:
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert evaluated.splitlines() == score_lines([read_scores(tmp_path)])
    names = [domain["name"] for domain in scores["domains"]]
    assert names == ["alder_aerial", "alder_aerial (gamma shift)"]
    assert scores["domains"][1]["shift"] == {"family": "gamma", "seed": 3}


def test_a_row_has_the_interval_around_its_value(evaluated: str) -> None:
    header, *rows = evaluated.splitlines()
    assert [row.split()[0] for row in rows] == ["tiny", "tiny"]
    column = header.split("  ")
    for row in rows:
        cells = row.split()
        iou, low, high = (cells[-8 + each] for each in range(3))
        if "-" not in (low, high):
            assert float(low) <= float(iou) <= float(high)
    assert {"run", "domain", "IoU"} <= {each.strip() for each in column}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--split", "best"], "train, val, test, all"),
        (["--shift", "sepia"], "affine, gamma, monotone, hsv"),
        (["--domain", "atlantis"], "atlantis"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path, words: list[str], told: str
) -> None:
    code, printed, err = rhm("evaluate", trained, catalog_path, "-o", tmp_path / "out", *words)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert told in err
    assert not (tmp_path / "out").exists()


def test_one_output_is_of_one_model(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path
) -> None:
    code, _, err = rhm("evaluate", trained, trained, catalog_path, "-o", tmp_path)
    assert (code, "--output" in err) == (2, True)
