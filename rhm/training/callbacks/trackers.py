"""Experiment trackers that a run can report to, beside its own CSV files and TensorBoard.

``TRACKERS`` lists them by the names that configurations use. Each needs a package of its own. Where
they send what they are told is their own setting: an environment variable or a login of the user.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from rhm.errors import ConfigError, one_line

PROJECT = "rhm"
"""Name of the project or experiment that collects the runs."""


@dataclass(frozen=True)
class Tracker:
    """An experiment tracker.

    Attributes:
        package: name of its module, and of the extra that installs it.
        logger: function that returns the logger of a run, given its name and the folder that
            contains the runs.
    """

    package: str
    logger: Callable[[str, Path], Logger]


def _mlflow(name: str, runs: Path) -> Logger:
    from lightning.pytorch.loggers import MLFlowLogger

    server = os.environ.get("MLFLOW_TRACKING_URI")
    uri = server or f"sqlite:///{(runs / 'mlflow.db').absolute()}"
    return MLFlowLogger(experiment_name=PROJECT, run_name=name, tracking_uri=uri)


def _wandb(name: str, runs: Path) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(project=PROJECT, name=name, save_dir=runs)


TRACKERS = {"mlflow": Tracker("mlflow", _mlflow), "wandb": Tracker("wandb", _wandb)}
"""Experiment trackers, by their names in a configuration."""


def all_loggers(
    trackers: tuple[str, ...], folder: Path, attempt: int, settings: Mapping[str, Any]
) -> list[Logger]:
    """Return the loggers of an attempt at a run: those of trackers, CSV files and TensorBoard.

    Args:
        trackers: names of trackers.
        folder: folder of the run, which has its name.
        attempt: number of the attempt, counted from 0.
        settings: the configuration as nested values.

    Raises:
        ConfigError: as for ``tracker_loggers``.
    """
    name = folder.name if attempt == 0 else f"{folder.name}, attempt {attempt + 1}"
    return [
        *tracker_loggers(trackers, name, folder.parent, settings),
        CSVLogger(folder / "logs", name="", version=f"attempt_{attempt}"),
        TensorBoardLogger(folder / "logs", name="tensorboard", version=f"attempt_{attempt}"),
    ]


def tracker_loggers(
    names: tuple[str, ...], run: str, runs: Path, settings: Mapping[str, Any]
) -> list[Logger]:
    """Return the loggers of a run, which have been told its settings.

    Args:
        names: names of trackers.
        run: name of the run.
        runs: folder that contains the runs.
        settings: the configuration as nested values.

    Raises:
        ConfigError: the package of a tracker is not installed, or the tracker refuses.
    """
    loggers = []
    for name in names:
        tracker = TRACKERS[name]
        if find_spec(tracker.package) is None:
            raise ConfigError(
                f"trainer.trackers names {name}, which is not installed: pip install 'rhm[{name}]'"
            )
        try:
            logger = tracker.logger(run, runs)
            logger.log_hyperparams(dict(settings))
        except Exception as error:  # of whatever kind: it is not rhm's own
            raise ConfigError(f"{name} cannot be used: {one_line(error)}") from error
        loggers.append(logger)
    return loggers
