"""What a command may write: nothing that is needed, foreign, or of another kind."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rhm.cli.output_files import check_output, is_analysis_page, is_report, is_report_page
from rhm.data.catalog import Catalog
from rhm.errors import OutputError
from rhm.files import check_writable
from rhm.report import write_report
from tests.report.conftest import MakeRun
from tests.report.conftest import make_run as make_run

Rhm = Callable[..., tuple[int, str, str]]


def test_a_new_file_is_written(tmp_path: Path) -> None:
    check_output(tmp_path / "new.ONNX", (".onnx",), needed=[tmp_path / "other"], overwrite=False)


def test_a_name_that_no_file_can_have_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / f"{'a' * 300}.parquet"
    check_output(path, (".parquet",))
    with pytest.raises(OutputError, match=r"cannot write .*: File name too long"):
        check_writable(path)


def test_what_would_be_lost_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    file.write_text("precious")
    with pytest.raises(OutputError, match=r"its name must end with \.tex or \.md"):
        check_output(file, (".tex", ".md"), overwrite=True)
    with pytest.raises(OutputError, match="it is a folder"):
        check_output(tmp_path, (), overwrite=True)
    with pytest.raises(OutputError, match="still needed"):
        check_output(file, (".onnx",), needed=[tmp_path / "b" / ".." / "a.onnx"], overwrite=True)
    with pytest.raises(OutputError, match="choose another name, or replace it with --overwrite"):
        check_output(file, (".onnx",), overwrite=False)
    with pytest.raises(OutputError, match=r"choose another name$"):
        check_output(file, (".onnx",), ours=lambda _: False)
    check_output(file, (".onnx",), overwrite=True)
    check_output(file, (".onnx",), overwrite=False, ours=lambda path: path == file)


@pytest.mark.parametrize(
    ("generator", "report", "analysis"),
    [
        ("rhm report", True, False),
        ("rhm analyze", False, True),
        ("rhm", True, True),  # as earlier versions wrote both
        ("rhm reports", False, False),
    ],
)
def test_pages_are_known_by_their_command(
    tmp_path: Path, generator: str, report: bool, analysis: bool
) -> None:
    page = tmp_path / "a.html"
    page.write_text(f'<!DOCTYPE html><head><meta name="generator" content="{generator}"></head>')
    assert (is_report_page(page), is_analysis_page(page)) == (report, analysis)


def test_other_pages_and_folders_are_not_those_of_a_command(tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    page.write_text("<html>mine</html>")
    for path in (page, tmp_path):
        assert not is_report_page(path)
        assert not is_analysis_page(path)


def test_numbers_of_reports_are_known(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("a", {"town": 0.5})
    assert is_report(write_report([run], tmp_path / "page.html").with_suffix(".json"))
    assert not is_report(run / "evaluation" / "scores.json")
    assert not is_report(tmp_path)
    (tmp_path / "mine.json").write_text('{"headlines": []}')
    assert not is_report(tmp_path / "mine.json")


def test_what_a_command_wrote_itself_is_replaced(
    rhm: Rhm, make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run("a", {"town": 0.5})
    for kind, suffix in (("latex", "tex"), ("markdown", "md"), ("csv", "csv")):
        for _ in range(2):
            words = ["--table", kind, "-o", tmp_path / f"t.{suffix}"]
            code, _, err = rhm("report", run, *words)
            assert code == 0, err
    for _ in range(2):
        code, _, err = rhm("report", run, "-o", tmp_path / "page.html")
        assert code == 0, err


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["data", "merge", "{catalog}", "-o"], "town.parquet"),
        (["data", "index", "folder", "{world}", "-o"], "town.parquet"),
        (["merge", "{run}", "{run}", "-o"], "mine.safetensors"),
        (["export", "{run}", "-o"], "mine.onnx"),
        (["report", "{run}", "-o"], "mine.html"),
        (["report", "{run}", "--table", "latex", "-o"], "mine.tex"),
    ],
)
def test_no_command_replaces_a_file_of_the_user(
    rhm: Rhm,
    trained: Path,
    catalog_path: Path,
    world: Path,
    tmp_path: Path,
    words: list[str],
    name: str,
) -> None:
    mine = tmp_path / name
    mine.write_text("precious")
    places = {"catalog": catalog_path, "world": world, "run": trained}
    code, printed, err = rhm(*(word.format(**places) for word in words), mine)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert f"{name} exists" in err
    assert mine.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    other = tmp_path / "mine.doc"
    code, _, err = rhm(*(word.format(**places) for word in words), other)
    assert (code, err.count("\n")) == (2, 1)
    assert "end with" in err or "end it with" in err
    assert not other.exists()


def test_a_merge_does_not_replace_a_catalog_that_it_joins(
    rhm: Rhm, catalog_path: Path, tmp_path: Path
) -> None:
    one = tmp_path / "one.parquet"
    Catalog.load(catalog_path).save(one)
    before = one.read_bytes()
    code, _, err = rhm("data", "merge", one, catalog_path, "-o", one)
    assert (code, err.count("\n")) == (2, 1)
    assert "still needed" in err
    assert one.read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="pipes have names")
@pytest.mark.parametrize("command", ["export", "report"])
def test_a_pipe_or_a_circle_is_refused_and_not_waited_for(
    rhm: Rhm, trained: Path, tmp_path: Path, command: str
) -> None:
    suffix = ".onnx" if command == "export" else ".html"
    pipe, loop = tmp_path / f"pipe{suffix}", tmp_path / f"loop{suffix}"
    os.mkfifo(pipe)
    loop.symlink_to(loop.name)
    code, _, err = rhm(command, trained, "-o", pipe)
    assert (code, err.count("\n")) == (2, 1)
    assert "pipe" in err
    code, _, err = rhm(command, trained, "-o", loop)
    assert (code, err.count("\n")) == (2, 1)


WORK = {
    "lab": ("rhm.lab.landscape.run_sphere", ["sphere", "-o", "{file}/x"]),
    "analyze": (
        "rhm.evaluation.features.inspection.inspect_model",
        ["{run}", "{catalog}", "-o", "{file}/x"],
    ),
    "export": ("rhm.models.model_file.load_model", ["{run}", "-o", "{file}/x.onnx"]),
    "evaluate": (
        "rhm.evaluation.evaluator.evaluate_model",
        ["{run}", "{other}", "{catalog}", "-o", "{scores}"],
    ),
    "predict": ("rhm.models.model_file.load_model", ["{run}", "{scene}", "-o", "{file}"]),
    "predict ": (
        "rhm.models.model_file.load_model",
        ["{run}", "{scene}", "-o", "{out}", "--merge", "{file}/m.gpkg"],
    ),
    "predict  ": (
        "rhm.inference.cost_estimate.estimate",
        ["{run}", "{scene}", "-o", "{scene}", "--dry-run"],
    ),
}
"""By command, what takes time, and the words after it."""


@pytest.mark.parametrize("command", WORK)
def test_what_cannot_be_written_is_told_before_the_work(
    rhm: Rhm,
    trained: Path,
    world: Path,
    catalog_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    (tmp_path / "file").write_text("mine")
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes((trained / "model.safetensors").read_bytes())
    (tmp_path / "scores" / "other").mkdir(parents=True)
    (tmp_path / "scores" / "other" / "evaluation").write_text("mine")
    places = {"run": trained, "other": other, "catalog": catalog_path, "out": tmp_path / "out"}
    places |= {"file": tmp_path / "file", "scores": tmp_path / "scores"}
    places |= {"scene": world / "scenes" / "birch_satellite.tif"}
    work, words = WORK[command]

    def begun(*_: object, **__: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(work, begun)
    code, printed, err = rhm(command.strip(), *(word.format(**places) for word in words))
    assert (code, printed) == (2, ""), err
    assert "cannot write" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
