"""``rhm analyze``: a page and tables for one model or several; one line for bad input."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

Rhm = Callable[..., tuple[int, str, str]]
SMALL = ("--images", 4, "--window", 96, "--split", "all", "--stage", "encoder[1]")


def test_models_are_analysed_side_by_side(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path
) -> None:
    out, copied = tmp_path / "analysis", tmp_path / "copy.safetensors"
    shutil.copy(trained / "model.safetensors", copied)
    words = ["analyze", trained, copied, catalog_path, *SMALL]
    code, printed, err = rhm(*words, "--stage", "decoder", "-o", out, "--json")
    assert code == 0, err
    values = json.loads(printed)
    assert [each["model"] for each in values["models"]] == ["tiny", "copy"]
    assert values["models"][0]["stages"][0]["model"] == "tiny"
    assert Path(values["page"]) == out / "index.html"
    table = pd.read_parquet(out / "stages.parquet")
    assert len(table) == 2 * 2 * 4
    code, printed, _ = rhm(*words[:2], catalog_path, *SMALL, "-o", out)
    assert code == 0
    lines = printed.splitlines()
    assert lines[0].split()[:4] == ["model", "domain", "stage", "C_l"]
    assert len([line for line in lines if line.startswith("tiny")]) == 5
    assert lines[-1] == f"page: {out / 'index.html'}"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--stage", "nothing"], "the network has no layer 'nothing'"),
        (["--stage", "encoder[5]"], "pure cells of"),
        (["--split", "best"], "unknown split 'best'"),
        (["--window", "100"], "--window must be a multiple of 32"),
        (["--domain", "birch_aerial"], "nothing to compare with"),
        (["--purity", "0.2"], "0.51"),
        (["--ground", "3"], "--ground must be 1, 2, 4, 8, 16 or 32"),
        (["--boundary", "9999"], "64"),
    ],
)
def test_what_cannot_be_analysed_is_one_line(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path, words: list[str], told: str
) -> None:
    small = ["--images", 2, "--window", 64, "--split", "all", "-o", tmp_path / "out"]
    code, printed, err = rhm("analyze", trained, catalog_path, *small, *words)
    assert (code, printed) == (2, "")
    assert told in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_models_of_one_name_are_told_apart(rhm: Rhm, trained: Path, catalog_path: Path) -> None:
    code, _, err = rhm("analyze", trained, trained, catalog_path)
    assert code == 2
    assert "models of the same name" in err
