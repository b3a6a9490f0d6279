"""The options of the processes that predict."""

from collections.abc import Mapping
from dataclasses import dataclass

from rhm.errors import ConfigError
from rhm.inference.settings.option import check_options, option
from rhm.system import MOST_WORKERS


def amounts(text: str) -> dict[str, float]:
    """Return the amounts in a text such as ``GPU=1,MEMORY=4``, by name.

    Raises:
        ConfigError: the text has another form, or an amount is not positive.
    """
    try:
        pairs = (part.split("=") for part in text.split(","))
        found = {name.strip(): float(amount) for name, amount in pairs}
    except ValueError:
        found = {}
    if not found or not all(name and amount > 0 for name, amount in found.items()):
        raise ConfigError(f"'{text}' is not a list of resources such as GPU=1")
    return found


@dataclass(frozen=True)
class WorkerConfig:
    """The options of the processes that predict: one, several, or those of a Dask cluster.

    Raises:
        ConfigError: a value is not allowed, there are more processes than one machine has any use
            for, or resources are given without Dask.
    """

    workers: int = option(
        1,
        "Number of processes that predict on this machine; with several GPUs, each takes the next.",
        least=1,
    )
    dask: str | None = option(
        None, "Address of a Dask scheduler, such as tcp://head:8786, or local for this machine."
    )
    resources: Mapping[str, float] | None = option(
        None, "Resources of a worker that each Dask job needs, such as GPU=1.", parse=amounts
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.dask in (None, "local") and self.workers > MOST_WORKERS:
            raise ConfigError(
                f"--workers must be between 1 and {MOST_WORKERS} on this machine, got "
                f"{self.workers}"
            )
        if self.resources is not None and self.dask is None:
            raise ConfigError("--resources applies only to Dask jobs: give --dask too")
