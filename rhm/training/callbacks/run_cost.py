"""The cost of training: time and memory, over all attempts at a run."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rhm.documents import read_json
from rhm.errors import ConfigError
from rhm.files import write_text
from rhm.records import MalformedError, Number, Text, Whole, parse, to_json

FILE = "cost.json"
"""Name of the file in the folder of a run, and of an attempt."""

_ATTEMPT = re.compile(r"attempt_(0|[1-9]\d*)", re.ASCII)


@dataclass(frozen=True)
class Cost:
    """The cost of training, including the validation in between.

    Attributes:
        seconds: wall time of all attempts together, in seconds.
        steps: number of optimiser steps, including those that an interrupted attempt lost.
        images: number of training chips.
        device: name of the device.
        devices: number of devices.
        memory_mb: peak memory of the process or of one of its workers, in MB (10^6 bytes); None if
            the system does not report it.
        device_memory_mb: peak memory of tensors on a GPU, in MB; None without a GPU.
    """

    seconds: Number
    steps: Whole
    images: Whole
    device: Text
    devices: Whole
    memory_mb: Number | None
    device_memory_mb: Number | None


def write_cost(cost: Cost, folder: Path) -> None:
    """Write ``cost.json`` into a folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_text(folder / FILE, to_json(cost, indent=2))


def attempt_folders(logs: Path) -> dict[int, Path]:
    """Return the folders of the attempts at a run by their numbers, in this order.

    Others, such as a copy that somebody made of one, are left out.
    """
    named = ((_ATTEMPT.fullmatch(path.name), path) for path in logs.glob("attempt_*"))
    return dict(sorted((int(found[1]), path) for found, path in named if found))


def read_cost(folder: Path) -> Cost | None:
    """Read ``cost.json`` from a folder; return None if it does not exist.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return parse(Cost, read_json(path))
    except (MalformedError, OSError, ValueError):
        raise ConfigError(f"{path} cannot be read: move it away or train again") from None


def collect_cost(run: Path) -> Cost | None:
    """Add up the costs of the attempts at a run, and write ``cost.json`` into its folder.

    Returns:
        The total, or None if no attempt recorded its cost.

    Raises:
        ConfigError: the record of an attempt is damaged.
        OutputError: the folder cannot be written.
    """
    folders = attempt_folders(run / "logs")
    attempts = [cost for folder in folders.values() if (cost := read_cost(folder)) is not None]
    if not attempts:
        return None
    total = Cost(
        seconds=round(sum(attempt.seconds for attempt in attempts), 3),
        steps=sum(attempt.steps for attempt in attempts),
        images=sum(attempt.images for attempt in attempts),
        device=", ".join(dict.fromkeys(attempt.device for attempt in attempts)),
        devices=max(attempt.devices for attempt in attempts),
        memory_mb=_largest(attempt.memory_mb for attempt in attempts),
        device_memory_mb=_largest(attempt.device_memory_mb for attempt in attempts),
    )
    write_cost(total, run)
    return total


def _largest(amounts: Iterable[float | None]) -> float | None:
    return max((amount for amount in amounts if amount is not None), default=None)
