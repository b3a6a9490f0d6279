"""Prediction of strips in several processes on this machine."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch

from rhm.data.rasters.scene_identity import scene_identity
from rhm.errors import ModelFileError, OutputError, RasterError
from rhm.inference.runtime.runtimes import RUNTIMES
from rhm.inference.runtime.selection import network_for
from rhm.inference.runtime.tta import Network
from rhm.inference.tiling.strips import Strip, Task, predict_strips
from rhm.models.model_file import adapter_file, load_model
from rhm.models.named_models import model_file
from rhm.worker_processes import begin_worker, interrupts_held

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

    from rhm.inference.runtime.quantization import Quantization

_STRIPS_PER_JOB = 8
"""Minimum number of strips in a job, because its first row of tiles also belongs to the job before
it and is predicted twice."""


@dataclass(frozen=True)
class ModelSource:
    """The files of a model, from which other processes load the network.

    Attributes:
        model: model file.
        adapter: adapter file, or None.
        device: device as in ``network_for``.
        runtime: runtime as in ``network_for``; the same for all processes, because the last digits
            of their results differ.
        digest: hash of the files, which must be the same in every process.
        quantization: quantisation for computing in int8; None for floating-point numbers.
    """

    model: str
    adapter: str | None
    device: str
    runtime: str
    digest: str
    quantization: "Quantization | None" = field(default=None, hash=False)

    @classmethod
    def of(
        cls,
        model: str | os.PathLike[str],
        adapter: str | os.PathLike[str] | None = None,
        device: str = "auto",
        runtime: str = "torch",
        quantization: "Quantization | None" = None,
    ) -> "ModelSource":
        """Describe the network in the given files.

        Args:
            model: model file, folder of its run, or name of a model.
            adapter: adapter file, folder of its run, or None.
            device: device as in ``network_for``.
            runtime: runtime as in ``network_for``.
            quantization: quantisation for computing in int8; None for floating-point numbers.

        Returns:
            The description, with absolute paths, because workers may have another working folder.

        Raises:
            ModelFileError: a file does not exist.
        """
        weights = os.path.abspath(model_file(model))
        added = None if adapter is None else os.path.abspath(adapter_file(adapter))
        return cls(weights, added, device, runtime, _digest(weights, added), quantization)

    def load(self) -> Network:
        """Return the network.

        Raises:
            ModelFileError: the model cannot be loaded, or its files have changed.
            ConfigError: the device does not exist.
        """
        if _digest(self.model, self.adapter) != self.digest:
            raise ModelFileError(
                f"{self.model} has changed since the prediction began, or is another file on this "
                "worker"
            )
        network = load_model(self.model, adapter=self.adapter)
        precision = "float" if self.quantization is None else "int8"
        return network_for(
            network,
            device=self.device,
            runtime=self.runtime,
            precision=precision,
            quantization=self.quantization,
        )


class LocalProcesses:
    """Predicts strips in processes on this machine; use it as a context manager.

    If the machine has several GPUs and the device is ``auto`` or ``cuda``, each process takes the
    next of them.

    Args:
        model: model that every process loads once.
        count: number of processes, at least 1.
        threads: number of threads per process; by default the processes share all processors.
    """

    def __init__(self, model: ModelSource, count: int, threads: int | None = None) -> None:
        self._model = model
        self._count = count
        threads = threads or max(1, (os.cpu_count() or 1) // count)
        context = _context()
        with interrupts_held():
            self._pool = ProcessPoolExecutor(
                count,
                mp_context=context,
                initializer=_begin,
                initargs=(threads, context.Value("i", 0)),
            )
            for _ in range(count):
                self._pool.submit(int)  # each begins one process, unless one is idle

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None:
            self.stop()
        self._pool.shutdown(cancel_futures=True)

    def stop(self) -> None:
        """Kill all processes: what they have begun may take minutes, and nobody wants it."""
        for process in list((self._pool._processes or {}).values()):
            process.terminate()

    def predict(self, task: Task, missing: Sequence[range]) -> Iterator[Strip]:
        """Yield the strips of the missing ranges as they are finished.

        Raises:
            OutputError: a process was killed.
        """
        futures: list[Future[list[Strip]]] = []
        try:
            for job in jobs(missing, self._count):
                futures.append(self._pool.submit(predict_job, self._model, task, job))
            for future in as_completed(futures):
                yield from future.result()
        except BrokenProcessPool as error:
            raise OutputError(
                "a worker process was killed (out of memory?): use fewer --workers or a smaller "
                "--batch-size, and continue with --resume"
            ) from error
        finally:
            for future in futures:
                future.cancel()


def _context() -> BaseContext:
    """Return how processes are started, which is never by a fork of this one.

    A fork would lose the threads of torch and GDAL. Where the system can, processes are forked from
    one that has only imported this module, which takes seconds once instead of for each of them.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


_NUMBER: list[int] = []
"""How many processes of the pool had begun before this one; empty in a process of no pool."""


def _begin(threads: int, begun: "Synchronized[int]") -> None:
    """Begin a process of a pool."""
    begin_worker()
    torch.set_num_threads(threads)
    with begun.get_lock():
        _NUMBER[:] = [begun.value]
        begun.value += 1


def jobs(missing: Sequence[range], workers: int) -> list[range]:
    """Divide ranges of strips into jobs.

    There are enough jobs for all workers, but not many more, because every job predicts one
    additional row of tiles.

    Args:
        missing: ranges of consecutive strips.
        workers: number of workers that share the jobs.
    """
    total = sum(map(len, missing))
    rounds = max(1, total // (workers * _STRIPS_PER_JOB))
    wanted = -(-total // (workers * rounds))
    cut: list[range] = []
    for run in missing:
        count = -(-len(run) // wanted)
        edges = [run.start + len(run) * index // count for index in range(count + 1)]
        cut += [range(first, last) for first, last in pairwise(edges)]
    return cut


def predict_job(model: ModelSource, task: Task, strips: range) -> list[Strip]:
    """Predict consecutive strips, with a network that the process keeps from job to job.

    Args:
        model: model that the process loads once.
        task: task of the scene.
        strips: indices of the strips.

    Returns:
        The strips, from top to bottom.

    Raises:
        RasterError: the scene cannot be read, or is not the one that the task was made for.
        ModelFileError: the model cannot be loaded, or its files have changed.
    """
    if task.digest is not None:
        _check_scene(task.source.path, task.digest)
    return list(predict_strips(_network(model), task, strips))


# Once for all jobs of a scene, because some consist of thousands of files, or of objects on a
# server. Whether it changes later, the process that made the task checks at the end.
@lru_cache(maxsize=64)
def _check_scene(path: str, digest: str) -> None:
    if scene_identity(path).digest != digest:
        raise RasterError(
            f"{path} has changed since the prediction began, or is another file on this worker"
        )


@lru_cache(maxsize=2)
def _network(model: ModelSource) -> Network:
    gpus = torch.cuda.device_count()
    any_gpu = model.device in ("auto", "cuda") and "cuda" in RUNTIMES[model.runtime].devices
    if _NUMBER and gpus > 1 and any_gpu:
        model = replace(model, device=f"cuda:{_NUMBER[0] % gpus}")
    return model.load()


def _digest(model: str, adapter: str | None) -> str:
    digest = hashlib.sha256()
    for file in (model, *([adapter] if adapter else [])):
        try:
            digest.update(Path(file).read_bytes())
        except OSError as error:
            raise ModelFileError(f"cannot read {file}: {error.strerror or error}") from error
    return digest.hexdigest()
