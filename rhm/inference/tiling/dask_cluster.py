"""Prediction of strips on a Dask cluster."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, Self

from rhm.errors import ConfigError, OutputError
from rhm.inference.tiling.strips import Strip, Task
from rhm.inference.tiling.workers import ModelSource, jobs, predict_job

_RETRIES = 2


class DaskCluster:
    """Predicts strips on a Dask cluster; use it as a context manager.

    rhm must be installed on the workers, and they must find the scene and the model under the same
    paths. If a worker is lost, others take over its jobs.

    Args:
        model: model that every worker loads once.
        address: address of the scheduler, such as ``tcp://head:8786``, or ``local`` for processes
            on this machine.
        count: number of local processes.
        resources: resources of a worker that each job needs, such as ``{"GPU": 1}``.
        timeout_s: time to wait for the scheduler, in seconds.

    Raises:
        ConfigError: Dask is not installed, or the scheduler does not answer.
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
        try:
            if address == "local":
                self._cluster = self._dask.LocalCluster(
                    n_workers=count, threads_per_worker=1, dashboard_address=None
                )
                address = self._cluster.scheduler_address
            self._client = self._dask.Client(address, timeout=timeout_s)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"no Dask scheduler answers at {address}: {reason}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def predict(self, task: Task, missing: Sequence[range]) -> Iterator[Strip]:
        """Yield the strips of the missing ranges as they are finished.

        Raises:
            RasterError: the scene cannot be read.
            OutputError: the workers of a job were lost repeatedly.
        """
        slots = max(1, sum(self._client.nthreads().values()))
        futures = [
            self._client.submit(
                predict_job,
                self._model,
                task,
                job,
                pure=False,
                retries=_RETRIES,
                resources=self._resources,
            )
            for job in jobs(missing, slots)
        ]
        try:
            for future in self._dask.as_completed(futures):
                yield from future.result()
                future.release()
        except self._dask.KilledWorker as error:
            raise OutputError(
                "Dask repeatedly lost the workers of a job (out of memory?): continue with --resume"
            ) from error
        finally:
            self._client.cancel(futures)
