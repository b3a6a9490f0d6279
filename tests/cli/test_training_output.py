"""What is printed of a finished run: the scores that its files record, and the time."""

import json
from pathlib import Path

import pandas

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
