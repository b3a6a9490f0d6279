"""Damaged checkpoints: what PyTorch would read without a word is found, and another takes over."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pandas
import pytest
import torch

from rhm.cli.main import run as command
from rhm.errors import ConfigError
from rhm.models.model_file import load_model
from rhm.training.callbacks.checkpoints import read_first
from rhm.training.config import RunConfig
from rhm.training.fitting import fit
from rhm.training.run import Run
from tests.training.callbacks.stored_states import checkpoint, rewritten, rotten

Stored = Callable[..., Run]
Damage = Callable[[Path], object]

STATE: dict[str, Any] = {
    "model.weight": torch.arange(20_000.0).reshape(100, 200),
    "model.steps": torch.tensor(3),
    "other.weight": torch.ones(3),
    "other._extra_state": {"state": {}},
}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in STATE.items() if key != name}


def saved(state: Any = STATE, **changes: Any) -> Damage:
    return lambda path: torch.save(checkpoint(state, **changes), path)


def archived(path: Path) -> None:
    with ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "mine")


def not_finite(value: float) -> torch.Tensor:
    return torch.zeros(100, 200).index_fill_(1, torch.tensor([7]), value)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "rot": (rotten, "the checksum of .*/data/0 is wrong"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:1000]), "not a zip file"),
    "empty": (lambda path: path.write_bytes(b""), "not a zip file"),
    "archive": (archived, ""),
    "pickle": (lambda path: rewritten(path, "data.pkl", b"\x80\x02mine"), ""),
    "no pickle": (lambda path: rewritten(path, "data.pkl", b""), ""),
    "compressed": (lambda path: rewritten(path, "-", b"", ZIP_DEFLATED), "it is compressed"),
    "list": (lambda path: torch.save([1], path), "it has no epoch"),
    "object": (lambda path: torch.save({"a": Path()}, path), "it holds other objects"),
    "state": (saved(None), "it has no state_dict"),
    "steps": (saved(global_step=None), "it has no global_step"),
    "loops": (saved(loops=None), "it has no loops"),
    "optimizer": (saved(optimizer_states={}), "it has no optimizer_states"),
    "missing": (saved(without("model.weight")), r"model\.weight is missing"),
    "no extra": (saved(without("other._extra_state")), r"other\._extra_state is missing"),
    "foreign": (saved(STATE | {"x": torch.ones(1)}), "x is not of this network"),
    "shape": (saved(STATE | {"model.weight": torch.ones(3)}), r"model\.weight has another shape"),
    "value": (saved(STATE | {"model.weight": 3}), r"model\.weight has another shape"),
    "nan": (saved(STATE | {"model.weight": not_finite(torch.nan)}), r"model\.weight has values"),
    "inf": (saved(STATE | {"model.weight": not_finite(torch.inf)}), r"model\.weight has values"),
    "mean": (saved(current_model_state=without("model.steps")), r"model\.steps is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_another_takes_the_place_of_a_damaged_checkpoint(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    change, told = DAMAGES[damage]
    first, second = tmp_path / "first.ckpt", tmp_path / "second.ckpt"
    for path in (first, second):
        saved()(path)
    found = read_first((first, second), STATE)
    assert found is not None
    assert (found.path, found.step, caplog.text) == (first, 2, "")
    change(first)
    found = read_first((first, second), STATE)
    assert found is not None
    assert (found.path, found.state.keys()) == (second, STATE.keys())
    (message,) = caplog.messages
    assert message.startswith(f"{first} is damaged (")
    assert message.endswith("): second.ckpt takes its place")
    second.unlink()
    with pytest.raises(ConfigError, match=rf"damaged \(.*{told}.*\): remove .* to train") as error:
        read_first((first, second), STATE)
    assert "\n" not in str(error.value)


def test_a_part_of_the_network_is_read_by_the_beginning_of_its_names(tmp_path: Path) -> None:
    saved()(tmp_path / "a.ckpt")
    expected = {"weight": STATE["model.weight"], "steps": STATE["model.steps"]}
    found = read_first((tmp_path / "a.ckpt",), expected, prefix="model.")
    assert found is not None
    assert found.state.keys() == expected.keys()
    assert torch.equal(found.state["weight"], expected["weight"])


def test_a_lack_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the user would be told to remove checkpoints that are whole."""

    def short(*_: Any, **__: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    saved()(tmp_path / "a.ckpt")
    monkeypatch.setattr(torch, "load", short)
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        read_first((tmp_path / "a.ckpt",), STATE)


@pytest.fixture
def unfinished(stored: Stored, tmp_path: Path) -> RunConfig:
    """Return the configuration of a run that was interrupted before its model was written.

    At this rate, the network gets worse after the first validation.
    """
    trainer = {"steps": 3, "batch_size": 2, "validate_every": 1}
    run = stored("damage", trainer=trainer, optimizer={"learning_rate": 1.0})
    shutil.copytree(run.folder, tmp_path / run.folder.name)
    config = run.config.model_copy(update={"output": str(tmp_path)})
    Run(config.folder).model.unlink()
    return config


def test_the_last_model_is_kept_with_its_scores_where_the_best_is_damaged(
    unfinished: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(unfinished.folder)
    last = torch.load(run.last, weights_only=True)
    assert (torch.load(run.best, weights_only=True)["global_step"], last["global_step"]) == (1, 3)
    rotten(run.best)
    fit(unfinished, resume=True)
    assert "best.ckpt is damaged (the checksum of " in caplog.text
    assert "last.ckpt takes its place" in caplog.text
    for name, value in load_model(run.folder).state_dict().items():
        assert torch.equal(value, last["state_dict"][f"model.{name}"])
    metrics = pandas.read_csv(run.folder / "metrics.csv")["val_loss"].dropna()
    assert metrics.iloc[0] != metrics.iloc[2]
    assert f"| loss | {metrics.iloc[2]:.3f} |" in (run.folder / "card.md").read_text()


@pytest.mark.parametrize("part", ["state_dict", "global_step", "loops"])
def test_without_any_whole_checkpoint_a_resumed_run_ends_in_one_line(
    unfinished: RunConfig, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(unfinished.folder)
    for path in (run.last, run.best):
        stored = torch.load(path, weights_only=True)
        del stored[part]
        torch.save(stored, path)
    assert (
        command(["train", str(run.folder / "config.yaml"), "-o", unfinished.output, "--resume"])
        == 2
    )
    told = capsys.readouterr().err.strip().splitlines()
    assert told == [
        f"rhm: {run.last} is damaged (it has no {part}): remove {run.last.parent} to train from "
        "the beginning"
    ]
    assert not run.model.exists()
    shutil.rmtree(run.last.parent)
    assert fit(unfinished, resume=True).model.is_file()
