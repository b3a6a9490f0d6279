"""The options of worker processes, and invalid values."""

import pytest

from rhm.errors import ConfigError
from rhm.inference.settings.worker_config import WorkerConfig, amounts
from rhm.system import MOST_WORKERS


def test_amounts_are_read() -> None:
    assert amounts("GPU=1, MEMORY=4e9") == {"GPU": 1.0, "MEMORY": 4e9}


@pytest.mark.parametrize("text", ["", "GPU", "GPU=", "=1", "GPU=0", "GPU=-1", "GPU=a", "GPU=1,"])
def test_other_words_are_no_amounts(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a list of resources such as GPU=1"):
        amounts(text)


def test_resources_are_of_dask() -> None:
    assert WorkerConfig(dask="local", resources={"GPU": 1.0}).workers == 1
    with pytest.raises(ConfigError, match="give --dask too"):
        WorkerConfig(resources={"GPU": 1.0})
    with pytest.raises(ConfigError, match="workers must be at least 1"):
        WorkerConfig(0)
    # More than a machine can have any use for are those of a cluster.
    assert WorkerConfig(500, dask="tcp://head:8786").workers == 500
    for dask in (None, "local"):
        with pytest.raises(ConfigError, match=f"--workers must be between 1 and {MOST_WORKERS} on"):
            WorkerConfig(MOST_WORKERS + 1, dask=dask)
