"""Make the figures of the website, from the examples and the experiments of the papers.

    python docs/figures.py

This command writes them to ``docs/figures``, which is not under version control. Figures that exist
already are kept.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
EXPERIMENTS = ("sphere", "linear-separation", "parsimony", "matrix-completion")
NAMES = tuple(f"{name}.png" for name in (*(script.stem for script in EXAMPLES), *EXPERIMENTS))
"""Every figure that pages may show."""


def main() -> None:
    """Make the figures that are missing."""
    FIGURES.mkdir(exist_ok=True)
    for script in EXAMPLES:
        figure = FIGURES / f"{script.stem}.png"
        if not figure.exists():
            run(sys.executable, str(script), str(figure))
    for name in EXPERIMENTS:
        figure = FIGURES / f"{name}.png"
        if not figure.exists():
            with TemporaryDirectory() as folder:
                run(sys.executable, "-m", "rhm.cli.main", "lab", name, "-o", folder)
                shutil.copy(Path(folder, f"{name}.png"), figure)


def run(*words: str) -> None:
    """Print a command and run it."""
    print(*words[1:], flush=True)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
