"""Adding and removing models; laws: what was added is the same model, or nothing is added."""

import hashlib
from pathlib import Path

import pytest
import torch

from rhm.errors import ModelFileError, OutputError
from rhm.models.build import SegmentationModel
from rhm.models.model_file import load_model, save_model
from rhm.models.model_library import add_model, default_name, remove_model
from rhm.models.named_models import (
    CARD,
    HASH,
    MODEL,
    VARIABLE,
    find_named,
    model_file,
    named_models,
    sha256_of,
)
from rhm.models.spec import ModelSpec
from tests.web import served

SPEC = ModelSpec("unet", "test_efficientnet", 3)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a model and a card."""
    torch.manual_seed(3)
    folder = tmp_path / "runs" / "My Town"
    save_model(SegmentationModel(SPEC), folder / MODEL)
    (folder / CARD).write_text("# My Town\n", encoding="utf-8")
    return folder


def names() -> list[str]:
    return [each.name for each in named_models() if not each.shipped]


def test_an_added_model_is_found_by_its_name_and_is_the_same(own: Path, run: Path) -> None:
    added = add_model(run)
    assert added == find_named("my-town")
    assert added.file.read_bytes() == (run / MODEL).read_bytes()
    assert (added.folder / CARD).read_text() == "# My Town\n"
    digest = hashlib.sha256((run / MODEL).read_bytes()).hexdigest()
    assert (added.folder / HASH).read_text() == f"{digest}  {MODEL}\n"
    by_name, by_path = load_model("my-town"), load_model(run)
    for name, tensor in by_path.state_dict().items():
        torch.testing.assert_close(by_name.state_dict()[name], tensor, rtol=0, atol=0)
    remove_model("my-town")
    assert find_named("my-town") is None
    assert list(own.iterdir()) == []


def test_a_file_is_named_after_itself_or_as_wanted(own: Path, run: Path, tmp_path: Path) -> None:
    single = tmp_path / "Kampala_v2.safetensors"
    single.write_bytes((run / MODEL).read_bytes())
    assert add_model(single).name == "kampala_v2"
    assert add_model(single, "kampala").name == "kampala"
    assert sorted(names()) == ["kampala", "kampala_v2"]


def test_without_a_name_the_run_or_file_gives_it(own: Path, run: Path, tmp_path: Path) -> None:
    assert default_name(run) == default_name(run / MODEL) == "my-town"
    assert default_name(tmp_path / "Kampala v2.safetensors") == "kampala-v2"
    add_model(run, "town.v2")
    assert default_name("town.v2") == "town.v2"
    assert default_name(tmp_path / "\u6771.safetensors") == ""


def test_only_the_expected_file_is_added(own: Path, run: Path) -> None:
    digest = hashlib.sha256((run / MODEL).read_bytes()).hexdigest()
    with pytest.raises(ModelFileError, match="has another SHA-256"):
        add_model(run, sha256="0" * 64)
    assert names() == []
    assert add_model(run, sha256=f" {digest.upper()}\n").name == "my-town"


def test_what_is_no_whole_model_is_not_added(own: Path, run: Path, tmp_path: Path) -> None:
    data = (run / MODEL).read_bytes()
    broken = tmp_path / "broken.safetensors"
    for content in (b"", data[:-8], b"no model"):
        broken.write_bytes(content)
        with pytest.raises(ModelFileError):
            add_model(broken)
    with pytest.raises(ModelFileError, match="no model at"):
        add_model(tmp_path / "nothing")
    assert names() == []


def test_a_taken_name_is_refused_and_only_own_models_are_removed(own: Path, run: Path) -> None:
    add_model(run)
    with pytest.raises(ModelFileError, match="there is a model named my-town"):
        add_model(run)
    with pytest.raises(ModelFileError, match="no model is named other"):
        remove_model("other")
    for shipped in (each.name for each in named_models() if each.shipped):
        with pytest.raises(ModelFileError, match="came with rhm"):
            remove_model(shipped)


@pytest.mark.parametrize("kind", ["card", "file", "link", "dangling"])
def test_what_is_in_the_place_of_a_model_is_kept(
    own: Path, run: Path, tmp_path: Path, kind: str
) -> None:
    own.mkdir()
    elsewhere = tmp_path / "elsewhere"
    if kind != "dangling":
        elsewhere.mkdir()
        (elsewhere / CARD).write_text("# Mine\n")
    if kind == "card":
        elsewhere.rename(own / "town")
    elif kind == "file":
        (own / "town").write_text("mine")
    else:
        (own / "town").symlink_to(elsewhere, target_is_directory=True)
    before = {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*.md")}
    with pytest.raises(ModelFileError, match="is not that of a model: choose another name"):
        add_model(run, "town")
    assert before == {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*.md")}
    assert names() == []


def test_a_folder_that_an_interruption_left_empty_is_used(own: Path, run: Path) -> None:
    (own / "town" / ".rhm.0-1-x").mkdir(parents=True)
    assert add_model(run, "town").file.is_file()


def test_a_folder_that_cannot_be_written_is_told(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot write"):
        add_model(run)


def test_only_what_was_added_is_removed(own: Path, run: Path) -> None:
    added = add_model(run, "town")
    (added.folder / "model.int8-0123456789abcdef.json").touch()
    notes = added.folder / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(ModelFileError, match=r"such as notes\.txt: remove it yourself"):
        remove_model("town")
    assert names() == ["town"]
    notes.unlink()
    remove_model("town")
    assert list(own.iterdir()) == []


def test_a_link_is_removed_and_its_run_stays(own: Path, run: Path) -> None:
    own.mkdir()
    (own / "linked").symlink_to(run, target_is_directory=True)
    assert names() == ["linked"]
    before = sorted(run.iterdir())
    remove_model("linked")
    assert (names(), sorted(run.iterdir())) == ([], before)


def test_what_an_interrupted_removal_left_is_removed(own: Path, run: Path) -> None:
    added = add_model(run, "town")
    added.file.unlink()
    assert names() == []
    remove_model("town")
    assert list(own.iterdir()) == []
    with pytest.raises(ModelFileError, match="no model is named town"):
        remove_model("town")


def test_a_card_keeps_its_text_alone(own: Path, run: Path) -> None:
    (run / CARD).unlink()
    (run / "README.md").write_text("---\nlicense: mit\n---\n\n# Town\n\ta\x1b[31mb\n")
    added = add_model(run, "town")
    assert added.card is not None
    assert added.card.read_text() == "# Town\n\ta\ufffd[31mb\n"
    (run / "README.md").unlink()
    assert add_model(run, "bare").card is None


def test_a_model_at_an_address_is_fetched_only_to_be_added(own: Path, run: Path) -> None:
    digest = sha256_of(run / "model.safetensors")
    with served(run) as root:
        address = f"{root}model.safetensors"
        with pytest.raises(ModelFileError, match=r"give the model of .* a name"):
            add_model(address)
        with pytest.raises(ModelFileError, match="another SHA-256"):
            add_model(address, "web", sha256="0" * 64)
        assert not (own / "web").exists()
        (run / "none.safetensors").write_text("{}")
        with pytest.raises(ModelFileError, match=rf"^{root}none\.safetensors"):
            add_model(f"{root}none.safetensors?token=secret")
        added = add_model(address, "web", sha256=digest)
        assert sha256_of(added.file) == digest
        with pytest.raises(ModelFileError, match="cannot be fetched: the server answers 404"):
            add_model(f"{root}other.safetensors?token=secret")
        with pytest.raises(ModelFileError, match="rhm models add") as error:
            model_file(Path(address))
        assert "secret" not in str(error.value)
