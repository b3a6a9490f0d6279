"""Make the figures of the website, from the examples and the experiments of the papers.

    python docs/figures.py

This command writes them to ``docs/figures``, which is not under version control. Figures that exist
already are kept. As many are made at a time as there are processors.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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
    missing = [name for name in reversed(NAMES) if not (FIGURES / name).exists()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(make, missing):
            pass


def make(name: str) -> None:
    """Make a figure; it appears when it is complete."""
    with TemporaryDirectory() as folder:
        made = Path(folder, name)
        if made.stem in EXPERIMENTS:
            run(sys.executable, "-m", "rhm.cli.main", "lab", made.stem, "-o", folder)
        else:
            run(sys.executable, str(ROOT / "examples" / f"{made.stem}.py"), str(made))
        partial = FIGURES / f".{name}"
        shutil.copy(made, partial)
        partial.replace(FIGURES / name)


def run(*words: str) -> None:
    """Print a command and run it on one processor."""
    print(*words[1:], flush=True)
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=alone)


if __name__ == "__main__":
    main()
