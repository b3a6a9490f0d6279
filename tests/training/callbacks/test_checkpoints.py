"""Checkpoints: last is last, best is best, and a failed write leaves the earlier file."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from rhm.errors import ConfigError, OutputError
from rhm.training import fitting
from rhm.training.callbacks.checkpoints import AtomicCheckpointIO, CheckpointWriter
from rhm.training.config import RunConfig
from rhm.training.fitting import fit
from tests.test_files import no_file_larger_than

Make = Callable[..., RunConfig]


class Validations(lightning.Trainer):
    """Stands where a trainer would, and writes the steps that it is asked to save."""

    def __init__(self) -> None:
        self.scores: dict[str, torch.Tensor] = {}
        self.step = 0

    callback_metrics = property(lambda self: self.scores)
    sanity_checking = False

    def save_checkpoint(self, filepath: Any, *rest: Any, **options: Any) -> None:
        Path(filepath).write_text(str(self.step))


def saved(folder: Path, scores: list[float], writer: CheckpointWriter | None = None) -> list[str]:
    """Return the steps in the last and best checkpoint after some validations."""
    writer = writer or CheckpointWriter(folder / "last", folder / "best", monitor="iou")
    trainer = Validations()
    for trainer.step, score in enumerate(scores):
        trainer.scores["iou"] = torch.tensor(score)
        writer.on_validation_end(trainer, lightning.LightningModule())
    return [path.read_text() for path in (folder / "last", folder / "best") if path.exists()]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.1, 0.3, 0.2], ["2", "1"]),
        ([0.3, 0.3], ["1", "0"]),
        ([torch.nan, 0.1, torch.nan], ["2", "1"]),
        ([torch.nan], ["0"]),
    ],
)
def test_last_is_last_and_best_is_best(
    tmp_path: Path, scores: list[float], expected: list[str]
) -> None:
    assert saved(tmp_path, scores) == expected


def test_the_best_score_survives_in_another_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first = CheckpointWriter(tmp_path / "a/last", tmp_path / "a/best", monitor="iou")
    assert saved(tmp_path / "a", [0.2, 0.5], first) == ["1", "1"]
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    second = CheckpointWriter(tmp_path / "b/last", tmp_path / "b/best", monitor="iou")
    second.load_state_dict(first.state_dict())
    assert saved(tmp_path / "b", [0.4], second) == ["0", "1"]


def test_the_score_of_lightnings_own_callback_is_taken_up(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path / "last", tmp_path / "best", monitor="iou")
    states = {"ModelCheckpoint{'monitor': 'iou'}": {"best_model_score": torch.tensor(0.5)}}
    writer.on_load_checkpoint(Validations(), lightning.LightningModule(), {"callbacks": states})
    assert saved(tmp_path, [0.4], writer) == ["0"]


def test_a_failed_write_keeps_the_earlier_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    before = path.read_bytes()
    with no_file_larger_than(100_000), pytest.raises(OutputError, match=r"last\.ckpt: .* large"):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(1_000_000)}, path)
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


class Killed(Exception):
    """Stands for a power cut."""


def interrupted(config: RunConfig, monkeypatch: pytest.MonkeyPatch, *, step: int) -> None:
    """Train until a step, and be killed there."""

    class PowerCut(lightning.Callback):
        def on_train_batch_start(self, trainer: lightning.Trainer, *rest: Any) -> None:
            if trainer.global_step == step:
                raise Killed

    make = fitting._trainer

    def doomed(*arguments: Any, **options: Any) -> lightning.Trainer:
        trainer = make(*arguments, **options)
        trainer.callbacks.insert(0, PowerCut())  # type: ignore[attr-defined]
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_trainer", doomed)
        with pytest.raises(Killed):
            fit(config)


SHORT = {"steps": 3, "batch_size": 2, "validate_every": 1}


def test_a_score_that_falls_does_not_hold_the_last_checkpoint_back(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At this rate, the network gets worse after the first validation.
    config = tiny("falls", trainer=SHORT, optimizer={"learning_rate": 1.0})
    interrupted(config, monkeypatch, step=2)
    last = torch.load(config.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 2


def test_a_damaged_last_checkpoint_is_replaced_by_the_best(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = fit(tiny("whole", trainer=SHORT))
    config = tiny("cut", trainer=SHORT)
    interrupted(config, monkeypatch, step=2)
    last = config.folder / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    resumed = fit(config, resume=True)
    assert "last.ckpt is damaged (File is not a zip file): best.ckpt takes its place" in caplog.text
    assert resumed.model.read_bytes() == whole.model.read_bytes().replace(b"whole", b"cut")


def test_damaged_checkpoints_are_one_line(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("both", trainer=SHORT)
    interrupted(config, monkeypatch, step=2)
    for name in ("last.ckpt", "best.ckpt"):
        (config.folder / "checkpoints" / name).write_bytes(b"")
    with pytest.raises(ConfigError, match=r"last\.ckpt is damaged .*: remove .*checkpoints to"):
        fit(config, resume=True)
