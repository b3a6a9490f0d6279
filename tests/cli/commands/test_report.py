"""``rhm report``: the page and its numbers, where they are asked for."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.report.conftest import MakeRun
from tests.report.conftest import make_run as make_run

Rhm = Callable[..., tuple[int, str, str]]


def test_evaluate_and_report(rhm: Rhm, catalog_path: Path, trained: Path, tmp_path: Path) -> None:
    words = ["evaluate", trained, catalog_path, "--domain", "alder_aerial", "--shift", "gamma"]
    code, printed, _ = rhm(*words)
    assert code == 0
    assert "alder_aerial (gamma shift)" in printed
    page = tmp_path / "report.html"
    code, printed, _ = rhm("report", trained, "-o", page, "--json")
    assert code == 0
    assert json.loads(printed) == {"page": str(page), "numbers": str(page.with_suffix(".json"))}
    assert "<html" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text())


def test_a_run_that_was_not_evaluated_is_one_line(rhm: Rhm, tmp_path: Path) -> None:
    code, printed, err = rhm("report", tmp_path, "-o", tmp_path / "report.html")
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert "rhm evaluate" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("page", "kept", "words"),
    [
        ("evaluation/scores.html", "evaluation/scores.json", []),
        ("cost.htm", "cost.json", []),
        ("environment.html", "environment.json", []),
        ("metrics.csv", "metrics.csv", ["--table", "csv"]),
        ("card.md", "card.md", ["--table", "markdown"]),
        ("logs/attempt_0/metrics.csv", "logs/attempt_0/metrics.csv", ["--table", "csv"]),
    ],
)
def test_no_file_of_a_run_is_replaced_even_if_asked(
    rhm: Rhm, make_run: MakeRun, page: str, kept: str, words: list[str]
) -> None:
    run = make_run("a", {"town": 0.5})
    file = run / kept
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    before, listed = file.read_bytes(), sorted(run.rglob("*"))
    code, printed, err = rhm("report", run, "-o", run / page, "--overwrite", *words)
    assert (code, printed) == (2, "")
    assert err == f"rhm: --output would overwrite {file}, which is still needed\n"
    assert (file.read_bytes(), sorted(run.rglob("*"))) == (before, listed)


def test_a_report_inside_a_run_is_replaced_by_the_next(rhm: Rhm, make_run: MakeRun) -> None:
    run = make_run("a", {"town": 0.5})
    for _ in range(2):
        assert rhm("report", run, "-o", run / "report.html")[0] == 0
        assert rhm("report", run, "-o", run / "table.md", "--table", "markdown")[0] == 0


def test_a_file_of_the_user_beside_a_page_is_kept(
    rhm: Rhm, make_run: MakeRun, tmp_path: Path
) -> None:
    run, page = make_run("a", {"town": 0.5}), tmp_path / "t.html"
    assert rhm("report", run, "-o", page)[0] == 0
    mine, before = page.with_suffix(".json"), page.read_bytes()
    mine.write_text('{"mine": 1}')
    code, printed, err = rhm("report", run, "-o", page)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert f"{mine} exists: choose another name, or replace it with --overwrite" in err
    assert (mine.read_text(), page.read_bytes()) == ('{"mine": 1}', before)
    assert rhm("report", run, "-o", page, "--overwrite")[0] == 0
    assert json.loads(mine.read_text())["headlines"]


def test_the_page_of_an_analysis_is_kept(rhm: Rhm, make_run: MakeRun, tmp_path: Path) -> None:
    run, page = make_run("a", {"town": 0.5}), tmp_path / "index.html"
    page.write_text('<!DOCTYPE html><head><meta name="generator" content="rhm analyze"></head>')
    before = page.read_bytes()
    code, printed, err = rhm("report", run, "-o", page)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert f"{page} exists: choose another name, or replace it with --overwrite" in err
    assert page.read_bytes() == before


def test_a_run_that_is_left_out_is_named(
    rhm: Rhm, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("a", {"town": 0.5})
    (tmp_path / "city").mkdir()
    monkeypatch.chdir(tmp_path / "city")
    code, _, err = rhm("report", run, ".", "-o", tmp_path / "report.html")
    assert (code, err) == (0, "left out: city, which `rhm evaluate` has not scored\n")
    mine = tmp_path / "city" / "mine.html"  # the folder is no run: its files are not those of one
    mine.write_text("mine")
    assert rhm("report", run, ".", "-o", mine, "--overwrite")[0] == 0
