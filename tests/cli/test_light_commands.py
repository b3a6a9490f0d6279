"""Commands that need no network; law: PyTorch and SciPy, which load slowly, are never imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rhm import HistogramBank
from tests.data.imagery import write_raster

HEAVY = ("torch", "torchvision", "timm", "segmentation_models_pytorch", "lightning", "scipy")

COMMANDS = {
    "models": [],
    "models card": ["starter"],
    "configs": ["inria"],
    "bank build": ["a.tif", "-o", "new.bank"],
    "bank show": ["a.bank"],
    "data inspect": ["a.tif"],
}

NEEDED: dict[str, list[str]] = {"bank build": ["scipy"]}
"""Heavy libraries that a command computes with: the spectra of a bank are SciPy's."""

# Each command in a process of its own, forked from one that has imported the command line alone.
RUN_ALL = f"""
import io, json, os, sys
from contextlib import redirect_stdout
from rhm.cli.main import run
for name, words in json.loads(sys.argv[1]).items():
    if os.fork() == 0:
        with redirect_stdout(io.StringIO()):
            code = run([*name.split(), *words])
        print(json.dumps([name, code, [each for each in {HEAVY!r} if each in sys.modules]]))
        sys.stdout.flush()
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """Exit code and heavy modules of each command."""
    folder = tmp_path_factory.mktemp("light")
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    write_raster(folder / "a.tif", image)
    HistogramBank.from_images([image]).save(folder / "a.bank")
    printed = subprocess.run(
        [sys.executable, "-c", RUN_ALL, json.dumps(COMMANDS)],
        cwd=folder,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    return {name: rest for name, *rest in map(json.loads, printed.decode().splitlines())}


@pytest.mark.skipif(sys.platform == "win32", reason="processes cannot be forked")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_without_a_network_loads_none(
    imported: dict[str, list[object]], name: str
) -> None:
    assert imported[name] == [0, NEEDED.get(name, [])]


def test_characters_that_the_output_has_not_are_replaced(tmp_path: Path) -> None:
    image = np.zeros((8, 8, 1), np.uint8)
    HistogramBank.from_images([image], names=["Łódź/1"]).save(tmp_path / "a.bank")
    done = subprocess.run(
        [sys.executable, "-m", "rhm.cli.main", "bank", "show", "a.bank"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "?ód?" in done.stdout.decode("latin-1")
