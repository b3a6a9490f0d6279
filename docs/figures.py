"""Make the figures of the website, from the examples and the experiments of the papers.

    python docs/figures.py

This command writes them to ``docs/figures``, which is not under version control, and beside them
the notebooks of ``examples/`` with their outputs. What exists already is kept. As many are made at
a time as there are processors. With ``--draft``, those that take long are so small that they show
only that they can be made; the next command without it makes everything anew.
"""

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
EXPERIMENTS = ("sphere", "linear-separation", "parsimony", "matrix-completion", "deep-lora")
NAMES = tuple(f"{name}.png" for name in (*(script.stem for script in EXAMPLES), *EXPERIMENTS))
"""Every figure that pages may show."""

NOTEBOOKS = tuple(path.name for path in sorted((ROOT / "examples").glob("*.ipynb")))
"""The notebooks, which are stored without outputs and run for the website."""

DRAFTS = {
    "sphere": ("--starts", "3"),
    "linear-separation": ("--seeds", "2", "--steps", "200"),
    "matrix-completion": ("--size", "60"),
    "deep-lora": ("--steps", "200"),
    "fill_under_clouds": ("32",),
}
"""Arguments of what can be made much sooner if nobody will look at it."""

ALONE = {"OMP_NUM_THREADS": "1"}
"""Environment in which a program keeps to one processor."""

_MOST_SECONDS = 900
_DRAFT = FIGURES / ".draft"


def main() -> None:
    """Make the figures and run the notebooks that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draft", action="store_true", help="make the experiments small")
    draft = parser.parse_args().draft
    if _DRAFT.exists() and not draft:
        shutil.rmtree(FIGURES)
    FIGURES.mkdir(exist_ok=True)
    # Those that take longest first.
    missing = [name for name in reversed(NAMES + NOTEBOOKS) if not (FIGURES / name).exists()]
    if draft and missing:
        _DRAFT.touch()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(partial(make, draft=draft), missing):
            pass


def make(name: str, *, draft: bool = False) -> None:
    """Make a figure or run a notebook; it appears when it is complete."""
    with TemporaryDirectory() as folder:
        made = Path(folder, name)
        smaller = DRAFTS.get(made.stem, ()) if draft else ()
        if name in NOTEBOOKS:
            run_notebook(made)
        elif made.stem in EXPERIMENTS:
            run(sys.executable, "-m", "rhm.cli.main", "lab", made.stem, "-o", folder, *smaller)
        else:
            run(sys.executable, str(ROOT / "examples" / f"{made.stem}.py"), str(made), *smaller)
        begun = FIGURES / f".{name}"
        shutil.copy(made, begun)
        begun.replace(FIGURES / name)


def run_notebook(made: Path) -> None:
    """Run a notebook on one processor; an error in a cell is an error here."""
    import nbformat
    from nbclient import NotebookClient

    print(f"examples/{made.name}", flush=True)
    notebook = nbformat.read(ROOT / "examples" / made.name, nbformat.NO_CONVERT)
    client = NotebookClient(
        notebook, timeout=_MOST_SECONDS, resources={"metadata": {"path": str(made.parent)}}
    )
    client.execute(env=os.environ | ALONE)
    nbformat.write(notebook, made)


def run(*words: str) -> None:
    """Print a command and run it on one processor."""
    print(*words[1:], flush=True)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=os.environ | ALONE)


if __name__ == "__main__":
    main()
