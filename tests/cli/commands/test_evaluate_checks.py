"""``rhm evaluate`` before it scores: what does not fit is one line, and what is unusual is told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rhm.data.catalog import Catalog
from rhm.evaluation.score_files import read_scores
from rhm.models.model_file import load_model, save_model

Rhm = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def listed(catalog_path: Path) -> Catalog:
    return Catalog.load(catalog_path)


@pytest.mark.parametrize("name", ["scores.json", "examples/alder_aerial-best.png"])
def test_files_of_the_user_are_not_replaced(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path, name: str
) -> None:
    own = tmp_path / "out" / name
    own.parent.mkdir(parents=True)
    own.write_text('{"my": "own"}')
    words = ["evaluate", trained, catalog_path, "-o", tmp_path / "out", "--domain", "alder_aerial"]
    code, printed, err = rhm(*words)
    if name == "scores.json":
        assert (code, printed, err.count("\n")) == (2, "", 1)
        assert "is not replaced: choose another --output" in err
    else:
        assert code == 0, err
    assert own.read_text() == '{"my": "own"}'
    assert rhm(*words, "--overwrite")[0] == 0
    assert read_scores(tmp_path / "out").domains


def test_scores_of_a_later_version_are_not_lost(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path
) -> None:
    words = ["evaluate", trained, catalog_path, "-o", tmp_path / "out", "--domain"]
    assert rhm(*words, "alder_aerial")[0] == 0
    file = tmp_path / "out" / "scores.json"
    later = json.dumps(json.loads(file.read_text()) | {"format": 99})
    file.write_text(later)
    code, _, err = rhm(*words, "birch_aerial")
    assert (code, err.count("\n")) == (2, 1)
    assert file.read_text() == later


def test_catalogs_of_one_name_in_two_folders_are_both_kept(
    rhm: Rhm,
    trained: Path,
    listed: Catalog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        listed.select(domains=["alder_aerial"]).save(tmp_path / name / "c.parquet")
        monkeypatch.chdir(tmp_path / name)
        code, _, err = rhm("evaluate", trained, "c.parquet", "-o", tmp_path / "out")
        assert code == 0, err
    assert "the earlier scores of alder_aerial (c.parquet) are kept besides" in err
    monkeypatch.chdir(tmp_path)
    assert rhm("evaluate", trained, "a/../b/c.parquet", "-o", "out")[0] == 0
    found = {domain.key[0] for domain in read_scores(tmp_path / "out").domains}
    assert found == {str(tmp_path.resolve() / name / "c.parquet") for name in ("a", "b")}


def test_bands_that_a_model_does_not_take_are_told_without_an_option_of_other_commands(
    rhm: Rhm, trained: Path, listed: Catalog, tmp_path: Path
) -> None:
    Catalog(listed.frame.assign(bands=5)).save(tmp_path / "five.parquet")
    for command in ("evaluate", "analyze"):
        out = tmp_path / command
        code, printed, err = rhm(command, trained, tmp_path / "five.parquet", "-o", out)
        assert (code, printed, err.count("\n")) == (2, "", 1)
        assert "takes 3 bands" in err
        assert "--bands" not in err
        assert not out.exists()


def test_a_missing_image_of_the_last_catalog_is_told_before_the_first_is_scored(
    rhm: Rhm, trained: Path, catalog_path: Path, listed: Catalog, tmp_path: Path
) -> None:
    gone = listed.select(domains=["birch_aerial"]).frame
    gone.loc[gone.index[-1], "image"] = str(tmp_path / "gone.tif")
    Catalog(gone.assign(split="test")).save(tmp_path / "gone.parquet")
    words = ["evaluate", trained, catalog_path, tmp_path / "gone.parquet"]
    code, printed, err = rhm(*words, "-o", tmp_path / "out")
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert "gone.tif" in err
    assert not (tmp_path / "out").exists()


def test_domains_that_are_left_out_or_scored_whole_are_told(
    rhm: Rhm, trained: Path, listed: Catalog, tmp_path: Path
) -> None:
    untested = tmp_path / "untested.parquet"
    Catalog(listed.frame.assign(split="train")).save(untested)
    words = ["--domain", "alder_aerial", "--domain", "birch_aerial"]
    code, printed, err = rhm("evaluate", trained, untested, *words, "-o", tmp_path / "out")
    assert code == 0, err
    assert [row.split()[1] for row in printed.splitlines()[1:]] == ["birch_aerial"]
    assert f"{untested}: alder_aerial has no labelled image in split 'test', and is left" in err
    assert "birch_aerial has no labelled image in split 'test', so all 6 are used" in err
    (domain,) = read_scores(tmp_path / "out").domains
    assert (domain.split, domain.images) == ("all", 6)
    # They are scored again in the same way.
    assert rhm("evaluate", trained, untested, *words, "-o", tmp_path / "out")[0] == 0


def test_a_test_on_images_of_the_training_is_told_and_recorded(
    rhm: Rhm, trained: Path, listed: Catalog, catalog_path: Path, tmp_path: Path
) -> None:
    words = ["--domain", "alder_aerial", "-o", tmp_path / "out"]
    code, _, err = rhm("evaluate", trained, catalog_path, *words)
    assert (code, err) == (0, "")
    again = Catalog(listed.frame.assign(split="")).assign_splits({"test": 0.4}, seed=8)
    again.save(tmp_path / "again.parquet")
    code, _, err = rhm("evaluate", trained, tmp_path / "again.parquet", *words)
    assert code == 0
    assert "its splits may not be those of the training" in err
    found = {each.catalog: each for each in read_scores(tmp_path / "out").domains}
    assert [each.other_split for each in found.values()] == [False, True]


def test_an_image_that_cannot_be_read_leaves_the_scores_of_other_domains(
    rhm: Rhm, trained: Path, listed: Catalog, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.tif"
    broken.write_bytes(listed.tiles[0].image.read_bytes()[:3000])
    frame = listed.select(domains=["alder_aerial", "birch_aerial"]).frame
    frame.loc[frame.index[-1], "image"] = str(broken)
    Catalog(frame).save(tmp_path / "c.parquet")
    words = [tmp_path / "c.parquet", "--split", "all", "-o", tmp_path / "out"]
    code, printed, err = rhm("evaluate", trained, *words)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert "the scores of alder_aerial are in" in err
    assert [each.name for each in read_scores(tmp_path / "out").domains] == ["alder_aerial"]


def test_shifts_of_two_seeds_have_two_names(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path
) -> None:
    words = ["--domain", "alder_aerial", "--shift", "gamma", "-o", tmp_path]
    assert rhm("evaluate", trained, catalog_path, *words)[0] == 0
    code, printed, err = rhm("evaluate", trained, catalog_path, *words, "--shift-seed", 1)
    assert code == 0
    assert "alder_aerial (gamma shift), seed 1  " in printed
    assert "the earlier scores of alder_aerial (gamma shift) are kept besides" in err


def test_notes_on_some_models_name_them(
    rhm: Rhm, trained: Path, listed: Catalog, tmp_path: Path
) -> None:
    other = load_model(trained)
    save_model(other, tmp_path / "other" / "model.safetensors")
    untested = tmp_path / "untested.parquet"
    Catalog(listed.select(domains=["birch_aerial"]).frame.assign(split="train")).save(untested)
    models = [trained, tmp_path / "other"]
    code, _, err = rhm("evaluate", *models, untested, "-o", tmp_path / "out")
    assert (code, err.count("so all 6 are used")) == (0, 1)


@pytest.mark.parametrize("given", ["high", "2", "nan", ""])
def test_a_threshold_that_is_none_is_told_what_an_evaluation_takes(
    rhm: Rhm, trained: Path, catalog_path: Path, given: str
) -> None:
    """The choices of a prediction, of which an evaluation refuses some, are not named."""
    code, printed, err = rhm("evaluate", trained, catalog_path, "--threshold", given)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert f"between 0 and 1, or auto, got '{given}'" in err
    assert "%" not in err
    code, _, err = rhm("evaluate", trained, catalog_path, "--threshold", "40%")
    assert (code, "is for predictions" in err) == (2, True)
