"""The documentation's site: examples run, every page builds, every link leads somewhere."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SAID = {
    "predict_with_any_network": "14 footprints",
    "straight_walls": "corners before",
    "fill_under_clouds": "RMSE under the clouds",
}


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_runs_and_draws_its_figure(script: Path, tmp_path: Path) -> None:
    figure = tmp_path / "figure.png"
    done = subprocess.run(
        [sys.executable, str(script), str(figure)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg"},
    )
    assert done.returncode == 0, done.stderr
    assert SAID.get(script.stem, "") in done.stdout
    drawn = cv2.imread(str(figure))
    assert drawn is not None
    assert drawn.std() > 5


def test_the_site_builds_without_a_warning_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    pytest.importorskip("mkdocstrings", reason="the extra docs is not installed")
    figures = ROOT / "docs" / "figures"
    if not figures.is_dir():
        pytest.skip("the figures are not made: make site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for attribute in ('src="http', "src='http", 'rel="stylesheet" href="http', "@import"):
            assert attribute not in text, page
    assert "rhm view" in (tmp_path / "reference" / "cli.html").read_text(encoding="utf-8")
    python = (tmp_path / "reference" / "python.html").read_text(encoding="utf-8")
    assert "rhm.analysis.ClassMoments" in python
