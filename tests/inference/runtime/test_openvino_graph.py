"""OpenVINO: its result for a batch depends on nothing but the batch, and nobody is told of it."""

import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rhm.errors import ConfigError, ModelFileError
from rhm.inference import network_for
from rhm.inference.runtime.openvino_graph import _MOST_SHAPES, CompiledGraph
from rhm.inference.runtime.runtimes import RUNTIMES
from rhm.inference.runtime.selection import is_usable
from tests.apart import program
from tests.inference.networks import BFLOAT16, built, needs_openvino, skip_unless_usable

pytestmark = needs_openvino

SHAPES = [(1, 3, 64, 64), (2, 3, 64, 64), (1, 3, 96, 64), (3, 3, 64, 96), (1, 3, 128, 128)]


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("runtime", ["openvino", BFLOAT16])
def test_results_do_not_depend_on_the_batches_before(runtime: str) -> None:
    """Law: more shapes than stay compiled, in any order, give the same bits."""
    skip_unless_usable(runtime)
    assert len(SHAPES) > _MOST_SHAPES
    network = RUNTIMES[runtime].open(built(), "cpu")
    first = {shape: network(images(*shape)) for shape in SHAPES}
    for shape in (*reversed(SHAPES), *SHAPES):
        assert torch.equal(network(images(*shape)), first[shape])
    again = RUNTIMES[runtime].open(built(), "cpu")
    for shape in SHAPES[::2]:
        assert torch.equal(again(images(*shape)), first[shape])


@pytest.mark.parametrize("runtime", ["openvino", BFLOAT16])
def test_results_do_not_depend_on_the_number_of_threads(runtime: str) -> None:
    """Law: the processes of a prediction may have more or fewer threads than a single one."""
    skip_unless_usable(runtime)
    seen, found = images(1, 3, 256, 256), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(RUNTIMES[runtime].open(built("unet", "resnet18"), "cpu")(seen))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[1], found[0])
    assert torch.equal(found[2], found[0])


def test_bfloat16_is_near_float32() -> None:
    """Oracle: float32. bfloat16 has eight significant bits, and many products are summed."""
    skip_unless_usable(BFLOAT16)
    network = network_for(built(), device="cpu", runtime=BFLOAT16)
    assert network.runtime == BFLOAT16
    seen = images(2, 3, 160, 224)
    expected = network_for(built(), device="cpu", runtime="openvino")(seen).sigmoid()
    found = network(seen)
    assert found.dtype == torch.float32
    difference = (found.sigmoid() - expected).abs()
    assert 0.0 < difference.mean() < 0.05 * expected.std()
    assert difference.max() < 0.5 * expected.std()


@pytest.mark.parametrize("can", [False, True])
def test_a_processor_that_cannot_is_one_line(can: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    capable = replace(RUNTIMES[BFLOAT16], processor=lambda: can)
    monkeypatch.setitem(RUNTIMES, BFLOAT16, capable)
    assert is_usable(BFLOAT16, "cpu") == can
    if not can:
        with pytest.raises(ConfigError, match="does not run on this processor") as caught:
            network_for(built(), device="cpu", runtime=BFLOAT16)
        assert "\n" not in str(caught.value)


def test_what_is_no_graph_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelFileError, match="OpenVINO cannot run the model") as caught:
        CompiledGraph(b"not a graph")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_nothing_is_reported_over_the_network(tmp_path: Path) -> None:
    """Oracle: a package in place of OpenVINO's reporter, whose import leaves a trace."""
    reporter, trace = tmp_path / "openvino_telemetry", tmp_path / "trace"
    reporter.mkdir()
    (reporter / "__init__.py").write_text(f"open({str(trace)!r}, 'w').close()\nraise ImportError\n")
    paths = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    plain = "import openvino.tools.ovc\n"
    still_there = "import importlib.util; assert importlib.util.find_spec('openvino_telemetry')\n"
    required = (
        "from rhm.inference.runtime.runtimes import RUNTIMES\n"
        "RUNTIMES['openvino'].require()\n"
        "import openvino.tools.ovc\n"
    )
    # As a worker gets it, which never asks whether the packages are installed.
    network = tmp_path / "network.pickle"
    network.write_bytes(pickle.dumps(RUNTIMES["openvino"].open(built(), "cpu")))
    unpickled = f"import pickle; pickle.load(open({str(network)!r}, 'rb'))\n"
    cases = [(plain, True), (required + still_there, False), (unpickled + still_there, False)]
    for code, reported in cases:
        trace.unlink(missing_ok=True)
        subprocess.run([sys.executable, "-c", paths + code], check=True)
        assert trace.exists() == reported


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Windows")
def test_signals_are_handled_after_a_network_has_gone_in_another_thread(tmp_path: Path) -> None:
    network = tmp_path / "network.pickle"
    network.write_bytes(pickle.dumps(RUNTIMES["openvino"].open(built(), "cpu")))
    finished = program(
        "import gc, os, pickle, signal, sys, threading, time, torch\n"
        "held = [pickle.load(open(sys.argv[1], 'rb'))]\n"
        "held[0](torch.zeros(1, 3, 64, 64))\n"
        "dropping = threading.Thread(target=lambda: (held.clear(), gc.collect()))\n"
        "dropping.start()\n"
        "dropping.join()\n"
        "seen = []\n"
        "signal.signal(signal.SIGUSR1, lambda *_: seen.append('handled'))\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "time.sleep(0.1)\n"
        "print(*seen)\n",
        network,
    )
    assert (finished.returncode, finished.stdout) == (0, "handled\n")
