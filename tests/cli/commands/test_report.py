"""``rhm report``: the page and its numbers, where they are asked for."""

import json
from collections.abc import Callable
from pathlib import Path

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
