"""``rhm data index``: its options, help and errors are those that the layouts declare."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rhm.data.layouts.registry import LAYOUTS
from tests.data.imagery import write_raster

Rhm = Callable[..., tuple[int, str, str]]


def test_help_lists_the_layouts_and_whose_the_options_are(rhm: Rhm) -> None:
    code, printed, _ = rhm("data", "index", "--help")
    assert code == 0
    words = " ".join(printed.replace("│", " ").split())
    for name, layout in LAYOUTS.items():
        assert f"{name}: {layout.summary}" in words
        for option in layout.options.values():
            assert option.flag in words
            assert option.help.split()[0] in words
    assert words.count("(folder)") == len(LAYOUTS["folder"].options)


def test_an_unknown_layout_is_named_with_those_that_are_known(rhm: Rhm, tmp_path: Path) -> None:
    code, _, err = rhm("data", "index", "nonsense", tmp_path)
    assert code == 2
    assert f"unknown layout 'nonsense': choose {', '.join(LAYOUTS)}" in err


@pytest.mark.parametrize(
    ("layout", "words", "message"),
    [
        ("inria", ["--table", "a.csv"], "--table applies only to folder"),
        ("spacenet", ["--gsd", "0.3"], "--gsd applies only to folder"),
        ("folder", ["--product", "PS-RGB"], "--product applies only to spacenet"),
    ],
)
def test_an_option_of_another_layout_is_refused(
    rhm: Rhm, tmp_path: Path, layout: str, words: list[str], message: str
) -> None:
    code, _, err = rhm("data", "index", layout, tmp_path, *words)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_options_may_stand_anywhere_and_reach_the_finder(rhm: Rhm, tmp_path: Path) -> None:
    folder, out = tmp_path / "MUL-PanSharpen", tmp_path / "catalog.parquet"
    folder.mkdir()
    for product in ("MUL-PanSharpen", "RGB-PanSharpen"):
        name = f"{product}_AOI_2_Vegas_img1.tif"
        write_raster(folder / name, np.full((16, 16, 3), 90, np.uint8))
    words = ["-o", out, "--product", "MUL-PanSharpen", "spacenet", "--black-is-nodata"]
    code, printed, err = rhm("data", "index", *words, tmp_path, "--json", "--val", 0, "--test", 0)
    assert (code, err) == (0, "")
    (domain,) = json.loads(printed)["domains"]
    assert (domain["domain"], domain["images"], domain["train"]) == ("AOI_2_Vegas", 1, 1)


def test_no_other_help_loads_the_layouts() -> None:
    code = (
        "import sys, rhm.cli.main as m\n"
        "for words in (['--help'], ['data', 'inspect', '--help']):\n"
        "    m.run(words)\n"
        "assert 'rhm.data.catalog' not in sys.modules\n"
        "m.run(['data', 'index', '--help'])\n"
        "assert 'rhm.data.catalog' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
