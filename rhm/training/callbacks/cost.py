"""What training cost: time and memory, over all attempts at a run."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rhm.errors import ConfigError
from rhm.files import write_text
from rhm.records import MalformedError, Number, Text, Whole, parse, read_json, to_json

FILE = "cost.json"
"""Its name in the folder of a run, and of an attempt."""


@dataclass(frozen=True)
class Cost:
    """What was spent on training, validation on the way included.

    Attributes:
        seconds: of wall time, all attempts together.
        steps: of the optimiser, those included that an attempt lost.
        images: chips that were trained on.
        device: that it ran on.
        devices: number of them.
        memory_mb: most that the process, or one of its workers, held at a time, in MB (10^6);
            None where the system does not tell.
        device_memory_mb: most that tensors took on a GPU; None without one.
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


def read_cost(folder: Path) -> Cost | None:
    """Return what ``cost.json`` in a folder says, or None where there is none.

    Raises:
        ConfigError: it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return parse(Cost, read_json(path))
    except (MalformedError, OSError, ValueError, RecursionError):
        raise ConfigError(f"{path} cannot be read: move it away or train again") from None


def collect_cost(run: Path) -> Cost | None:
    """Add up the attempts at a run and write ``cost.json`` into its folder.

    Returns:
        The sum, or None where no attempt says what it cost.

    Raises:
        ConfigError: what an attempt says is damaged.
        OutputError: the folder cannot be written.
    """
    paths = sorted(
        (run / "logs").glob(f"attempt_*/{FILE}"),
        key=lambda path: int(path.parent.name.partition("_")[2]),
    )
    attempts = [cost for path in paths if (cost := read_cost(path.parent)) is not None]
    if not attempts:
        return None
    total = Cost(
        seconds=round(sum(each.seconds for each in attempts), 3),
        steps=sum(each.steps for each in attempts),
        images=sum(each.images for each in attempts),
        device=", ".join(dict.fromkeys(each.device for each in attempts)),
        devices=max(each.devices for each in attempts),
        memory_mb=_largest(each.memory_mb for each in attempts),
        device_memory_mb=_largest(each.device_memory_mb for each in attempts),
    )
    write_cost(total, run)
    return total


def _largest(amounts: Iterable[float | None]) -> float | None:
    return max((amount for amount in amounts if amount is not None), default=None)
