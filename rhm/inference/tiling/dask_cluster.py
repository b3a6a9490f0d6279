"""Prediction of strips on a Dask cluster."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from importlib import import_module
from typing import Any, Self

import rasterio
import torch

import rhm
from rhm.errors import ConfigError, OutputError, RhmError, one_line
from rhm.inference.tiling.strips import Strip, Task
from rhm.inference.tiling.workers import ModelSource, jobs, predict_job

_RETRIES = 2


class DaskCluster:
    """Predicts strips on a Dask cluster; use it as a context manager.

    rhm must be installed on the workers, and they must find the scene and the model under the same
    paths, where other files are refused. If a worker is lost, others take over its jobs.

    Args:
        model: model that every worker loads once.
        address: address of the scheduler, such as ``tcp://head:8786``, or ``local`` for processes
            on this machine.
        count: number of local processes.
        resources: resources of a worker that each job needs, such as ``{"GPU": 1}``; every local
            process offers them.
        timeout_s: time to wait for the scheduler, in seconds.

    Raises:
        ConfigError: Dask is not installed, the scheduler does not answer, or workers are connected
            but none offers the resources.
    """

    def __init__(
        self,
        model: ModelSource,
        address: str,
        *,
        count: int = 1,
        resources: dict[str, float] | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        try:
            self._dask: Any = import_module("distributed")
        except ImportError as error:
            raise ConfigError(
                "--dask needs Dask, which is not installed: pip install 'rhm[dask]'"
            ) from error
        self._model = model
        self._resources = resources
        self._cluster: Any = None
        refusal = None
        try:
            if address == "local":
                self._cluster = self._dask.LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    dashboard_address=None,
                    # Even without one, the scheduler would listen on port 8787, and warn if taken.
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                    resources=resources,
                )
                address = self._cluster.scheduler_address
            self._client = self._dask.Client(address, timeout=timeout_s)
            self._check_resources()
        except (OSError, ValueError) as error:
            refusal = f"no Dask scheduler answers at {address}: {one_line(error, 160)}"
        except ConfigError:
            self.__exit__()
            raise
        if refusal is not None:
            if self._cluster is not None:
                self._cluster.close()
            # A client that could not connect is closed only when it is collected. If that happened
            # in the thread of the next client's loop, each of the two would wait for the other.
            gc.collect()
            raise ConfigError(refusal)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def stop(self) -> None:
        """Do nothing: a job that a machine elsewhere has begun is waited for."""

    def predict(self, task: Task, missing: Sequence[range]) -> Iterator[Strip]:
        """Yield the strips of the missing ranges as they are finished.

        Raises:
            RhmError: a worker cannot predict, such as a ``RasterError`` for a damaged scene or
                another one under its path.
            ConfigError: a worker cannot import rhm, or has another version of it, or of what its
                results depend on.
            OutputError: the workers of a job were lost repeatedly, or the scheduler was lost.
        """
        try:
            yield from self._predicted(task, missing)
        except RhmError:
            raise
        except self._dask.KilledWorker as error:
            raise OutputError(
                "Dask repeatedly lost the workers of a job (out of memory?): continue with --resume"
            ) from error
        except (CancelledError, OSError) as error:
            raise OutputError(
                f"the connection to the Dask scheduler was lost ({one_line(error, 160)}): continue "
                "with --resume"
            ) from error
        except (ImportError, AttributeError, RuntimeError, TypeError) as error:
            if isinstance(error, RuntimeError) and "deserializ" not in str(error):
                raise
            # Earlier versions have the function with other arguments.
            if isinstance(error, TypeError) and _predict_or_tell.__name__ not in str(error):
                raise
            raise ConfigError(
                "a Dask worker cannot run the jobs of this version of rhm: install the same Python "
                f"packages there ({one_line(error, 160)})"
            ) from error

    def _predicted(self, task: Task, missing: Sequence[range]) -> Iterator[Strip]:
        slots = max(1, sum(self._client.nthreads().values()))
        futures = [
            self._client.submit(
                _predict_or_tell,
                self._model,
                task,
                job,
                versions(),
                pure=False,
                retries=_RETRIES,
                resources=self._resources,
            )
            for job in jobs(missing, slots)
        ]
        try:
            for future in self._dask.as_completed(futures):
                found = future.result()
                if isinstance(found, RhmError):
                    raise found
                yield from found
                future.release()
        finally:
            with suppress(CancelledError, OSError):
                self._client.cancel(futures)

    def _check_resources(self) -> None:
        """Check that a connected worker offers the resources; others may still connect.

        Raises:
            ConfigError: workers are connected, but jobs would wait for ever.
        """
        if self._resources is None:
            return
        try:
            known = self._client.scheduler_info(n_workers=-1)
        except TypeError:  # before distributed 2025, it always returned all workers
            known = self._client.scheduler_info()
        offers = [worker["resources"] for worker in known["workers"].values()]
        if not offers or any(_suffices(offer, self._resources) for offer in offers):
            return
        kinds = dict.fromkeys(_told(offer) or "nothing" for offer in offers)
        raise ConfigError(
            f"no Dask worker offers {_told(self._resources)}: the {len(offers)} connected workers "
            f"offer {' or '.join(kinds)}; start workers with --resources, or ask for less"
        )


def versions() -> dict[str, str]:
    """Return the versions of the packages here on which results depend."""
    return {
        "rhm": rhm.__version__,
        # CPU and CUDA builds of one version are the same software.
        "torch": torch.__version__.partition("+")[0],
        "GDAL": rasterio.__gdal_version__,
    }


def _predict_or_tell(
    model: ModelSource, task: Task, strips: range, wanted: Mapping[str, str]
) -> list[Strip] | RhmError:
    """Predict strips like ``predict_job``, but return the errors of users instead of raising them.

    Dask would try again, log each traceback, and replace exceptions whose cause it cannot pickle.

    Args:
        model: model that the worker loads once.
        task: task of the scene.
        strips: indices of the strips.
        wanted: versions of the packages that results depend on.
    """
    here = versions()
    if here != dict(wanted):
        told = [
            f"{name} {version} instead of {wanted[name]}"
            for name, version in here.items()
            if version != wanted[name]
        ]
        return ConfigError(
            f"a Dask worker has {' and '.join(told)}: install the same Python packages there"
        )
    try:
        return predict_job(model, task, strips)
    except RhmError as error:
        return type(error)(str(error))


def _suffices(offer: Mapping[str, float], wanted: Mapping[str, float]) -> bool:
    return all(offer.get(name, 0.0) >= amount for name, amount in wanted.items())


def _told(resources: Mapping[str, float]) -> str:
    return ",".join(f"{name}={amount:g}" for name, amount in sorted(resources.items()))
