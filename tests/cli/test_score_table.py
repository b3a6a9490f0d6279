"""The table of a paper; oracles: the numbers of the runs, csv, and what LaTeX takes as text."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from rhm.cli.main import run
from rhm.cli.score_table import ScoreTable, as_csv, as_latex, as_markdown
from rhm.errors import ConfigError
from tests.report.conftest import MakeRun
from tests.report.conftest import make_run as make_run

NONE = {"my_town": (0.60, 0.62), "city|x": (0.10, 0.14)}
RHM = {"my_town": (0.58, 0.60), "city|x": (0.30, 0.26)}


@pytest.fixture
def runs(make_run: MakeRun) -> list[Path]:
    """Two seeds without and with matching, and one seed of a third method on one domain alone."""
    folders = [
        make_run(
            f"{method}-{seed}", {d: v[seed] for d, v in ious.items()}, method=method, seed=seed
        )
        for method, ious in (("none", NONE), ("rhm", RHM))
        for seed in (0, 1)
    ]
    return [*folders, make_run("fda & x", {"city|x": 0.2}, method="fda_100%", seed=0)]


def test_csv_has_every_number(runs: list[Path]) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(ScoreTable.of(runs)))))
    found = {(row["method"], row["tested_on"]): row for row in rows}
    assert len(found) == len(rows) == 5
    row = found["rhm", "city|x"]
    assert (row["seeds"], row["metric"]) == ("2", "iou")
    assert float(row["mean"]) == pytest.approx(0.28)
    assert float(row["sd"]) == pytest.approx(0.04 / 2**0.5)
    assert found["fda_100%", "city|x"]["sd"] == ""


def test_the_best_of_each_domain_is_bold(runs: list[Path]) -> None:
    text = as_markdown(ScoreTable.of(runs))
    lines = text.splitlines()
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert [line.count("**") for line in lines] == [0, 0, 2, 0, 2]
    assert "**0.280 \N{PLUS-MINUS SIGN} 0.028**" in text
    assert "**0.610 \N{PLUS-MINUS SIGN} 0.014**" in text
    assert sum(line.count("| - |") for line in lines) == 1


def test_latex_takes_names_as_text(runs: list[Path]) -> None:
    text = as_latex(ScoreTable.of(runs))
    assert r"fda\_100\%" in text
    assert r"my\_town" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in body} == {4}
    assert text.count(r"\textbf{") == 2


def test_a_score_that_should_be_low_is_best_if_it_is(runs: list[Path]) -> None:
    table = ScoreTable.of(runs)
    low = replace(table, metric="ece")
    methods = [group.label for group in table.groups]
    for column in range(2):
        (best,) = {row for row, each in table.best() if each == column}
        (lowest,) = {row for row, each in low.best() if each == column}
        assert {methods[best], methods[lowest]} == {"none", "rhm"}
    with pytest.raises(ConfigError, match="no metric 'kappa': choose iou"):
        ScoreTable.of(runs, "kappa")


def test_the_command_prints_or_writes_it(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", *map(str, runs)]
    assert run([*words, "--table", "latex"]) == 0
    assert capsys.readouterr().out == as_latex(ScoreTable.of(runs))
    file = tmp_path / "table.csv"
    assert run([*words, "--table", "csv", "--metric", "object_f1", "-o", str(file)]) == 0
    assert file.read_text() == as_csv(ScoreTable.of(runs, "object_f1"))
    assert not Path("report.html").exists()
    capsys.readouterr()
    for wrong in (["--table", "word"], ["--table", "csv", "--metric", "kappa"]):
        assert run([*words, *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_scores_at_thresholds_of_their_own_are_told_apart(runs: list[Path]) -> None:
    path = runs[-1] / "evaluation" / "scores.json"
    scores = json.loads(path.read_text())
    scores["domains"][0]["threshold"] = 0.3
    path.write_text(json.dumps(scores))
    table = ScoreTable.of(runs)
    rows = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert {row["method"]: row["threshold"] for row in rows} == {
        "none": "model",
        "rhm": "model",
        "fda_100%": "auto",
    }
    assert as_markdown(table).count("(auto)") == as_latex(table).count("(auto)") == 1
    assert "0.200 (auto)" in as_markdown(table)
