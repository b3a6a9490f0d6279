"""A run is a folder: what was asked, what happened, and the model that came of it.

runs/NAME/config.yaml          the configuration, with every default
runs/NAME/environment.json     versions and machine
runs/NAME/metrics.csv          losses and scores by step, over all attempts
runs/NAME/cost.json            time and memory of training, over all attempts
runs/NAME/logs/                one folder per attempt, and TensorBoard's
runs/NAME/checkpoints/         best.ckpt and last.ckpt
runs/NAME/model.safetensors    the model, when training has ended
runs/NAME/card.md              what the model is, learnt from and is good for, in words
runs/NAME/adapter.safetensors  of an adapted model: what was trained, without its base
runs/NAME/base.sha256          of an adapted model: hash of the weights that it began with
runs/NAME/trained.csv          of an adapted model: the layers and parameters that were trained
runs/NAME/updates/             of an adapted model: its updates at every validation
runs/NAME/evaluation/          scores and examples, when it has been evaluated
"""

import json
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas

from rhm.errors import ConfigError
from rhm.files import atomic_path, write_text
from rhm.training.config import RunConfig, read_config

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
class Run:
    """A run's folder.

    Attributes:
        folder: of the run.
    """

    folder: Path

    @property
    def model(self) -> Path:
        """Path of the finished model."""
        return self.folder / "model.safetensors"

    @property
    def base(self) -> Path:
        """Path of the hash of the model that an adaptation begins with."""
        return self.folder / "base.sha256"

    @property
    def adapter(self) -> Path:
        """Path of the adapter that came of an adaptation."""
        return self.folder / "adapter.safetensors"

    @property
    def updates(self) -> Path:
        """Folder of an adaptation's updates on the way."""
        return self.folder / "updates"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

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
        """Make a new run's folder and write its configuration and environment.

        Raises:
            ConfigError: a run of this name exists.
            OutputError: the folder cannot be written.
        """
        cls.refuse_existing(config)
        run = cls(config.folder)
        write_text(run.folder / "environment.json", json.dumps(environment(), indent=2) + "\n")
        write_text(run.folder / "config.yaml", config.to_yaml())
        return run

    @classmethod
    def refuse_existing(cls, config: RunConfig) -> None:
        """Check that there is no run of this name.

        Raises:
            ConfigError: there is one.
        """
        # Processes launched by the first one find the folder that it has just made.
        launched = os.environ.get("LOCAL_RANK", "0") != "0"
        if not launched and (config.folder / "config.yaml").exists():
            raise ConfigError(
                f"a run lies at {config.folder}: continue it with --resume, or choose another name"
            )

    @classmethod
    def resume(cls, config: RunConfig) -> "Run":
        """Return the run that was begun with the same configuration.

        Raises:
            ConfigError: there is none, or it was begun with another configuration.
        """
        run = cls(config.folder)
        if not (run.folder / "config.yaml").is_file():
            raise ConfigError(f"no run to resume at {run.folder}: start it without --resume")
        before, now = run.config.model_dump(), config.model_dump()
        changed = [name for name in now if before[name] != now[name] and name != "output"]
        if changed:
            raise ConfigError(
                f"{run.folder} was begun with another '{changed[0]}': resume it with its own "
                "config.yaml, or choose another name"
            )
        return run

    def last_checkpoint(self) -> Path | None:
        """Return the newest checkpoint, or None before the first."""
        path = self.checkpoints / "last.ckpt"
        return path if path.is_file() else None

    def next_attempt(self) -> int:
        """Return the number of the next attempt at this run, from 0."""
        return len(list((self.folder / "logs").glob("attempt_*")))

    def collect_metrics(self) -> None:
        """Write ``metrics.csv`` from all attempts: where they overlap, the later one holds."""
        attempts = sorted(
            (self.folder / "logs").glob("attempt_*/metrics.csv"),
            key=lambda path: int(path.parent.name.partition("_")[2]),
        )
        rows = pandas.DataFrame()
        for path in attempts:
            later = pandas.read_csv(path)
            if not rows.empty:
                rows = rows[rows["step"] < later["step"].min()]
            rows = pandas.concat([rows, later], ignore_index=True)
        with atomic_path(self.folder / "metrics.csv") as temporary:
            rows.to_csv(temporary, index=False)

    def best_scores(self) -> dict[str, float]:
        """Return the validation scores of the best checkpoint, by name; none without any."""
        metrics = pandas.read_csv(self.folder / "metrics.csv")
        if "val_iou" not in metrics or metrics["val_iou"].isna().all():
            return {}
        best = metrics.iloc[metrics["val_iou"].argmax()].filter(like="val_").dropna()
        return {str(name).removeprefix("val_"): float(score) for name, score in best.items()}


def environment() -> dict[str, str]:
    """Return the versions and the machine that a run depends on."""
    found = {"python": platform.python_version(), "machine": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
