"""``rhm evaluate``: a row of scores for each run and domain."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rhm.cli.commands.evaluate import score_lines
from rhm.data.catalog import Catalog
from rhm.data.radiometry import Scaling
from rhm.evaluation.score_files import read_scores
from rhm.models.model_file import load_model, save_model

Rhm = Callable[..., tuple[int, str, str]]


@pytest.fixture
def evaluated(rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path) -> str:
    """What is printed of the scores in ``tmp_path``."""
    asked = ["--domain", "alder_aerial", "--shift", "gamma", "--shift-seed", 3]
    code, printed, err = rhm("evaluate", trained, catalog_path, *asked, "-o", tmp_path)
    assert code == 0, err
    return printed


def test_what_is_printed_is_what_is_in_the_file(evaluated: str, tmp_path: Path) -> None:
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert evaluated.splitlines() == score_lines([read_scores(tmp_path)])
    names = [domain["name"] for domain in scores["domains"]]
    assert names == ["alder_aerial", "alder_aerial (gamma shift)"]
    assert scores["domains"][1]["shift"] == {"family": "gamma", "seed": 3}


def test_a_row_has_the_interval_around_its_value(evaluated: str) -> None:
    header, *rows = evaluated.splitlines()
    assert [row.split()[0] for row in rows] == ["tiny", "tiny"]
    columns = re.split(r"\s{2,}", header)
    assert {"run", "domain", "IoU"} <= set(columns)
    first = columns.index("IoU")
    for row in rows:
        iou, low, high = re.split(r"\s{2,}", row)[first : first + 3]
        if "-" not in (iou, low, high):
            assert float(low) <= float(iou) <= float(high)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--split", "best"], "train, val, test, all"),
        (["--shift", "sepia"], "affine, gamma, monotone, hsv"),
        (["--domain", "atlantis"], "atlantis"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path, words: list[str], told: str
) -> None:
    code, printed, err = rhm("evaluate", trained, catalog_path, "-o", tmp_path / "out", *words)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert told in err
    assert not (tmp_path / "out").exists()


def test_an_output_of_several_models_has_a_folder_for_each(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path
) -> None:
    words = [catalog_path, "--domain", "alder_aerial", "-o", tmp_path / "out"]
    code, _, err = rhm("evaluate", trained, trained, *words)
    assert (code, "two have the same" in err) == (2, True)
    other = tmp_path / "other"
    save_model(load_model(trained), other / "model.safetensors")
    code, _, err = rhm("evaluate", trained, other, *words)
    assert code == 0, err
    for name in (trained.name, "other"):
        (domain,) = read_scores(tmp_path / "out" / name / "evaluation").domains
        assert domain.name == "alder_aerial"
    code, printed, err = rhm("report", tmp_path / "out" / "other", tmp_path, "--table", "csv")
    assert code == 0, err
    assert "alder_aerial" in printed
    assert f"left out: {tmp_path.name}, which" in err


def test_evaluations_add_up_and_say_so(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path
) -> None:
    words = ["evaluate", trained, catalog_path, "-o", tmp_path, "--domain"]
    code, _, err = rhm(*words, "alder_aerial")
    assert (code, err) == (0, "")
    code, printed, err = rhm(*words, "birch_aerial")
    assert (code, err) == (0, f"{tmp_path}: the earlier scores of alder_aerial are kept besides\n")
    assert "alder_aerial" not in printed
    assert [domain.name for domain in read_scores(tmp_path).domains] == [
        "alder_aerial",
        "birch_aerial",
    ]


def test_scores_at_another_threshold_are_replaced_only_if_asked(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path
) -> None:
    words = ["evaluate", trained, catalog_path, "-o", tmp_path, "--domain", "alder_aerial"]
    assert rhm(*words)[0] == 0
    before = (tmp_path / "scores.json").read_bytes()
    code, printed, err = rhm(*words, "--threshold", "auto")
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert "other scores of alder_aerial (split test, threshold 0.5)" in err
    assert (tmp_path / "scores.json").read_bytes() == before
    assert rhm(*words, "--threshold", "auto", "--overwrite")[0] == 0
    assert read_scores(tmp_path).domains[0].threshold is not None


def test_scores_of_another_model_are_replaced_only_if_asked(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path
) -> None:
    words = [catalog_path, "-o", tmp_path / "out", "--domain", "alder_aerial"]
    assert rhm("evaluate", trained, *words)[0] == 0
    model = load_model(trained)
    with torch.no_grad():
        next(model.parameters()).add_(0.01)
    save_model(model, tmp_path / "other" / "model.safetensors")
    code, _, err = rhm("evaluate", tmp_path / "other", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert "scores of another model" in err
    code, _, err = rhm("evaluate", tmp_path / "other", *words, "--overwrite")
    assert (code, "are replaced" in err) == (0, True)


def test_a_shift_that_reaches_no_training_domain_is_an_error(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path
) -> None:
    words = ["evaluate", trained, catalog_path, "-o", tmp_path / "out", "--shift", "gamma"]
    code, printed, err = rhm(*words, "--domain", "birch_aerial")
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert "no labelled image of alder_aerial is scored" in err
    assert not (tmp_path / "out").exists()


def test_imagery_of_another_type_is_told_once(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path
) -> None:
    model = load_model(trained)
    satellite = Scaling("uint16", (0.0,) * 3, (2000.0,) * 3)
    model.spec = replace(model.spec, scalings={"uint16": satellite})
    save_model(model, tmp_path / "satellite" / "model.safetensors")
    words = ["--domain", "alder_aerial", "--domain", "birch_aerial"]
    code, _, err = rhm("evaluate", tmp_path / "satellite", catalog_path, *words)
    assert code == 0
    assert err.startswith("satellite: the model was trained on uint16 imagery, and this is uint8")
    assert err.count("\n") == 1


def test_several_catalogs_are_scored_one_after_the_other(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path
) -> None:
    listed = Catalog.load(catalog_path)
    files = []
    for domain in ("alder_aerial", "birch_satellite"):
        files.append(tmp_path / f"{domain}.parquet")
        listed.select(domains=[domain]).save(files[-1])
    out = tmp_path / "out"
    code, printed, err = rhm("evaluate", trained, *files, "-o", out)
    assert code == 0, err
    rows = printed.splitlines()[1:]
    assert [row.split()[1] for row in rows] == ["alder_aerial", "birch_satellite"]
    scores = read_scores(out)
    assert {domain.name: Path(str(domain.catalog)).name for domain in scores.domains} == {
        "alder_aerial": "alder_aerial.parquet",
        "birch_satellite": "birch_satellite.parquet",
    }
    # A domain of one of them alone.
    code, printed, err = rhm("evaluate", trained, *files, "--domain", "birch_satellite", "-o", out)
    assert code == 0, err
    assert [row.split()[1] for row in printed.splitlines()[1:]] == ["birch_satellite"]
    code, _, err = rhm("evaluate", trained, *files, "--domain", "atlantis", "-o", out)
    assert (code, "atlantis" in err) == (2, True)
    for words in (files, [trained, tmp_path / "no.parquet", catalog_path]):
        assert rhm("evaluate", *words)[0] == 2


def test_a_domain_without_metres_says_so(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path
) -> None:
    known = Catalog.load(catalog_path).select(domains=["alder_aerial"])
    Catalog(known.frame.assign(gsd_m=math.nan)).save(tmp_path / "unknown.parquet")
    code, _, err = rhm("evaluate", trained, tmp_path / "unknown.parquet", "-o", tmp_path / "out")
    assert code == 0
    assert "the ground sampling distance in alder_aerial is unknown: a pixel counts" in err
    (domain,) = read_scores(tmp_path / "out").domains
    assert (domain.gsd_m, domain.unknown_gsd) == (None, domain.images)
    assert domain.outline is not None
    assert domain.outline.polis_m.value is None
