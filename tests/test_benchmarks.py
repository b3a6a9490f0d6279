"""Benchmarks; law: each can be loaded, so that none is broken by a change elsewhere unnoticed."""

import argparse
import math
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parent.parent
BENCHMARKS = TOP / "benchmarks"


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


_PYTHON = r"(?:\w+=\S+ )*\S*python3? "
_COMMAND = _PYTHON + "benchmarks/"


def documented() -> Iterator[str]:
    """Yield every command of a benchmark in the documentation and in what benchmarks say."""
    pages = [*TOP.glob("*.md"), *TOP.glob("docs/**/*.md"), *BENCHMARKS.glob("*.py")]
    for page in sorted(pages):
        text = page.read_text("utf-8").replace("\\\n", " ")
        for quoted, line in re.findall(
            rf"`({_COMMAND}[^`]+)`|^ +({_COMMAND}.+)$", text, re.MULTILINE
        ):
            required = re.sub(rf"^{_PYTHON}|\[[^]]*\]", "", quoted or line)
            yield shlex.join(shlex.split(required, comments=True))


class Accepted(Exception):
    """The arguments were accepted."""


@pytest.mark.parametrize("command", sorted(set(documented())))
@pytest.mark.filterwarnings("default")
def test_a_documented_command_is_accepted(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script, *arguments = shlex.split(command)
    if "parse_args" not in (TOP / script).read_text("utf-8"):
        assert not arguments
        return
    parse = argparse.ArgumentParser.parse_args

    def accept(parser: argparse.ArgumentParser) -> None:
        parse(parser, arguments)
        raise Accepted

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", accept)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    with pytest.raises(Accepted):
        runpy.run_path(str(TOP / script), run_name="__main__")


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


@pytest.fixture
def rates_to_try(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "learning_rates.py"))["rates_to_try"]


@pytest.mark.parametrize("best", [1e-5, 1e-3, 3e-3, 1e-1])
def test_rates_are_tried_until_the_best_lies_between_others(rates_to_try: Any, best: float) -> None:
    first, tried = (1e-3, 3e-3, 1e-2), dict[float, list[float]]()
    while missing := rates_to_try(tried, first, 2):
        for rate in missing:
            tried.setdefault(rate, []).append(-abs(math.log(rate / best)))

    rates = sorted(tried)
    assert rates[0] < best < rates[-1]
    assert all(len(scores) == 2 for scores in tried.values())


def test_a_rate_that_is_not_finished_is_not_the_best(rates_to_try: Any) -> None:
    tried = {1e-3: [0.5, 0.5], 3e-3: [0.6, 0.6], 1e-2: [0.9]}

    assert rates_to_try(tried, (1e-3, 3e-3), 2) == [1e-2]
