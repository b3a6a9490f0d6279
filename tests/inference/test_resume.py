"""However a prediction ends, going on with it gives the files of one that was not disturbed."""

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import torch
from torch import nn

from rhm.errors import OutputError
from rhm.inference import predict_raster
from rhm.inference.plan import Plan
from rhm.inference.polygons import PolygonConfig
from rhm.inference.scenes import _finishing
from rhm.inference.tiling.journal import StripJournal
from tests.data.imagery import noise, write_raster
from tests.forked import start_server

OPTIONS: dict[str, Any] = {
    "tile": 64,
    "overlap": 16,
    "dtype": "uint8",
    "polygons": PolygonConfig(threshold=0.5, simplify_m=0.7),
}


class Counting(nn.Module):
    """A small convolution that counts the tiles it sees."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(3, 1, 5, padding=2, bias=False)
        weight = torch.randn(self.conv.weight.shape, generator=generator)
        self.conv.weight.data = weight - weight.mean()
        self.seen = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += len(images)
        logits: torch.Tensor = self.conv(images)
        return logits


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a scene of six strips of four tiles, with spots large enough to be footprints."""
    pixels = cv2.resize(noise(29, 19), (190, 290), interpolation=cv2.INTER_CUBIC)
    return write_raster(tmp_path_factory.mktemp("scene") / "x.tif", pixels)


@pytest.fixture(scope="module")
def whole(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a prediction that was not disturbed."""
    result = predict_raster(Counting(), scene, tmp_path_factory.mktemp("whole"), **OPTIONS)
    assert result.count > 20
    return files(result.mask.parent)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class Killed(BaseException):
    """Stands for any end of the process."""


def interrupted(after: int) -> Any:
    """Return a progress that ends it all after some strips."""
    calls = 0

    def progress(pixels: int) -> None:
        nonlocal calls
        calls += pixels > 0
        if calls == after:
            raise Killed

    return progress


@pytest.mark.parametrize("after", range(1, 7))
def test_what_is_finished_is_not_predicted_again(
    scene: Path, whole: dict[str, bytes], tmp_path: Path, after: int
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Killed):
        predict_raster(Counting(), scene, out, on_progress=interrupted(after), **OPTIONS)
    if after < 6:  # with the last strip the results come, too
        assert not files(out)
    model = Counting()
    done: list[int] = []
    predict_raster(model, scene, out, resume=True, on_progress=done.append, **OPTIONS)
    assert files(out) == whole
    assert sum(done) == 290 * 190
    rows_of_tiles = 6 - after
    # The row of tiles above reaches into the first missing strip.
    assert model.seen == 4 * (rows_of_tiles + 1 if rows_of_tiles else 0)
    assert sorted(path.name for path in out.iterdir()) == sorted(files(out))


def test_it_can_be_cut_short_again_and_again(
    scene: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for _ in range(5):
        with pytest.raises(Killed):
            predict_raster(
                Counting(), scene, out, resume=True, on_progress=interrupted(2), **OPTIONS
            )
    predict_raster(Counting(), scene, out, resume=True, **OPTIONS)
    assert files(out) == whole


@pytest.mark.parametrize("name", ["_written", "write_footprints"])
def test_an_end_while_the_results_are_written(
    scene: Path, whole: dict[str, bytes], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    def failing(rows: Any, *_: Any, **__: Any) -> Any:
        for _ in rows:
            pass
        raise Killed

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(f"rhm.inference.scenes.{name}", failing)
        with pytest.raises(Killed):
            predict_raster(Counting(), scene, out, **OPTIONS)
    assert not files(out)
    # As a killed process leaves them.
    (out / ".x.rhm-parts" / ".rhm.killed").mkdir()
    model = Counting()
    predict_raster(model, scene, out, resume=True, **OPTIONS)
    assert not list(out.glob(".*"))
    assert model.seen == 0
    assert files(out) == whole


def test_what_cannot_be_written_ends_the_prediction_soon(
    scene: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OutputError("disk full")

    writing: list[Future[Any]] = []

    @contextmanager
    def watched(plan: Plan, parts: StripJournal) -> Iterator[Future[Any]]:
        with _finishing(plan, parts) as finished:
            writing.append(finished)
            yield finished

    class Slow(Counting):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            wait(writing, timeout=60)
            return super().forward(images)

    model, out = Slow(), tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr("rhm.inference.scenes.write_footprints", full)
        patched.setattr("rhm.inference.scenes._finishing", watched)
        with pytest.raises(OutputError, match="disk full"):
            predict_raster(model, scene, out, **OPTIONS)
    assert 0 < model.seen < 24
    predict_raster(Counting(), scene, out, resume=True, **OPTIONS)
    assert files(out) == whole


def test_strips_of_another_prediction_are_not_used(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for changes in ({"overlap": 8}, {"views": True}, {"dtype": "float32"}):
        whole = predict_raster(Counting(), scene, tmp_path / "whole", **OPTIONS | changes)
        with pytest.raises(Killed):
            predict_raster(Counting(), scene, out, on_progress=interrupted(3), **OPTIONS)
        predict_raster(Counting(), scene, out, resume=True, **OPTIONS | changes)
        assert files(out) == files(whole.mask.parent)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(
    "other",
    [
        {"polygons": PolygonConfig(threshold=0.6, regularize_m=2.0)},
        {"suffix": ".fgb"},
        {"compress": "zstd"},
    ],
)
def test_other_footprints_are_made_of_the_same_probabilities(
    scene: Path, tmp_path: Path, dtype: str, other: dict[str, Any]
) -> None:
    first, then = OPTIONS | {"dtype": dtype}, OPTIONS | {"dtype": dtype} | other
    whole = predict_raster(Counting(), scene, tmp_path / "whole", **then)
    out, model = tmp_path / "out", Counting()
    predict_raster(model, scene, out, **first)
    seen, done = model.seen, list[int]()
    result = predict_raster(model, scene, out, resume=True, on_progress=done.append, **then)
    assert model.seen == seen
    assert sum(done) == 290 * 190
    assert "the probabilities already existed" in result.notes
    made = files(out)
    assert {name: made[name] for name in files(whole.mask.parent)} == files(whole.mask.parent)


def test_damaged_probabilities_are_said(scene: Path, tmp_path: Path) -> None:
    model = Counting()
    result = predict_raster(model, scene, tmp_path / "out", **OPTIONS)
    stored = result.probability.read_bytes()
    # From its beginning: a later part of a compressed block may be taken for other pixels.
    with rasterio.open(result.probability) as raster:
        start = int(raster.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    result.probability.write_bytes(stored[:start] + bytes(len(stored) - start))
    others = OPTIONS | {"suffix": ".geojson"}
    with pytest.raises(OutputError, match=r"probability\.tif cannot be read: .* without --resume"):
        predict_raster(model, scene, tmp_path / "out", resume=True, **others)
    predict_raster(model, scene, tmp_path / "out", **others)


def test_without_resume_it_begins_anew(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        predict_raster(Counting(), scene, tmp_path, on_progress=interrupted(3), **OPTIONS)
    model = Counting()
    predict_raster(model, scene, tmp_path, **OPTIONS)
    assert model.seen == 24


def parts_of(scene: Path, out: Path) -> Path:
    with pytest.raises(Killed):
        predict_raster(Counting(), scene, out, on_progress=interrupted(4), **OPTIONS)
    return out / ".x.rhm-parts"


def test_strips_that_are_not_whole_are_predicted_again(
    scene: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    parts = parts_of(scene, out)
    first, second, third, _ = sorted(parts.glob("strip-*"))
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(bytes(len(second.read_bytes())))
    third.unlink()
    journal = parts / "journal.jsonl"
    journal.write_text(journal.read_text()[:-9])  # a line cut off by the end
    predict_raster(Counting(), scene, out, resume=True, **OPTIONS)
    assert files(out) == whole


@pytest.mark.parametrize(
    "text", ["", "[]\n", "nonsense", '{"prediction": 1}\n', "\x00", "null\n{}\n"]
)
def test_a_journal_of_nonsense_begins_anew(scene: Path, tmp_path: Path, text: str) -> None:
    out = tmp_path / "out"
    (parts_of(scene, out) / "journal.jsonl").write_text(text)
    model = Counting()
    predict_raster(model, scene, out, resume=True, **OPTIONS)
    assert model.seen == 24


@pytest.mark.parametrize(
    "entry", [{"strip": 99}, {"strip": "../x"}, {"strip": 5, "bytes": 1}, {}, {"strip": True}]
)
def test_a_journal_with_strange_entries_does_no_harm(
    scene: Path, whole: dict[str, bytes], tmp_path: Path, entry: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    with (parts_of(scene, out) / "journal.jsonl").open("a") as journal:
        journal.write(json.dumps(entry) + "\n")
    predict_raster(Counting(), scene, out, resume=True, **OPTIONS)
    assert files(out) == whole


def test_two_runs_do_not_write_the_same_results(scene: Path, tmp_path: Path) -> None:
    def second(_: int) -> None:
        with pytest.raises(OutputError, match="another run"):
            predict_raster(Counting(), scene, tmp_path, resume=True, **OPTIONS)

    predict_raster(Counting(), scene, tmp_path, on_progress=second, **OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_failure_before_anything_is_finished_leaves_nothing(scene: Path, tmp_path: Path) -> None:
    def failing(images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        predict_raster(failing, scene, tmp_path / "out", **OPTIONS)
    assert not list((tmp_path / "out").iterdir())


def predict_slowly(begun: "Connection[None, None]", scene: Path, out: Path) -> None:
    begun.send(None)
    options = OPTIONS | {"on_progress": lambda _: time.sleep(0.03)}
    predict_raster(Counting(), scene, out, resume=True, **options)


def predicting(scene: Path, out: Path) -> BaseProcess:
    """Predict in another process, and return it once it has begun.

    It is not forked from this one, whose threads may hold locks for ever then.
    """
    start_server()
    context = get_context("forkserver")
    ours, theirs = context.Pipe()
    child = context.Process(target=predict_slowly, args=(theirs, scene, out))
    child.start()
    theirs.close()
    ours.recv()
    return child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows")
def test_a_killed_process_can_be_gone_on_with(
    scene: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    rng = np.random.default_rng(0)
    for _ in range(6):
        child = predicting(scene, out)
        time.sleep(rng.uniform(0.0, 0.25))
        child.kill()
        child.join()
    predict_raster(Counting(), scene, out, resume=True, **OPTIONS)
    assert files(out) == whole
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
