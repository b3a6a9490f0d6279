"""Kills at random moments; law: run again, a command ends as if it had not been killed.

``FAULTS`` in the environment is the number of kills for each command; ``make fuzz`` sets it.
"""

import os
from collections.abc import Callable

import numpy as np
import pytest

from tests.faults.commands import COMMANDS, RESUMABLE, Place
from tests.forked import rhm

KILLS = int(os.environ.get("FAULTS", "3"))
EVERYDAY = ("train", "predict", "evaluate", "bank")
"""Commands that are killed in everyday tests, too."""


def kept(files: dict[str, str]) -> dict[str, str]:
    """The files that do not depend on how often a command was begun.

    Logs have a folder for each attempt, and in the last checkpoint Lightning counts restarts.
    """
    return {
        key: value
        for key, value in files.items()
        if "/logs/" not in key and not key.endswith("last.ckpt")
    }


@pytest.mark.parametrize("name", COMMANDS if "FAULTS" in os.environ else EVERYDAY)
def test_a_killed_command_that_is_run_again_ends_as_if_it_had_not_been(
    place: Callable[[str], Place], name: str
) -> None:
    first, second = place("first"), place("second")
    seconds = 0.0
    for whole in (first, second):
        ended = rhm(*COMMANDS[name](whole))
        assert ended.code == 0, ended
        seconds = ended.seconds
    expected, same = kept(first.digest()), kept(second.digest())
    # Files with a date or a duration differ between any two runs, unless by chance.
    settled = {key for key in expected if same.get(key) == expected[key]}
    settled -= {"config.yaml", "run/evaluation/scores.json"}
    assert expected.keys() == same.keys()

    killed = place("killed")
    words = COMMANDS[name](killed)
    begun: list[object] = []
    rng = np.random.default_rng(int(os.environ.get("FAULTS_SEED", "0")))
    for _ in range(KILLS):
        ended = rhm(*words, *begun, kill_after_s=rng.uniform(0.0, seconds))
        assert ended.code in (0, 2, -9), ended
        assert not ended.code or ended.code == -9 or "--resume" in ended.err, ended
        if name in RESUMABLE and ended.code == 2:
            begun = ["--resume"]
    ended = rhm(*words, *begun)
    if ended.code == 2 and name in RESUMABLE:
        assert not ended.faults, ended
        ended = rhm(*words, "--resume")
    assert ended.code == 0, ended
    found = kept(killed.digest())
    assert found.keys() == expected.keys()
    assert {key for key in settled if found[key] != expected[key]} == set()
