"""Which processes predict."""

from collections.abc import Mapping
from dataclasses import dataclass

from rhm.errors import ConfigError
from rhm.inference.settings.option import check_options, option


def amounts(text: str) -> dict[str, float]:
    """Read ``GPU=1,MEMORY=4``.

    Raises:
        ConfigError: the text is something else.
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
    """Which processes predict: this one, several on this machine, or a Dask cluster's.

    Raises:
        ConfigError: a value is not allowed, or there are resources without Dask.
    """

    workers: int = option(1, "Processes that predict, on this machine.", least=1)
    dask: str | None = option(None, "Dask scheduler, as tcp://head:8786; or local.")
    resources: Mapping[str, float] | None = option(
        None, "What each Dask job takes of a worker, as GPU=1.", parse=amounts
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.resources is not None and self.dask is None:
            raise ConfigError("--resources are of Dask jobs: give --dask too")
