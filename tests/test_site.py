"""The documentation's site: examples run, every page builds, every link leads somewhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import cv2
import numpy as np
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


def copy_of_the_sources(folder: Path) -> Path:
    """Copy what the site is made from, with blank figures: drawing them takes minutes."""
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("figures"))
    for name in ("rhm", "examples"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("mkdocs.yml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, folder)
    (folder / "docs" / "figures").mkdir()
    for name in run_path(str(ROOT / "docs" / "figures.py"))["NAMES"]:
        cv2.imwrite(str(folder / "docs" / "figures" / name), np.zeros((8, 8), np.uint8))
    return folder


def test_the_site_builds_without_a_warning_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    pytest.importorskip("mkdocstrings", reason="the extra docs is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=copy_of_the_sources(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for attribute in ('src="http', "src='http", 'rel="stylesheet" href="http', "@import"):
            assert attribute not in text, page
    assert "rhm view" in (site / "reference" / "cli.html").read_text(encoding="utf-8")
    python = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert "rhm.analysis.ClassMoments" in python
