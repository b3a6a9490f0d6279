"""The time that is left is told once, where it is long and no bar shows it."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from rhm.training.callbacks import time_left
from rhm.training.callbacks.time_left import in_words
from rhm.training.config import RunConfig
from rhm.training.fitting import fit


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(600, "10 minutes"), (7100, "118 minutes"), (9000, "2.5 hours"), (432_000, "5.0 days")],
)
def test_the_unit_is_the_largest_that_says_enough(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@pytest.mark.parametrize("least", [0.0, 600.0])
def test_it_is_told_once_if_it_is_long(
    tiny: Callable[..., RunConfig],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    least: float,
) -> None:
    for name, value in (("LEAST_S", least), ("SKIPPED", 1), ("TIMED", 2)):
        monkeypatch.setattr(time_left, name, value)
    trainer: dict[str, Any] = {"steps": 6, "validate_every": 2, "batch_size": 2}
    with caplog.at_level(logging.WARNING, "rhm"):
        fit(tiny(trainer=trainer))
    told = [record.getMessage() for record in caplog.records if "are left" in record.getMessage()]
    assert len(told) == (0 if least else 1)
    assert all("for the 3 steps that are left" in each for each in told)
