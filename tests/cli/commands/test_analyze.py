"""``rhm analyze``: a page and tables for one model or several; one line for bad input."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from rhm.data.catalog import Catalog

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
        (["--stage", ""], "--stage needs the name of a layer"),
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


@pytest.mark.parametrize("name", ["index.html", "analysis.json", "stages.csv", "stages.parquet"])
def test_files_of_the_user_are_not_replaced(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path, name: str
) -> None:
    own = tmp_path / name
    own.write_text("mine")
    code, printed, err = rhm("analyze", trained, catalog_path, *SMALL, "-o", tmp_path)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert f"{own} exists: choose another name" in err
    code, _, err = rhm("analyze", trained, catalog_path, *SMALL, "-o", own)
    assert (code, "it is not a folder" in err) == (2, True)
    assert own.read_text() == "mine"


def test_few_cells_are_told_apart_from_impure_ones(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path
) -> None:
    few = ["--images", 2, "--window", 96, "--split", "all", "-o", tmp_path / "out"]
    code, _, err = rhm("analyze", trained, catalog_path, *few, "--cells", 1)
    assert (code, err.count("\n")) == (2, 1)
    assert "draw more cells of each image, or look at more images" in err
    assert "purity" not in err


def test_images_that_are_not_those_asked_for_are_told(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path
) -> None:
    frame = Catalog.load(catalog_path).select(domains=["alder_aerial", "birch_aerial"]).frame
    frame["split"] = ["test" if name == "alder_aerial" else "train" for name in frame["domain"]]
    Catalog(frame).save(tmp_path / "c.parquet")
    words = ["--images", 4, "--window", 96, "--stage", "encoder[1]", "-o", tmp_path / "out"]
    code, _, err = rhm("analyze", trained, tmp_path / "c.parquet", *words)
    assert code == 0, err
    assert "birch_aerial has no labelled image in split 'test', so all 6 are used" in err
    assert "may have been trained on images of alder_aerial in split 'test'" in err


def test_models_of_one_name_are_told_apart(rhm: Rhm, trained: Path, catalog_path: Path) -> None:
    code, _, err = rhm("analyze", trained, trained, catalog_path)
    assert code == 2
    assert "models of the same name" in err
