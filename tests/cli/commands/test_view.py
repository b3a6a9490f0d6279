"""``rhm view``: the address alone on standard output; Ctrl-C ends it."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from rhm.inference import predict_raster
from tests.viewer.conftest import Brightness, write_scene

Rhm = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_serves_until_it_is_ended_and_leaves_nothing(
    tmp_path: Path, kind: signal.Signals
) -> None:
    """Of its own process: a signal is what ends it."""
    if signal.getsignal(kind) is signal.SIG_IGN:
        pytest.skip("these tests run in the background, where this signal is ignored")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    scene = write_scene(tmp_path / "town.tif")
    predict_raster(Brightness(), scene, tmp_path / "out", tile=256)
    words = ["view", str(tmp_path / "out"), "--scene", str(scene), "--no-browser"]
    with subprocess.Popen(
        [sys.executable, "-m", "rhm.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "TMPDIR": str(temporary)},
    ) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            with urllib.request.urlopen(f"{url}scenes.json") as answer:  # noqa: S310
                assert b'"town"' in answer.read()
            assert len(list(temporary.glob("rhm-view-*"))) == 1
            process.send_signal(kind)
            printed, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, printed) == (0, "")
    assert "Traceback" not in said
    assert list(temporary.iterdir()) == []


def test_a_folder_without_predictions_is_one_line(rhm: Rhm, tmp_path: Path) -> None:
    code, printed, err = rhm("view", tmp_path, "--no-browser")
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert str(tmp_path) in err


def test_the_asset_of_an_item_is_chosen(rhm: Rhm, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "town.tif")
    predict_raster(Brightness(), scene, tmp_path / "out", tile=256)
    assets = {name: {"href": f"{name}.tif", "type": "image/tiff"} for name in ("red", "town")}
    item = tmp_path / "item.json"
    item.write_text(json.dumps({"type": "Feature", "id": "one", "assets": assets}))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ["view", tmp_path / "out", "--no-browser", "--port", taken.getsockname()[1]]
        code, _, said = rhm(*words, "--scene", item)
        assert (code, "with --asset: red, town" in said) == (2, True)
        # The scene is found, and only the port stops the server.
        code, _, said = rhm(*words, "--scene", item, "--asset", "town", "--with", tmp_path / "out")
    assert (code, said.count("\n")) == (2, 1)
    assert "port" in said
