"""Experiment trackers; law: they are told what the run records, and what they refuse is told."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas
import pytest
from lightning.pytorch.loggers import CSVLogger, Logger

from rhm.errors import ConfigError
from rhm.training.callbacks import trackers
from rhm.training.callbacks.trackers import TRACKERS, Tracker, tracker_loggers
from rhm.training.config import RunConfig
from rhm.training.fitting import fit


def test_a_tracker_is_told_what_the_run_records(
    tiny: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def logger(name: str, runs: Path) -> Logger:
        return CSVLogger(runs, name="told", version=name)

    monkeypatch.setitem(TRACKERS, "csv", Tracker("csv", logger))
    config = tiny(trainer={"trackers": ["csv"]})
    run = fit(config)
    told = pandas.read_csv(run.folder.parent / "told" / config.name / "metrics.csv")
    ours = pandas.read_csv(run.folder / "metrics.csv")
    pandas.testing.assert_series_equal(
        told["val_iou"].dropna(), ours["val_iou"].dropna(), check_index=False
    )
    settings = (run.folder.parent / "told" / config.name / "hparams.yaml").read_text()
    assert "chip_px" in settings


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=rf"not installed: pip install 'rhm\[{name}\]'"):
        tracker_loggers((name,), "run", tmp_path, {})


def test_what_a_tracker_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, runs: Path) -> Logger:
        raise RuntimeError("no key:\nlog in first")

    monkeypatch.setitem(TRACKERS, "csv", Tracker("csv", refuse))
    with pytest.raises(ConfigError, match="csv cannot be used: no key: log in first"):
        tracker_loggers(("csv",), "run", tmp_path, {})


@pytest.mark.parametrize(
    ("server", "expected"), [(None, "sqlite:////"), ("http://host:5000", "http://host:5000")]
)
def test_mlflow_is_sent_to_the_users_server_or_a_file_beside_the_runs(
    server: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    module = ModuleType("lightning.pytorch.loggers")
    monkeypatch.setattr(
        module, "MLFlowLogger", lambda **options: given.update(options), raising=False
    )
    monkeypatch.setitem(sys.modules, "lightning.pytorch.loggers", module)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    trackers._mlflow("a run", tmp_path)
    assert given["tracking_uri"].startswith(expected)
    assert given["run_name"] == "a run"


def test_an_unknown_tracker_is_refused(tiny: Callable[..., RunConfig]) -> None:
    with pytest.raises(ConfigError, match="unknown tracker 'notebook': choose mlflow, wandb"):
        tiny(trainer={"trackers": ["notebook"]})
