"""A run is a folder with its configuration, its logs, and the resulting model.

runs/NAME/config.yaml          the configuration, including all defaults
runs/NAME/environment.json     versions of packages, and the machine
runs/NAME/data.sha256          hash of the imagery and the bank, as the run saw them
runs/NAME/metrics.csv          losses and scores by step, over all attempts
runs/NAME/cost.json            time and memory that training took, over all attempts
runs/NAME/logs/                one folder per attempt, and the logs of TensorBoard
runs/NAME/checkpoints/         best.ckpt and last.ckpt
runs/NAME/model.safetensors    the model, after training has finished
runs/NAME/card.md              the model card: what the model is, and what it is suitable for
runs/NAME/adapter.safetensors  adapted models only: the trained weights without the base model
runs/NAME/base.sha256          adapted models only: hash of the base model's weights
runs/NAME/trained.csv          adapted models only: the layers and parameters that were trained
runs/NAME/updates/             adapted models only: the low-rank updates at every validation
runs/NAME/evaluation/          scores and example images, after an evaluation
"""

import json
import logging
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas

from rhm.errors import ConfigError, OutputError
from rhm.files import atomic_path, write_text
from rhm.notebook_display import Curves, NotebookDisplay
from rhm.training.callbacks.checkpoints import read_first
from rhm.training.callbacks.run_cost import attempt_folders
from rhm.training.callbacks.update_recorder import FINAL, recorded_files
from rhm.training.config import LONGEST_NAME, RunConfig, read_config
from rhm.training.configs.trainer_config import SELECT
from rhm.training.unlabelled.target_config import MEASURED

_LOG = logging.getLogger(__name__)

_ENVIRONMENT = "environment.json"  # the first file of every run

_FILES = (
    _ENVIRONMENT,
    "config.yaml",
    "data.sha256",
    "metrics.csv",
    "cost.json",
    "card.md",
    "base.sha256",
    "trained.csv",
    "adapter.safetensors",
)

_PACKAGES = (
    "rhm",
    "torch",
    "lightning",
    "segmentation-models-pytorch",
    "timm",
    "albumentations",
    "opencv-python-headless",
    "rasterio",
    "numpy",
)


@dataclass(frozen=True)
class Run(NotebookDisplay):
    """The folder of a run.

    Attributes:
        folder: path of the folder.
    """

    folder: Path

    @property
    def model(self) -> Path:
        """Path of the finished model."""
        return self.folder / "model.safetensors"

    @property
    def base(self) -> Path:
        """Path of the file with the hash of an adaptation's base model."""
        return self.folder / "base.sha256"

    @property
    def data(self) -> Path:
        """Path of the file with the hash of the imagery."""
        return self.folder / "data.sha256"

    @property
    def adapter(self) -> Path:
        """Path of the adapter that an adaptation has trained."""
        return self.folder / "adapter.safetensors"

    @property
    def updates(self) -> Path:
        """Folder of the low-rank updates that were recorded during an adaptation."""
        return self.folder / "updates"

    @property
    def last(self) -> Path:
        """Path of the checkpoint after the latest validation."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """Path of the checkpoint after the best validation."""
        return self.last.with_name("best.ckpt")

    @property
    def evaluation(self) -> Path:
        """Folder of the evaluation."""
        return self.folder / "evaluation"

    @property
    def config(self) -> RunConfig:
        """The configuration that the run was started with."""
        return read_config(self.folder / "config.yaml")

    @classmethod
    def begin(cls, config: RunConfig) -> "Run":
        """Create the folder of a new run, with its configuration and environment.

        What an attempt that failed before its first checkpoint left in the folder is removed.

        Raises:
            ConfigError: a run of this name already exists, or the folder has files of somebody else
                with the names of those of a run.
            OutputError: the folder cannot be written.
        """
        cls.refuse_existing(config)
        run = cls(config.folder)
        if run._is_of_training:
            for logs in (run.folder / "logs", run.folder / "logs" / "tensorboard"):
                for leftover in attempt_folders(logs).values():
                    shutil.rmtree(leftover, ignore_errors=True)
            for leftover in (*recorded_files(run.updates), run.updates / FINAL):
                leftover.unlink(missing_ok=True)
        write_text(run.folder / _ENVIRONMENT, json.dumps(environment(), indent=2) + "\n")
        write_text(run.folder / "config.yaml", config.to_yaml())
        return run

    @classmethod
    def refuse_existing(cls, config: RunConfig) -> None:
        """Check that there is no run of this name that has got as far as a checkpoint.

        Raises:
            ConfigError: such a run exists, the folder has files of somebody else with the names of
                those of a run, or no folder can have the name.
        """
        if len(config.name.encode()) > LONGEST_NAME:
            raise ConfigError(
                f"the name of a run is that of a folder, and can have at most {LONGEST_NAME} bytes"
            )
        if not config.trainer.is_main_process:
            return  # the main process may have created the folder before the others begin
        run = cls(config.folder)
        if run.has_progress:
            raise ConfigError(
                f"{run.folder} already contains a run: continue it with --resume, or choose "
                "another name"
            )
        foreign = next((name for name in _FILES if (run.folder / name).exists()), None)
        if foreign is not None and not run._is_of_training:
            raise ConfigError(
                f"{run.folder} has the file {foreign}, and is not the folder of a run: choose "
                "another name"
            )

    @classmethod
    def resume(cls, config: RunConfig) -> "Run":
        """Return the existing run of this configuration.

        Raises:
            ConfigError: there is no run of this name, or it was started with other settings.
        """
        run = cls(config.folder)
        if not run.is_begun:
            raise ConfigError(f"no run to resume at {run.folder}: start it without --resume")
        before, now = run.config.model_dump(), config.model_dump()
        if config.target.method in MEASURED:
            # Nothing is trained, whatever the method of the adapter; earlier versions stored it.
            before["adapter"], now["adapter"] = run.config.adapter.base, config.adapter.base
        changed = [name for name in now if before[name] != now[name] and name != "output"]
        if changed:
            raise ConfigError(
                f"{run.folder} was started with other settings in '{changed[0]}': resume it with "
                "its own config.yaml, or choose another name"
            )
        return run

    def remember_data(self, digest: str) -> None:
        """Write the hash of the imagery to the folder.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_text(self.data, digest + "\n")

    def check_data(self, digest: str) -> None:
        """Check that the imagery is that with which the run was started.

        Raises:
            ConfigError: images, labels, splits or the bank have changed since then.
        """
        if not self.data.is_file():  # a run of an earlier version
            return
        if self.data.read_text(encoding="ascii", errors="replace").strip() != digest:
            raise ConfigError(
                f"the imagery is no longer that with which {self.folder} was started (images, "
                "labels, splits or the bank): restore it, or choose another name"
            )

    def last_checkpoint(self, expected: Mapping[str, Any]) -> Path | None:
        """Return the path of the newest checkpoint, or None if there is none yet.

        If the last one was damaged, for example by a full disk, the best one takes its place.

        Args:
            expected: state of the module that is trained, which the checkpoints are to fit.

        Raises:
            ConfigError: there are checkpoints, but all of them are damaged.
        """
        found = read_first((self.last, self.best), expected)
        return None if found is None else found.path

    @property
    def _is_of_training(self) -> bool:
        """Whether the folder is that of a run, however short."""
        with suppress(OSError, ValueError):
            found = json.loads((self.folder / _ENVIRONMENT).read_text(encoding="utf-8"))
            return isinstance(found, dict) and {"python", "machine", "rhm"} <= set(found)
        return False

    @property
    def is_begun(self) -> bool:
        """Whether the run has got as far as its configuration."""
        return (self.folder / "config.yaml").is_file()

    @property
    def has_progress(self) -> bool:
        """Whether there is anything to continue from: a checkpoint, or the finished model."""
        return any(path.exists() for path in (self.last, self.best, self.model))

    def next_attempt(self) -> int:
        """Return the number of the next attempt at this run, counted from 0."""
        # Not their count: an earlier one may be missing, and loggers empty a folder that is there.
        return 1 + max(attempt_folders(self.folder / "logs"), default=-1)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training the run at the same time.

        Raises:
            ConfigError: another process is training it.
            OutputError: the folder cannot be written.
        """
        lock = filelock.FileLock(self.folder / ".lock", timeout=0)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except filelock.Timeout as error:
            raise ConfigError(
                f"another process is training {self.folder}: wait for it, or choose another name"
            ) from error
        except OSError as error:
            raise OutputError(f"cannot write to {self.folder}: {error.strerror}") from error
        try:
            yield
        finally:
            with suppress(OSError):
                # While it is still held: afterwards it may be another process's.
                Path(lock.lock_file).unlink()
            lock.release()

    def collect_metrics(self, stages: Sequence[str] = ()) -> None:
        """Write ``metrics.csv`` from all attempts; where they overlap, the later one counts.

        Args:
            stages: stages of the network, in whose order the columns on them are written, after all
                others. The loggers of attempts order columns by their names.
        """
        rows = pandas.DataFrame(columns=["step"])
        for attempt in attempt_folders(self.folder / "logs").values():
            path = attempt / "metrics.csv"
            if not path.exists():  # it was killed before its first step
                continue
            later = _metrics(path)
            if later.empty:
                continue
            kept = rows[rows["step"] < later["step"].min()]
            rows = later if kept.empty else pandas.concat([kept, later], ignore_index=True)
        place = {stage: number for number, stage in enumerate(stages)}
        columns = sorted(rows, key=lambda name: place.get(str(name).partition("/")[2], -1))
        with atomic_path(self.folder / "metrics.csv") as temporary:
            rows[columns].to_csv(temporary, index=False)

    def _facts(self) -> dict[str, object]:
        config = self.config
        known = (self.folder / "metrics.csv").is_file()
        best = self.best_scores(SELECT[config.trainer.select]) if known else {}
        return {
            "folder": self.folder,
            "catalog": config.data.catalog,
            "sources": ", ".join(config.data.sources) or "all domains",
            "augmentation": ", ".join(config.augment.names) or "none",
            "steps": f"{config.trainer.steps:,} of {config.trainer.batch_size} chips",
            **({"best IoU (validation)": f"{best['iou']:.3f}"} if "iou" in best else {}),
            "state": "finished" if self.model.is_file() else "not finished",
        }

    def _picture(self) -> Curves:
        """Return the loss of the steps and the IoU of the validations."""
        path = self.folder / "metrics.csv"
        if not path.is_file():
            raise OutputError(f"{path} is not there: the run is not finished")
        metrics, lines = _metrics(path), {}
        for name, label in (("train_loss", "training loss"), ("val_iou", "IoU (validation)")):
            if name in metrics:
                known = metrics[["step", name]].dropna()
                lines[label] = (known["step"].to_numpy(), known[name].to_numpy())
        if not lines:
            raise OutputError(f"{path} has no step yet")
        return Curves("step", "", lines)

    def best_scores(self, monitor: str = "val_iou", *, step: int | None = None) -> dict[str, float]:
        """Return the validation scores of the best checkpoint, by name; empty if there are none.

        Args:
            monitor: column of ``metrics.csv`` whose highest value chose the checkpoint.
            step: number of optimiser steps before another checkpoint, if that was kept.
        """
        metrics = _metrics(self.folder / "metrics.csv").replace([np.inf, -np.inf], np.nan)
        if step is not None and "step" in metrics:
            metrics = metrics[metrics["step"] == step - 1]  # Lightning numbers steps from zero
        if monitor not in metrics or metrics[monitor].isna().all():
            return {}
        best = metrics.iloc[metrics[monitor].argmax()].filter(like="val_").dropna()
        return {str(name).removeprefix("val_"): float(score) for name, score in best.items()}


def _metrics(path: Path) -> pandas.DataFrame:
    """Read a table of metrics; empty if it was cut off before its first line was complete.

    What is not a number is left out.
    """
    try:
        table = pandas.read_csv(path)
    except (OSError, ValueError):  # of pandas' errors, too
        table = pandas.DataFrame()
    if "step" not in table:
        _LOG.warning("%s is damaged: its steps are missing in the metrics", path)
        return pandas.DataFrame()
    numbers = pandas.DataFrame(
        {name: pandas.to_numeric(values, errors="coerce") for name, values in table.items()}
    )
    if not numbers.isna().equals(table.isna()):
        _LOG.warning("%s is damaged: what is not a number is left out of the metrics", path)
    return numbers.dropna(subset="step")


def environment() -> dict[str, str]:
    """Return the versions of the packages that a run depends on, and the machine."""
    found = {"python": platform.python_version(), "machine": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
