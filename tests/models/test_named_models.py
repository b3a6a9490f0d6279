"""Names of models; law: a path that exists is meant, then a model that has this name."""

import os
from pathlib import Path

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
