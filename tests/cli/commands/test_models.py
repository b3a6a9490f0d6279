"""``rhm models``, and commands that are given a model by its name."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from rhm.errors import ModelFileError
from rhm.models.named_models import VARIABLE
from rhm.models.spec import load_spec
from tests.inference.networks import needs_onnx

Rhm = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    monkeypatch.setenv(VARIABLE, str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def test_models_are_added_listed_shown_and_removed(rhm: Rhm, trained: Path, own: Path) -> None:
    code, printed, err = rhm("models", "add", trained, "--name", "town")
    assert code == 0, err
    assert printed == (
        f"town: {own / 'town' / 'model.safetensors'} (use it as `rhm predict town`)\n"
    )
    code, printed, _ = rhm("models", "--json")
    listed = json.loads(printed)
    (town,) = [each for each in listed["models"] if each["from"] == "you"]
    spec = load_spec(trained)
    assert (town["name"], town["encoder"], town["gsd_m"]) == ("town", spec.encoder, spec.gsd_m)
    assert listed["folder"] == str(own)
    code, printed, _ = rhm("models")
    assert any(line.startswith("town ") for line in printed.splitlines())
    code, printed, _ = rhm("models", "card", "town")
    assert (code, printed) == (0, (trained / "card.md").read_text())
    code, printed, _ = rhm("models", "card", "town", "--json")
    assert json.loads(printed) == {
        "name": "town",
        "card": (trained / "card.md").read_text().rstrip(),
    }
    assert rhm("models", "--json", "card", "town") == (0, printed, "")
    assert rhm("models", "remove", "town") == (0, "removed town\n", "")
    code, _, err = rhm("models", "card", "town")
    assert (code, err) == (2, "rhm: no model is named town: `rhm models` lists all\n")


def test_a_model_that_cannot_be_read_is_listed_as_such(rhm: Rhm, own: Path) -> None:
    (own / "odd").mkdir(parents=True)
    (own / "odd" / "model.safetensors").write_bytes(b"nothing")
    code, printed, _ = rhm("models")
    assert code == 0
    assert "cannot be read" in printed


def test_a_name_is_enough_to_predict_evaluate_and_inspect(
    rhm: Rhm, trained: Path, catalog_path: Path, world: Path, tmp_path: Path
) -> None:
    assert rhm("models", "add", trained, "--name", "town")[0] == 0
    small = ["--tile", 96, "--overlap", 32, "--device", "cpu", "--runtime", "torch"]
    for model, out in (("town", "named"), (trained, "by-path")):
        words = [
            "predict",
            model,
            world / "scenes" / "birch_satellite.tif",
            "-o",
            tmp_path / out,
            *small,
        ]
        code, _, err = rhm(*words)
        assert code == 0, err
    for file in (tmp_path / "named").iterdir():
        assert file.read_bytes() == (tmp_path / "by-path" / file.name).read_bytes()
    words = ["town", catalog_path, "--domain", "alder_aerial", "--split", "all"]
    code, _, err = rhm("evaluate", *words)
    assert code == 0, err
    assert (tmp_path / "runs" / "town" / "evaluation" / "scores.json").is_file()
    assert rhm("report", "runs/town", "-o", "report.html")[0] == 0
    code, printed, _ = rhm(
        "data", "inspect", world / "scenes" / "birch_satellite.tif", "--model", "town", "--json"
    )
    assert code == 0
    assert json.loads(printed)


def test_a_name_that_nothing_has_is_told(rhm: Rhm, world: Path) -> None:
    code, _, err = rhm("predict", "nobody", world / "scenes" / "birch_satellite.tif", "-o", "out")
    assert code == 2
    assert err == (
        "rhm: no model at nobody, and none of this name: `rhm models` lists those with a name, and "
        "`rhm train` trains one\n"
    )


@needs_onnx
def test_an_exported_folder_has_what_hubs_show_and_can_be_added(
    rhm: Rhm, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shared"
    code, printed, err = rhm("models", "export", trained, "-o", out, "--licence", "CC-BY-4.0")
    assert code == 0, err
    files = ["README.md", "config.json", "model.onnx", "model.safetensors", "model.sha256"]
    assert printed == f"{out}: {', '.join(files)}\n"
    assert sorted(path.name for path in out.iterdir()) == files
    assert (out / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    _, header, card = (out / "README.md").read_text().split("---\n", 2)
    facts = yaml.safe_load(header)
    assert (facts["license"], facts["library_name"]) == ("cc-by-4.0", "rhm")
    assert card.strip() == (trained / "card.md").read_text().strip()
    assert json.loads((out / "config.json").read_text())["encoder"] == load_spec(trained).encoder
    code, _, err = rhm("models", "export", trained, "-o", out)
    assert (code, err) == (2, f"rhm: {out} exists: choose a new folder\n")
    assert rhm("models", "add", out, "--name", "again")[0] == 0
    code, printed, _ = rhm("models", "card", "again")
    assert "# " in printed


@needs_onnx
def test_a_shared_file_is_called_by_its_own_name(rhm: Rhm, trained: Path, tmp_path: Path) -> None:
    """The folder that a file happens to lie in may be a home folder, with the name of its user."""
    home = tmp_path / "jane"
    home.mkdir()
    shutil.copyfile(trained / "model.safetensors", home / "Kampala v2.safetensors")
    assert rhm("models", "add", home / "Kampala v2.safetensors", "--name", "by.name")[0] == 0
    (tmp_path / "runs" / "by.name").mkdir(parents=True)
    (tmp_path / "runs" / "by.name" / "config.yaml").touch()
    for given, title in ((home / "Kampala v2.safetensors", "kampala-v2"), ("by.name", "by.name")):
        out = tmp_path / f"shared-{title}"
        words = ["models", "export", given, "-o", out, "--licence", "cc-by-4.0"]
        code, _, err = rhm(*words)
        assert code == 0, err
        card = (out / "README.md").read_text()
        assert f"\n# {title}\n" in card
        assert "jane" not in card
        assert "license: cc-by-4.0\n" in card


def test_an_export_that_fails_leaves_no_file(
    rhm: Rhm, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    out = tmp_path / "shared"
    code, printed, err = rhm("models", "export", trained, "-o", out, "--licence", "CC-BY-4.0")
    assert (code, printed, "pip install 'rhm[onnx]'" in err) == (2, "", True)
    assert list(tmp_path.rglob("*.*")) == []


def test_a_hostile_description_is_one_row(
    rhm: Rhm, trained: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own / "evil"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes((trained / "model.safetensors").read_bytes())
    spec = replace(load_spec(trained), encoder="\x1b[31mEVIL\u202e\n" + "x" * 90)
    monkeypatch.setattr("rhm.models.spec.load_spec", lambda _: spec)
    code, printed, _ = rhm("models")
    assert code == 0
    rows = [line for line in printed.splitlines() if line.startswith("evil")]
    assert len(rows) == 1
    assert "\x1b" not in printed
    assert "\u202e" not in printed
    assert "x" * 50 not in printed


def test_a_file_that_cannot_be_read_hides_no_other(
    rhm: Rhm, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own / "locked").mkdir(parents=True)
    (own / "locked" / "model.safetensors").touch()

    def refuse(file: Path) -> str:
        if "locked" in str(file):
            raise ModelFileError(f"{file} cannot be read: Permission denied")
        return "0" * 64

    monkeypatch.setattr("rhm.models.named_models.sha256_of", refuse)
    code, printed, _ = rhm("models")
    assert code == 0
    assert "starter" in printed
    assert any(row.startswith("locked") and "cannot be read" in row for row in printed.splitlines())


def test_a_name_that_is_too_long_to_export_to_is_one_line(
    rhm: Rhm, trained: Path, tmp_path: Path
) -> None:
    code, _, err = rhm("models", "export", trained, "-o", tmp_path / ("a" * 300))
    assert code == 2
    assert err.splitlines()[-1].startswith("rhm: ")
