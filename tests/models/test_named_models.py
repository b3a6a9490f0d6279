"""Names of models; law: a path that exists is meant, then a model that has this name."""

import os
from pathlib import Path
from typing import Any

import pytest

from rhm.errors import ModelFileError
from rhm.models import named_models
from rhm.models.named_models import (
    CARD,
    MODEL,
    VARIABLE,
    check_name,
    find_named,
    home_of,
    own_folder,
)


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's models: one named "mine" with a card, and things that are no models."""
    folder = tmp_path / "own"
    for name in ("mine", "no-model", "Bad Name"):
        (folder / name).mkdir(parents=True)
    (folder / "mine" / MODEL).touch()
    (folder / "mine" / CARD).write_text("# Mine\n")
    (folder / "Bad Name" / MODEL).touch()
    (folder / "file").touch()
    monkeypatch.setenv(VARIABLE, str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_users_models_follow_those_that_came_with_rhm(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "shipped"
    (shipped / "zebra").mkdir(parents=True)
    (shipped / "zebra" / MODEL).touch()
    monkeypatch.setattr(named_models, "_SHIPPED", shipped)
    found = [(each.name, each.shipped, each.card) for each in named_models.named_models()]
    assert found == [("zebra", True, None), ("mine", False, own / "mine" / CARD)]


def test_without_a_folder_the_user_has_no_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    assert find_named("mine") is None
    monkeypatch.delenv(VARIABLE)
    assert own_folder().name == "models"
    assert "rhm" in own_folder().parts


def test_a_name_leads_to_the_file_unless_something_has_that_path(own: Path, tmp_path: Path) -> None:
    found = find_named("mine")
    assert found is not None
    assert found.file == own / "mine" / MODEL
    (tmp_path / "mine").mkdir()
    assert find_named("mine") == found  # a folder without a model is not meant
    (tmp_path / "mine" / MODEL).touch()
    assert find_named("mine") is None
    assert find_named(own / "mine") is None


@pytest.mark.parametrize("name", ["", "no-model", "file", "../own/mine", "mi\0ne", "Bad Name", "."])
def test_other_words_are_no_names(name: str) -> None:
    assert find_named(name) is None


def test_results_of_a_named_model_belong_to_a_run_of_its_name(own: Path, tmp_path: Path) -> None:
    assert home_of("mine") == Path("runs") / "mine"
    assert home_of(own / "mine") == own / "mine"
    assert home_of(own / "mine" / MODEL) == own / "mine"
    assert home_of(tmp_path / "elsewhere.safetensors") == tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine", "there is a model named mine: choose another name, or remove it with"),
        ("../up", "cannot be the name of a model"),
        ("Big", "cannot be the name"),
        ("a" * 65, "cannot be the name"),
        (os.curdir, "cannot be the name"),
        ("a.", "cannot be the name"),
    ],
)
def test_names_that_a_model_cannot_have_are_refused(name: str, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        check_name(name)
    check_name("other")


def test_a_run_that_is_not_finished_is_no_name(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert find_named("mine") is not None
    (tmp_path / "mine" / "config.yaml").touch()
    assert find_named("mine") is None
    with pytest.raises(ModelFileError, match="no model at mine"):
        named_models.model_file("mine")


def test_the_results_of_a_named_model_never_mix_with_those_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "config.yaml").touch()
    assert home_of("mine") == Path("runs", "mine-model")


def test_a_folder_that_cannot_be_searched_hides_no_other(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own / "locked").mkdir()
    # A superuser may search any folder.
    stat = os.stat

    def refusing(path: Any, *words: Any, **options: Any) -> os.stat_result:
        if "locked" in str(path) and str(path).endswith(MODEL):
            raise PermissionError(13, "Permission denied")
        return stat(path, *words, **options)

    monkeypatch.setattr(os, "stat", refusing)
    names = [each.name for each in named_models.named_models() if not each.shipped]
    assert names == ["mine"]


def test_the_installation_is_told_from_everything_else(own: Path) -> None:
    starter = find_named("starter")
    assert starter is not None
    assert named_models.is_shipped(starter.file)
    assert not named_models.is_shipped(own / "mine" / MODEL)
