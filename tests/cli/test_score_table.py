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
from rhm.report.cross_domain import METRICS
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


HIGH = (0.25, 0.75)
LOW = (0.75, 0.25)
BETTER = dict.fromkeys(METRICS, HIGH) | {
    "ece": LOW,
    "polis_m": LOW,
    "tangent_error_deg": LOW,
    "vertex_ratio": (24.266, 0.75),
}
"""Of each score, a value and a better one."""


@pytest.mark.parametrize("metric", METRICS)
def test_every_score_has_its_direction(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, metric: str
) -> None:
    worse, better = BETTER[metric]
    folders = [
        make_run(name, {"city": iou}, method=name) for name, iou in (("a", worse), ("b", better))
    ]
    # The directions are those of the scores, wherever these are read.
    monkeypatch.setitem(METRICS, metric, lambda domain: domain.pixel.iou)
    assert ScoreTable.of(folders, metric).best() == {(1, 0)}


def test_a_ratio_is_best_close_to_one(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "vertex_ratio", lambda domain: domain.pixel.iou)
    ratios = {"a": 2.431, "b": 0.91, "c": 1.09, "d": 24.266, "e": 0.0}
    folders = [make_run(name, {"city": ratio}, method=name) for name, ratio in ratios.items()]
    assert ScoreTable.of(folders, "vertex_ratio").best() == {(1, 0), (2, 0)}


def test_all_that_look_best_are_bold_among_the_same_sources(make_run: MakeRun) -> None:
    ious = {"a": 0.3001, "b": 0.2999, "c": 0.299}
    folders = [make_run(name, {"city": iou}, method=name) for name, iou in ious.items()]
    folders += [
        make_run(f"port-{name}", {"city": iou / 2}, method=name, sources=("port",))
        for name, iou in ious.items()
    ]
    lines = as_markdown(ScoreTable.of(folders)).splitlines()[2:]
    assert [line.count("**0.") for line in lines] == [1, 1, 0, 1, 1, 0]


def test_names_are_text_in_markdown_and_spreadsheets(make_run: MakeRun) -> None:
    name = "<script>a&b|*c*</script>[d](e)_f_g_"
    runs = [
        make_run("a", {name: 0.5}, method="=1+1"),
        make_run("b", {name: 0.4}, method="[x]*", sources=("@town",)),
    ]
    table = ScoreTable.of(runs)
    markdown = as_markdown(table)
    assert "&lt;script&gt;a&amp;b\\|\\*c\\*&lt;/script&gt;\\[d\\](e)\\_f_g\\_" in markdown
    assert "<" not in markdown
    rows = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert [row["trained_on"] for row in rows] == ["'@town", "town"]
    assert [row["method"] for row in rows] == ["[x]*", "'=1+1"]
    assert {row["tested_on"] for row in rows} == {name}
    latex = as_latex(table)
    assert r"{[}x{]}{*}" in latex
    assert r"\textless{}script\textgreater{}a\&b\textbar{}{*}c{*}" in latex
    assert not any(line.startswith(("[", "*")) for line in latex.splitlines())


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
    for wrong, told in (
        (["--table", "word"], "unknown --table 'word': choose latex, markdown, csv"),
        (["--table", "csv", "--metric", "kappa"], "no metric 'kappa'"),
        (["--table", "csv", "--metric", ""], "no metric ''"),
        (["--metric", "kappa"], "add --table"),
        (["--metric", "f1"], "add --table"),
    ):
        assert run([*words, *wrong]) == 2
        err = capsys.readouterr().err
        assert (told in err, err.count("\n")) == (True, 1)
    assert not Path("report.html").exists()


def test_unequal_conditions_are_told_beside_a_table(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [make_run("a", {"town": 0.6}), make_run("b", {"town": 0.5}, seed=1, views=True)]
    assert run(["report", *map(str, runs), "--table", "markdown"]) == 0
    printed, err = capsys.readouterr()
    assert printed == as_markdown(ScoreTable.of(runs))
    assert err.startswith("On town, the predictions of some runs are averages over rotated")
    assert err.count("\n") == 1


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


def test_a_mean_that_lacks_a_seed_says_so_and_is_not_the_best(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """The missing seed may be the worst: over the seeds of both, the lead is a tenth of this."""
    city = {"none": (0.60, 0.61, 0.20), "rhm": (0.60, 0.62, None)}
    runs = [
        make_run(
            f"{method}-{seed}",
            {"town": 0.5} if iou is None else {"town": 0.5, "city": iou},
            method=method,
            seed=seed,
        )
        for method, ious in city.items()
        for seed, iou in enumerate(ious)
    ]
    text = as_markdown(ScoreTable.of(runs))
    assert "| 0.610 \N{PLUS-MINUS SIGN} 0.014 (2 of 3) |" in text
    assert "**0.470" not in text  # of one method, nothing is the best
    assert run(["report", *map(str, runs), "--table", "markdown"]) == 0
    assert "not all runs have a score on city" in capsys.readouterr().err
    rows = list(csv.DictReader(io.StringIO(as_csv(ScoreTable.of(runs)))))
    found = {(row["method"], row["tested_on"]): row["seeds"] for row in rows}
    assert (found["none", "city"], found["rhm", "city"]) == ("3", "2")
