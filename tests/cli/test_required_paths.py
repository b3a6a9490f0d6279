"""Paths that must exist; law: a misspelt one is refused before any import that takes time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rhm.augmentation.colours import SOURCES_BANK
from rhm.cli import options

HEAVY = (
    "torch",
    "timm",
    "lightning",
    "geopandas",
    "rasterio",
    "cv2",
    "scipy",
    "matplotlib",
    "numpy",
)

COMMANDS = {
    "adapt": (["nothing", "catalog.parquet", "--domain", "x"], "no model at nothing"),
    "analyze": (["nothing", "catalog.parquet", "-o", "out"], "no model at nothing"),
    "bank build": (["nothing.tif", "-o", "out.bank"], "no such file or folder: nothing.tif"),
    "bank show": (["nothing.bank"], "no histogram bank at nothing.bank"),
    "data merge": (["nothing.parquet", "-o", "out.parquet"], "no catalog at nothing.parquet"),
    "data inspect": (["here", "nothing.tif"], "no such file or folder: nothing.tif"),
    "evaluate": (["here", "nothing.parquet"], "no catalog at nothing.parquet"),
    "export": (["nothing", "-o", "out.onnx"], "no model at nothing"),
    "merge": (["nothing", "adapter", "-o", "out"], "no model at nothing"),
    "models export": (["nothing", "-o", "out"], "no model at nothing"),
    "predict": (["here", "nothing.tif", "-o", "out"], "no such file or folder: nothing.tif"),
    "report": (["nothing"], "nothing is not a run folder"),
    "train": (["nothing.yaml"], "no configuration at nothing.yaml"),
    "view": (["nothing"], "nothing is not a folder"),
}

# Each command in a process of its own, forked from one that has imported the command line alone.
RUN_ALL = f"""
import io, json, os, sys
from contextlib import redirect_stderr
from rhm.cli.main import run
for name, words in json.loads(sys.argv[1]).items():
    if os.fork() == 0:
        with redirect_stderr(io.StringIO()) as told:
            code = run([*name.split(), *words])
        imported = [each for each in {HEAVY!r} if each in sys.modules]
        print(json.dumps([name, code, told.getvalue(), imported]), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """Exit code, message and heavy modules of each command with a path that does not exist."""
    folder = tmp_path_factory.mktemp("required")
    (folder / "here").touch()
    words = json.dumps({name: words for name, (words, _) in COMMANDS.items()})
    printed = subprocess.run(
        [sys.executable, "-c", RUN_ALL, words], cwd=folder, check=True, capture_output=True
    ).stdout
    lines = map(json.loads, printed.decode().splitlines())
    return {name: rest for name, *rest in lines}


@pytest.mark.skipif(sys.platform == "win32", reason="processes cannot be forked")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_misspelt_path_is_refused_at_once(refused: dict[str, list[object]], name: str) -> None:
    code, told, imported = refused[name]
    assert code == 2
    assert str(told).startswith(f"rhm: {COMMANDS[name][1]}")
    assert str(told).count("\n") == 1
    assert imported == []


def test_the_sources_are_a_bank_without_a_file() -> None:
    assert options.SOURCES_BANK == SOURCES_BANK
    options.required(options._require_target_bank)(Path(SOURCES_BANK))
