"""However many processes predict, the files are those of one."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rhm.errors import ModelFileError, OutputError, RasterError
from rhm.inference import predict_raster
from rhm.inference.plan import plan_prediction
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.tiling.strips import Strip, Task
from rhm.inference.tiling.workers import (
    _NUMBER,
    LocalProcesses,
    ModelSource,
    _begin,
    _check_scene,
    _network,
    jobs,
    predict_job,
)
from rhm.models.build import SegmentationModel
from rhm.models.model_file import load_model, save_model
from rhm.models.named_models import VARIABLE
from rhm.models.spec import ModelSpec
from tests.data.imagery import noise, write_raster
from tests.inference.tiling.predicted import OPTIONS, files

CONFIG = PredictionConfig(tile=64, overlap=16)


@st.composite
def runs(draw: st.DrawFn) -> list[range]:
    lengths = draw(st.lists(st.integers(1, 90), min_size=1, max_size=6))
    gaps = draw(st.lists(st.integers(1, 9), min_size=len(lengths), max_size=len(lengths)))
    found, first = [], 0
    for length, gap in zip(lengths, gaps, strict=True):
        found.append(range(first, first + length))
        first += length + gap
    return found


@given(runs(), st.integers(1, 40))
def test_jobs_hold_every_missing_strip_once(missing: list[range], workers: int) -> None:
    cut = jobs(missing, workers)
    assert [strip for job in cut for strip in job] == [each for run in missing for each in run]
    assert all(len(job) for job in cut)


@pytest.mark.parametrize(
    ("strips", "workers", "lengths"),
    [(12, 2, [6, 6]), (3, 8, [1, 1, 1]), (64, 2, [8] * 8), (1, 1, [1]), (100, 3, [8, 9])],
)
def test_jobs_are_enough_for_all_and_long(strips: int, workers: int, lengths: list[int]) -> None:
    cut = jobs([range(strips)], workers)
    if len(set(lengths)) == 1:
        assert [len(job) for job in cut] == lengths
    assert set(map(len, cut)) <= set(lengths)


@pytest.mark.parametrize(
    ("gpus", "device", "runtime", "expected"),
    [
        (2, "auto", "torch", ["cuda:0", "cuda:1", "cuda:0"]),
        (2, "cuda", "torch", ["cuda:0", "cuda:1", "cuda:0"]),
        (2, "cuda:1", "torch", ["cuda:1"] * 3),
        (2, "cpu", "torch", ["cpu"] * 3),
        (2, "auto", "onnx", ["auto"] * 3),
        (1, "auto", "torch", ["auto"] * 3),
    ],
)
def test_each_process_takes_the_next_gpu(
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpus: int,
    device: str,
    runtime: str,
    expected: list[str],
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr(ModelSource, "load", lambda source: loaded.append(source.device))
    monkeypatch.setattr("rhm.inference.tiling.workers._NUMBER", [])
    begun = get_context("spawn").Value("i", 0)
    for _ in range(3):
        _begin(torch.get_num_threads(), begun)
        _network.cache_clear()
        _network(ModelSource.of(model, None, device, runtime))
    _network.cache_clear()
    assert loaded == expected


def test_processes_of_a_pool_are_numbered(model: Path) -> None:
    with LocalProcesses(ModelSource.of(model, None, "cpu"), 2, threads=1) as workers:
        pending = [workers._pool.submit(numbered) for _ in range(20)]
        numbers = dict(each.result() for each in pending)
    assert sorted(numbers.values()) == list(range(len(numbers)))
    assert len(numbers) == 2


def numbered() -> tuple[int, int]:
    time.sleep(0.2)  # so that one process does not do everything
    (number,) = _NUMBER
    return os.getpid(), number


def test_processes_of_this_machine_give_the_same_files(
    model: Path, scene: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    with LocalProcesses(ModelSource.of(model, None, "cpu"), 2, threads=1) as workers:
        predict_raster(load_model(model), scene, tmp_path, workers=workers, **OPTIONS)
        assert files(tmp_path) == alone
        damaged = tmp_path / "damaged.tif"
        damaged.write_bytes(scene.read_bytes()[:90_000])
        with pytest.raises(RasterError, match="cannot be"):
            predict_raster(load_model(model), damaged, tmp_path, workers=workers, **OPTIONS)


def test_a_process_that_is_killed_is_said_and_the_rest_is_kept(
    model: Path, scene: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    with LocalProcesses(ModelSource.of(model, None, "cpu"), 1) as workers:

        def kill(_: int) -> None:
            for pid in workers._pool._processes:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.5)

        with pytest.raises(OutputError, match="out of memory"):
            # Two runs of missing strips, so that there is a job left to be lost.
            predict_raster(
                load_model(model), scene, tmp_path, workers=Halved(workers, kill), **OPTIONS
            )
    predict_raster(load_model(model), scene, tmp_path, resume=True, **OPTIONS)
    assert files(tmp_path) == alone


class Halved:
    """Hands workers one half after the other, and does something in between."""

    def __init__(self, workers: Any, between: Callable[[int], None]) -> None:
        self.workers, self.between = workers, between

    def predict(self, task: Task, missing: Sequence[range]) -> Iterator[Strip]:
        (run,) = missing
        middle = len(run) // 2
        yield from self.workers.predict(task, [run[:middle]])
        self.between(middle)
        yield from self.workers.predict(task, [run[middle:]])

    def stop(self) -> None:
        self.workers.stop()


def test_a_name_or_a_relative_path_is_the_same_file_in_any_folder(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, run = tmp_path / "models" / "town", tmp_path / "run"
    for folder in (named, run):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(model.read_bytes())
    (run / "adapter.safetensors").write_bytes(b"low ranks")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    by_name, by_path = ModelSource.of("town", None, "cpu"), ModelSource.of("run", "run")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.chdir(run)
    assert by_name.model == str(named / "model.safetensors")
    assert by_name.load() is not None
    assert by_path.model == str(run / "model.safetensors")
    assert by_path.adapter == str(run / "adapter.safetensors")
    assert ModelSource.of(Path("."), "adapter.safetensors") == by_path


def test_another_scene_under_the_same_path_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the worker has another file there, or the file is replaced."""
    source = ModelSource.of(model, None, "cpu")
    scene = write_raster(tmp_path / "x.tif", noise(70, 40))
    monkeypatch.chdir(tmp_path)
    plan = plan_prediction(load_model(model), "x.tif", tmp_path, CONFIG)
    monkeypatch.chdir(tmp_path.parent)
    (strip,) = predict_job(source, plan.task, range(1))
    assert strip.pixels == 6 * 40
    write_raster(scene, noise(70, 40, seed=1))
    os.utime(scene, ns=(1, 1))
    _check_scene.cache_clear()  # as in another process
    with pytest.raises(RasterError, match=r"x\.tif has changed .* or is another file on this"):
        predict_job(source, plan.task, range(1))


def test_another_model_under_the_same_path_is_refused(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(model.read_bytes())
    source = ModelSource.of(path, None, "cpu")
    assert source.load() is not None
    save_model(load_model(model).train(), path)
    save_model(SegmentationModel(ModelSpec("fpn", "mobilenetv3_small_050", bands=3)), path)
    with pytest.raises(ModelFileError, match="has changed"):
        source.load()


def test_processes_get_no_interrupts_and_end_with_the_block(model: Path) -> None:
    """Whatever they are doing, if it ends by an exception."""
    futures: list[Future[Any]] = []

    def interrupted() -> None:
        with LocalProcesses(ModelSource.of(model, None, "cpu"), 1) as workers:
            futures.append(workers._pool.submit(signal.getsignal, signal.SIGINT))
            assert futures[0].result() == signal.SIG_IGN
            futures.append(workers._pool.submit(time.sleep, 600))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert futures[1].done()
