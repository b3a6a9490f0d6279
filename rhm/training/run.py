"""A run is a folder with its configuration, its logs, and the resulting model.

runs/NAME/config.yaml          the configuration, including all defaults
runs/NAME/environment.json     versions of packages, and the machine
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
    def adapter(self) -> Path:
        """Path of the adapter that an adaptation has trained."""
        return self.folder / "adapter.safetensors"

    @property
    def updates(self) -> Path:
        """Folder of the low-rank updates that were recorded during an adaptation."""
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
        """Create the folder of a new run, with its configuration and environment.

        Raises:
            ConfigError: a run of this name already exists.
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
            ConfigError: such a run exists.
        """
        # The main process has created the folder before it launches the other processes.
        launched = os.environ.get("LOCAL_RANK", "0") != "0"
        if not launched and (config.folder / "config.yaml").exists():
            raise ConfigError(
                f"{config.folder} already contains a run: continue it with --resume, or choose "
                "another name"
            )

    @classmethod
    def resume(cls, config: RunConfig) -> "Run":
        """Return the existing run of this configuration.

        Raises:
            ConfigError: there is no run of this name, or it was started with other settings.
        """
        run = cls(config.folder)
        if not (run.folder / "config.yaml").is_file():
            raise ConfigError(f"no run to resume at {run.folder}: start it without --resume")
        before, now = run.config.model_dump(), config.model_dump()
        changed = [name for name in now if before[name] != now[name] and name != "output"]
        if changed:
            raise ConfigError(
                f"{run.folder} was started with other settings in '{changed[0]}': resume it with "
                "its own config.yaml, or choose another name"
            )
        return run

    def last_checkpoint(self) -> Path | None:
        """Return the path of the newest checkpoint, or None if there is none yet."""
        path = self.checkpoints / "last.ckpt"
        return path if path.is_file() else None

    def next_attempt(self) -> int:
        """Return the number of the next attempt at this run, counted from 0."""
        return len(list((self.folder / "logs").glob("attempt_*")))

    def collect_metrics(self) -> None:
        """Write ``metrics.csv`` from all attempts; where they overlap, the later one counts."""
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
        """Return the validation scores of the best checkpoint, by name; empty if there are none."""
        metrics = pandas.read_csv(self.folder / "metrics.csv")
        if "val_iou" not in metrics or metrics["val_iou"].isna().all():
            return {}
        best = metrics.iloc[metrics["val_iou"].argmax()].filter(like="val_").dropna()
        return {str(name).removeprefix("val_"): float(score) for name, score in best.items()}


def environment() -> dict[str, str]:
    """Return the versions of the packages that a run depends on, and the machine."""
    found = {"python": platform.python_version(), "machine": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
