"""What the README shows works: its Python runs, its commands and links exist."""

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest

from rhm.cli.main import app
from rhm.training.config import read_config

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures"
# What ``make site`` draws is not under version control; its script says what that is.
DRAWN = {FIGURES / name for name in runpy.run_path(str(ROOT / "docs" / "figures.py"))["NAMES"]}
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(ROOT / "docs").as_posix(): path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "docs").rglob("*.md"))
}
COMMANDS = re.findall(r"^ {4}(rhm .+)$", "\n".join([README, *PAGES.values()]), flags=re.MULTILINE)


def options_of(words: list[str]) -> set[str]:
    """Return the option names that the command in ``words`` takes."""
    import typer.main

    command = typer.main.get_command(app)
    for word in words[1:]:
        find = getattr(command, "get_command", None)
        inner = find and find(None, word)
        if inner is None:
            break
        command = inner
    return {name for parameter in command.params for name in parameter.opts}


def test_it_opens_with_the_two_commands() -> None:
    shown = [line.split("#")[0].strip() for line in README.splitlines() if line.startswith("    ")]
    assert shown[:2] == ["make demo", "make test"]


def test_its_first_python_example_runs() -> None:
    example = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[0]
    assert "assert" in example
    exec(compile(example, "README.md", "exec"), {})  # noqa: S102 - it is our own README


def test_it_says_of_the_starter_what_its_card_says() -> None:
    card = (ROOT / "rhm" / "models" / "shipped" / "starter" / "card.md").read_text("utf-8")
    scores = re.findall(r"^\| \w+ \| \d+ \| ([\d.]+).*? \| ([\d.]+)", card, flags=re.MULTILINE)
    away, home = ([float(score) for score in column] for column in zip(*scores, strict=True))
    flowing = " ".join(README.split())
    assert len(scores) == 8
    said = [
        *re.findall(r"mean pixel IoU of ([\d.]+) in places", flowing),
        *re.findall(r"trained on, from ([\d.]+) to ([\d.]+)", flowing)[0],
        *re.findall(r"reaches a pixel IoU of ([\d.]+) to ([\d.]+) where it was", flowing)[0],
        *re.findall(r"never saw the place, .*?, reach ([\d.]+) to ([\d.]+):", flowing)[0],
    ]
    apart = [min(away), max(away)]
    expected = [sum(away) / 8, *apart, min(home), max(home), *apart]
    assert [float(each) for each in said] == pytest.approx(expected, abs=0.0051)
    steps = re.search(r"trained for (\d+) steps, those that leave a domain out for (\d+)", card)
    assert steps is not None
    assert int(steps[1]) == 6 * int(steps[2])
    assert "trained for a sixth of the time" in flowing


def test_the_example_of_the_page_on_analysis_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGES["inside.md"], flags=re.DOTALL)
    exec(compile(example, "inside.md", "exec"), {})  # noqa: S102 - it is our own page
    compressions, nc1 = capsys.readouterr().out.splitlines()
    assert compressions.count(",") == 1
    assert float(nc1) > 0.0


def test_the_example_of_the_page_on_adapting_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (network,) = re.findall(r"```python\n(.*?)```", PAGES["adapting.md"], flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(network, "adapting.md", "exec"), names)  # noqa: S102 - it is our own page
    assert (tmp_path / "city.safetensors").stat().st_size < 1e6
    assert not [name for name in names["model"].state_dict() if "parametrizations" in name]


def test_the_examples_of_the_page_on_exporting_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for example in re.findall(r"```python\n(.*?)```", PAGES["exporting.md"], flags=re.DOTALL):
        assert "assert" in example
        exec(compile(example, "exporting.md", "exec"), names)  # noqa: S102 - it is our own page
    assert names["probability"].std() > 0.0


def test_the_example_of_the_page_on_predicting_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGES["predicting.md"], flags=re.DOTALL)
    exec(compile(example, "predicting.md", "exec"), {})  # noqa: S102 - it is our own page
    assert len(list((tmp_path / "predicted").iterdir())) == 3


@pytest.mark.filterwarnings("default")
def test_the_example_of_the_page_on_towns_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGES["towns.md"], flags=re.DOTALL)
    exec(compile(example, "towns.md", "exec"), {})  # noqa: S102 - it is our own page
    assert (tmp_path / "changes.gpkg").is_file()


def test_the_example_of_the_page_on_separation_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGES["separation.md"], flags=re.DOTALL)
    assert "assert" in example
    exec(compile(example, "separation.md", "exec"), {})  # noqa: S102 - it is our own page


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_and_options_exist(line: str) -> None:
    words = shlex.split(line)
    known = options_of(words)
    assert known, line
    if words[:2] == ["rhm", "train"]:
        read_config(words[2])
    for word in words:
        if word.startswith("-"):
            assert word in known, f"{word} in: {line}"


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}" for name in PAGES)])
def test_its_links_lead_somewhere(page: str) -> None:
    text, folder = (ROOT / page).read_text(encoding="utf-8"), (ROOT / page).parent
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    local = [target for target in targets if not target.startswith("https://")]
    assert local or page != "README.md"
    there = [(folder / target).resolve() for target in local]
    made = DRAWN | {ROOT / "docs" / "starter.md"}  # the site's page with the card of the model
    assert [path for path in there if not (path.exists() or path in made)] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p}" for p in PAGES)])
def test_nothing_stands_for_what_is_still_to_come(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert not re.findall(r"^(?:[A-Z][A-Z_]{3,}|TODO.*|TBD.*)$", text, flags=re.MULTILINE)


def test_every_figure_that_is_drawn_is_shown() -> None:
    """Those of the experiments on the pages that explain them; examples have a gallery."""
    shown = set(re.findall(r"figures/([\w-]+\.png)", "\n".join(PAGES.values())))
    examples = {f"{script.stem}.png" for script in (ROOT / "examples").glob("*.py")}
    assert {path.name for path in DRAWN} - examples <= shown
