"""Benchmarks; law: each can be loaded, so that none is broken by a change elsewhere unnoticed."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")
def test_it_can_be_loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    try:
        runpy.run_path(str(path), run_name="loaded")
    finally:
        # Helpers of benchmarks have names that others could use.
        for name in set(sys.modules) - before:
            if (BENCHMARKS / f"{name}.py").is_file():
                del sys.modules[name]


@pytest.fixture
def kept_results(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "kept.py"))["KeptResults"]


def test_results_are_kept_once_whoever_adds_them(kept_results: Any, tmp_path: Path) -> None:
    file = tmp_path / "new" / "kept.jsonl"
    ours, theirs = kept_results(file, ("arm", "seed")), kept_results(file, ("arm", "seed"))
    ours.add({"arm": "a", "seed": 0, "iou": 0.5})
    theirs.add({"arm": "b", "seed": 0, "iou": 0.25})
    theirs.add({"arm": "a", "seed": 0, "iou": 0.125})

    assert kept_results(file, ("arm", "seed")).rows == theirs.rows
    assert sorted((row["arm"], row["iou"]) for row in theirs.rows) == [("a", 0.5), ("b", 0.25)]
    assert ours.has(arm="a", seed=0)
    assert not ours.has(arm="a", seed=1)


def test_a_result_that_was_cut_off_does_not_spoil_others(kept_results: Any, tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    kept_results(file, ("seed",)).add({"seed": 0})
    with file.open("a") as torn:
        torn.write('{"seed": 1, "io')
    kept_results(file, ("seed",)).add({"seed": 2})

    assert [row["seed"] for row in kept_results(file, ("seed",)).rows] == [0, 2]
