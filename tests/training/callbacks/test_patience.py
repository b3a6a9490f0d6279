"""Early stopping; law: a run that was interrupted ends as it would have ended."""

from collections.abc import Callable
from typing import Any

import lightning
import pandas
import pytest

from rhm.models.model_file import load_model
from rhm.training import fitting
from rhm.training.config import RunConfig
from rhm.training.fitting import fit
from rhm.training.run import Run

Make = Callable[..., RunConfig]

# Nothing is learned, so no validation is better than the first.
SECTIONS: dict[str, Any] = {
    "model": {"batch_norm": "frozen"},
    "optimizer": {"learning_rate": 1e-12},
    "trainer": {"steps": 6, "validate_every": 1, "batch_size": 2, "patience": 2},
}


class Stopped(Exception):
    """An interrupt at a certain validation."""


class Interrupt(lightning.Callback):
    """Interrupts training after a number of validations, when their checkpoint is written."""

    def __init__(self, validations: int) -> None:
        self.left = validations

    def on_train_epoch_end(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise Stopped


def validations(run: Run) -> int:
    return int(pandas.read_csv(run.folder / "metrics.csv")["val_loss"].notna().sum())


@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_interrupted_run_waits_no_longer(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    whole = fit(tiny("whole", **SECTIONS))
    assert validations(whole) == 3  # the first, and two without improvement
    real = fitting._trainer

    def interrupted(*words: Any, **options: Any) -> lightning.Trainer:
        trainer = real(*words, **options)
        trainer.callbacks.append(Interrupt(after))  # type: ignore[attr-defined]
        return trainer

    broken = tiny("broken", **SECTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_trainer", interrupted)
        with pytest.raises(Stopped):
            fit(broken)
    resumed = fit(broken, resume=True)
    assert validations(resumed) == 3
    ours, theirs = (load_model(run.folder).state_dict() for run in (whole, resumed))
    assert all((ours[name] == theirs[name]).all() for name in ours)


def test_a_run_that_had_ended_is_only_finished(tiny: Make) -> None:
    run = fit(tiny("ended", **SECTIONS))
    before = run.model.read_bytes()
    run.model.unlink()
    assert fit(tiny("ended", **SECTIONS), resume=True).model.read_bytes() == before
    assert validations(run) == 3
