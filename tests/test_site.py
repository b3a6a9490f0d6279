"""The documentation's site: examples run, every page builds, every link leads somewhere."""

import runpy
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
SAID = {
    "predict_with_any_network": "14 footprints",
    "straight_walls": "corners before",
    "fill_under_clouds": "completed: RMSE under the clouds",
}
FIGURES = runpy.run_path(str(ROOT / "docs" / "figures.py"))
SMALLER = FIGURES["DRAFTS"]


# As for whoever runs one: a warning does not end it.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_runs_and_draws_its_figure(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    figure = tmp_path / "figure.png"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), str(figure), *SMALLER.get(script.stem, ())])
    plt.switch_backend("Agg")
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        plt.close("all")
    assert SAID.get(script.stem, "") in capsys.readouterr().out
    drawn = cv2.imread(str(figure))
    assert drawn is not None
    assert drawn.std() > 5


def test_every_draft_is_one_of_a_figure() -> None:
    assert {f"{name}.png" for name in SMALLER} <= set(FIGURES["NAMES"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_what_running_it_adds(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the extra docs is not installed")
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert notebook.cells[0].source.startswith("# ")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


def docs_with_figures(folder: Path) -> Path:
    """Copy the pages; a figure that was not drawn yet is a blank one."""
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("figures"))
    (folder / "figures").mkdir()
    for name in FIGURES["NAMES"]:
        cv2.imwrite(str(folder / "figures" / name), np.full((8, 8), 255, np.uint8))
    return folder


@pytest.mark.filterwarnings("default")
def test_the_site_builds_without_a_warning_and_asks_nothing_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    pytest.importorskip("mkdocstrings", reason="the extra docs is not installed")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    site = tmp_path / "site"
    config = load_config(
        str(ROOT / "mkdocs.yml"),
        docs_dir=str(docs_with_figures(tmp_path / "docs")),
        site_dir=str(site),
        strict=True,
    )
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for attribute in ('src="http', "src='http", 'rel="stylesheet" href="http', "@import"):
            assert attribute not in text, page
    assert "rhm view" in (site / "reference" / "cli.html").read_text(encoding="utf-8")
    for notebook in NOTEBOOKS:
        shown = (site / "notebooks" / f"{notebook.stem}.html").read_text(encoding="utf-8")
        assert f"examples/{notebook.name}" in shown
        assert "mkdtemp" in shown
    python = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert "rhm.analysis.ClassMoments" in python
