"""Strips on a Dask cluster: the files are those of one process, whoever is lost."""

import gc
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from multiprocessing import get_all_start_methods
from pathlib import Path

import pytest

import rhm
from rhm.errors import ConfigError, OutputError, RasterError
from rhm.inference import predict_raster
from rhm.inference.tiling.dask_cluster import DaskCluster
from rhm.inference.tiling.workers import LocalProcesses, ModelSource
from rhm.models.model_file import load_model
from tests.inference.tiling.predicted import OPTIONS, files


@pytest.fixture(autouse=True, scope="module")
def forked_workers(model: Path) -> Iterator[None]:
    """Fork the workers from the process from which those of rhm are forked.

    Dask would otherwise start each of them with the imports, which take longer than its tests.
    """
    dask = pytest.importorskip("dask", reason="needs the extra dask")
    # Its defaults must be there first: leaving the setting would remove "distributed" altogether.
    pytest.importorskip("distributed", reason="needs the extra dask")
    if "forkserver" not in get_all_start_methods():
        yield
        return
    with LocalProcesses(ModelSource.of(model, None, "cpu"), 1) as started:
        assert started._pool.submit(abs, -1).result() == 1
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


def test_a_dask_worker_that_is_killed_is_replaced(
    model: Path, scene: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    pytest.importorskip("distributed", reason="needs the extra dask")
    with DaskCluster(ModelSource.of(model, None, "cpu"), "local", count=2) as workers:
        pids = list(workers._client.run(os.getpid).values())
        assert len(set(pids)) == 2
        killer = threading.Timer(0.2, os.kill, (pids[0], signal.SIGKILL))
        killer.start()
        predict_raster(load_model(model), scene, tmp_path, workers=workers, **OPTIONS)
        killer.join()
        assert files(tmp_path) == alone
        assert pids[0] not in workers._client.run(os.getpid).values()


def test_a_scheduler_that_does_not_answer_is_said(model: Path) -> None:
    """And no client is left, which could hold up the next one for ten seconds, and end it."""
    distributed = pytest.importorskip("distributed", reason="needs the extra dask")
    source = ModelSource.of(model, None, "cpu")
    for address in ("nonsense://x", "tcp://127.0.0.1:1"):
        with pytest.raises(ConfigError, match="no Dask scheduler answers") as refused:
            DaskCluster(source, address, timeout_s=1)
        assert not [each for each in gc.get_objects() if type(each) is distributed.Client]
        assert address in str(refused.value)


def test_local_workers_offer_the_resources_that_jobs_need(
    model: Path, scene: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    """Otherwise the jobs would wait for ever."""
    pytest.importorskip("distributed", reason="needs the extra dask")
    source = ModelSource.of(model, None, "cpu")
    with DaskCluster(source, "local", count=1, resources={"GPU": 1.0}) as workers:
        predict_raster(load_model(model), scene, tmp_path, workers=workers, **OPTIONS)
    assert files(tmp_path) == alone


def test_a_taken_dashboard_port_is_no_matter(model: Path) -> None:
    """Two predictions of one machine must not warn of one another."""
    pytest.importorskip("distributed", reason="needs the extra dask")
    source = ModelSource.of(model, None, "cpu")
    with DaskCluster(source, "local"), warnings.catch_warnings():
        warnings.simplefilter("error")
        with DaskCluster(source, "local") as second:
            served = second._cluster.scheduler.http_server
    assert served.address == "127.0.0.1"
    assert served.port != 8787


def test_errors_on_a_cluster_are_one_short_line(
    model: Path,
    scene: Path,
    alone: dict[str, bytes],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the extra dask")
    source = ModelSource.of(model, None, "cpu")
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        resources={"MEMORY": 4},
    ) as cluster:
        address = cluster.scheduler_address
        with pytest.raises(ConfigError) as refused:
            DaskCluster(source, address, resources={"GPU": 1.0})
        assert "no Dask worker offers GPU=1: the 1 connected workers offer MEMORY=4" in str(
            refused.value
        )
        with DaskCluster(source, address, resources={"MEMORY": 2.0}) as workers:
            network = load_model(model)
            damaged = tmp_path / "damaged.tif"
            damaged.write_bytes(scene.read_bytes()[:-20_000])
            with pytest.raises(RasterError, match=r"damaged\.tif cannot be read") as caught:
                predict_raster(network, damaged, tmp_path / "out", workers=workers, **OPTIONS)
            assert "\n" not in str(caught.value)
            assert "RasterError" not in capfd.readouterr().err  # in a log of a worker

            workers._client.run(become, "9.9.9")
            with pytest.raises(ConfigError, match=r"worker has rhm 9\.9\.9 instead of") as another:
                predict_raster(network, scene, tmp_path / "out", workers=workers, **OPTIONS)
            assert "torch" not in str(another.value)
            workers._client.run(become, rhm.__version__)
            predict_raster(network, scene, tmp_path / "out", workers=workers, **OPTIONS)
            assert files(tmp_path / "out") == alone

            for error, kind, told in (
                (OSError("Timed out " * 300), OutputError, "scheduler was lost (Timed out"),
                (CancelledError(), OutputError, "scheduler was lost (CancelledError)"),
                (ModuleNotFoundError("No module named 'rhm'"), ConfigError, "same Python packages"),
                (RuntimeError("Error during deserialization" * 99), ConfigError, "same Python"),
                (TypeError("_predict_or_tell() takes 3"), ConfigError, "same Python packages"),
            ):
                with monkeypatch.context() as patched:
                    patched.setattr(workers._client, "submit", raising(error))
                    with pytest.raises(kind) as told_so:
                        predict_raster(network, scene, tmp_path / "out", workers=workers, **OPTIONS)
                assert told in str(told_so.value)
                assert len(str(told_so.value)) < 300


def become(version: str) -> None:
    """Make a worker one of another version."""
    rhm.__version__ = version


def raising(error: Exception) -> Callable[..., None]:
    def submit(*_: object, **__: object) -> None:
        raise error

    return submit
