"""The loader of chips, whose workers report mistakes of users as this process would."""

from collections.abc import Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Sampler

from rhm.errors import ConfigError, RhmError

_LACK_OF_SHARED_MEMORY = ("shared memory", "Bus error", "unable to write to file </torch_")


_Sample = TypeVar("_Sample")


class ChipLoader(DataLoader[_Sample]):
    """A loader that raises the errors of its workers in one line, without their tracebacks.

    Raises:
        RhmError: what a worker raised.
        ConfigError: the workers ran out of memory.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield batches of chips."""
        try:
            yield from super().__iter__()
        except Exception as error:
            explained = explain(error)
            if explained is None:
                raise
            # The frames of the error lead to the iterator of the loader. If it were left to the
            # garbage collector, its queues would be closed before it could tell the workers to
            # end, and it would wait for each of them for five seconds and more.
            raise explained from error.with_traceback(None)


class SeededSampler(Sampler[int]):
    """Indices of an endless stream of samples, one epoch at a time.

    Epoch e begins at index ``e * samples``. Process r of n takes every n-th index, starting with
    the r-th, so that n processes together see exactly the global batches of a single process.

    Args:
        samples: number of samples per epoch, over all processes.
        rank: rank of this process.
        world_size: number of processes.
    """

    def __init__(self, samples: int, *, rank: int = 0, world_size: int = 1) -> None:
        if samples % world_size:
            raise ValueError(f"{samples} samples cannot be shared evenly by {world_size} processes")
        self._samples = samples
        self._rank = rank
        self._world_size = world_size
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; Lightning calls this."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._samples // self._world_size

    def __iter__(self) -> Iterator[int]:
        first = self._epoch * self._samples
        return iter(range(first + self._rank, first + self._samples, self._world_size))


def explain(error: Exception) -> RhmError | None:
    """Return the error of a loader's worker as if this process had met with it.

    None stands for errors that are right as they are, and for defects.
    """
    text = str(error)
    if isinstance(error, RhmError):
        if "in DataLoader worker process" not in text:
            return None
        # The worker's traceback, which ends with "package.Class: message".
        return type(error)(text.rstrip().rpartition("\n")[2].partition(": ")[2])
    # NumPy's error of this kind cannot be raised again with the text of a worker's traceback.
    if isinstance(error, MemoryError) or "MemoryError in DataLoader worker process" in text:
        return ConfigError(
            "reading chips needs more memory than there is: lower data.chip_px, "
            "trainer.batch_size or data.workers"
        )
    if not isinstance(error, RuntimeError):
        return None
    if "is killed by signal: Killed" in text:
        return ConfigError(
            "a worker that reads chips was killed (out of memory?): lower data.workers or "
            "trainer.batch_size"
        )
    if any(phrase in text for phrase in _LACK_OF_SHARED_MEMORY):
        return ConfigError(
            "the workers that read chips ran out of shared memory (/dev/shm): give a container "
            "more of it (docker run --shm-size 8g), or set data.workers=0"
        )
    return None
