"""Strips on a Dask cluster: the files are those of one process, whoever is lost."""

import os
import signal
import threading
from pathlib import Path

import pytest

from rhm.errors import ConfigError
from rhm.inference import predict_raster
from rhm.inference.tiling.dask_cluster import DaskCluster
from rhm.inference.tiling.workers import ModelSource
from rhm.models.model_file import load_model
from tests.inference.tiling.predicted import OPTIONS, files


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
    pytest.importorskip("distributed", reason="needs the extra dask")
    source = ModelSource.of(model, None, "cpu")
    for address in ("nonsense://x", "tcp://127.0.0.1:1"):
        with pytest.raises(ConfigError, match="no Dask scheduler answers"):
            DaskCluster(source, address, timeout_s=1)
