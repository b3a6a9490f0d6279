"""Disks that fill: one line says so, nothing is half-written, and the command can be repeated."""

import os
from collections.abc import Callable

import pytest

from tests.faults.commands import COMMANDS, RESUMABLE, Place
from tests.forked import rhm

SHARES = (0.0, 0.3, 0.6, 0.9) if "FAULTS" in os.environ else (0.6,)
"""Sizes at which the disk is full, as shares of the largest file that the command writes."""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_line_and_leaves_nothing_behind(
    place: Callable[[str], Place], name: str
) -> None:
    whole = place("whole")
    before = whole.files()
    ended = rhm(*COMMANDS[name](whole))
    assert ended.code == 0, ended
    written = {key: data for key, data in whole.files().items() if before.get(key) != data}
    largest = max(map(len, written.values()))
    for share in SHARES:
        full = place(f"full{share}")
        words = COMMANDS[name](full)
        earlier = full.files()
        ended = rhm(*words, largest_file=int(share * largest))
        assert ended.code == 2, f"{share}: {ended}"
        assert not ended.faults, f"{share}: {ended}"
        assert "File too large" in ended.err, f"{share}: {ended}"
        # Nothing is lost or half-written: a file is as it was, or as the whole command writes it.
        left = full.files()
        for key, data in earlier.items():
            assert left[key] in (data, written.get(key)), f"{share}: {key}"
        assert not [key for key in left if "/.rhm." in f"/{key}"], share
        if name not in RESUMABLE:
            continue
        # There is room again, and what failed does not block its repetition.
        ended = rhm(*words)
        if ended.code == 2 and "--resume" in ended.err:
            ended = rhm(*words, "--resume")
        assert ended.code == 0, f"{share}: {ended}"
        assert full.files().keys() >= {key for key in whole.files() if "attempt" not in key}
