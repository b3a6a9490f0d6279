"""The loader; law: a mistake in a worker reads as it would without workers."""

import multiprocessing
from typing import Any

import numpy as np
import pytest
from torch.utils.data import Dataset

from rhm.data.chip_loader import ChipLoader, explain
from rhm.errors import ConfigError, RasterError


class Broken(Dataset[Any]):
    """A dataset whose second item cannot be read."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        if index == 1:
            raise self.error
        return index


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_is_one_line(workers: int) -> None:
    loader = ChipLoader(Broken(RasterError("a.tif: cannot be read: no data")), num_workers=workers)
    batches = iter(loader)
    next(batches)
    with pytest.raises(RasterError) as caught:
        next(batches)
    assert str(caught.value) == "a.tif: cannot be read: no data"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_defect_keeps_its_traceback(workers: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(ChipLoader(Broken(ZeroDivisionError("a defect")), num_workers=workers))


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        (
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that "
            "dataloader's workers are out of shared memory. Please try to raise your shared "
            "memory limit.",
            "--shm-size",
        ),
        ("unable to write to file </torch_1_2_3>: No space left on device (28)", "--shm-size"),
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "lower data.workers"),
    ],
)
def test_too_little_memory_is_explained(message: str, advice: str) -> None:
    explained = explain(RuntimeError(message))
    assert isinstance(explained, ConfigError)
    assert advice in str(explained)


@pytest.mark.parametrize("workers", [0, 1])
def test_chips_beyond_the_memory_are_explained(workers: int) -> None:
    # What NumPy raises, with the shape and dtype of an array.
    error = np._core._exceptions._ArrayMemoryError((1 << 30, 1 << 30), np.dtype("float32"))  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"more memory than there is: lower data\.chip_px"):
        list(ChipLoader(Broken(error), num_workers=workers))


def test_other_failures_are_not_explained_away() -> None:
    assert explain(RuntimeError("size mismatch")) is None
    assert explain(RasterError("a.tif: cannot be read")) is None


def test_workers_end_with_the_error() -> None:
    loader = ChipLoader(Broken(RasterError("a.tif: cannot be read")), num_workers=2)
    others = set(multiprocessing.active_children())  # of tests before, not yet collected
    with pytest.raises(RasterError) as caught:
        list(loader)
    # The error, and thus its frames, is still there.
    assert caught.value is not None
    assert set(multiprocessing.active_children()) <= others
