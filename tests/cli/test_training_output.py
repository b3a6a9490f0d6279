"""What is printed of a finished run: the scores that its files record, and the time."""

import json
from pathlib import Path

import pandas
import pytest

from rhm.cli.training_output import finished_run
from rhm.models.spec import load_spec
from rhm.training.run import Run


def test_the_values_are_those_of_the_files_of_the_run(trained: Path) -> None:
    run = Run(trained)
    values, lines = finished_run(run)
    best = pandas.read_csv(trained / "metrics.csv")["val_iou"].max()
    cost = json.loads((trained / "cost.json").read_text())
    assert values["validation"]["iou"] == best
    assert values["seconds"] == cost["seconds"]
    assert values["threshold"] == load_spec(run.model).threshold
    assert lines[0].startswith(f"{cost['steps']} steps in ")
    assert f"{best:.3f}" in lines[1]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(3.4, "3 s"), (59, "59 s"), (90, "2 min"), (3599, "1 h 00 min"), (9000, "2 h 30 min")],
)
def test_times_are_short(trained: Path, tmp_path: Path, seconds: float, told: str) -> None:
    for name in ("config.yaml", "metrics.csv", "model.safetensors"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    cost = json.loads((trained / "cost.json").read_text())
    (tmp_path / "cost.json").write_text(json.dumps({**cost, "seconds": seconds}))
    assert finished_run(Run(tmp_path))[1][0].endswith(f" in {told}")
