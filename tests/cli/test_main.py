"""The entry point: exit codes, one line for bad input, help for every command."""

import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import typer.main

import rhm as rhm_package
import rhm.cli.main as main_module
from rhm.cli.main import LogLine, app

Rhm = Callable[..., tuple[int, str, str]]


def truncated(path: Path, scene: Path) -> Path:
    path.write_bytes(scene.read_bytes()[: scene.stat().st_size // 2])
    return path


def bands_of(path: Path, scene: Path, count: int) -> Path:
    with rasterio.open(scene) as source:
        profile = source.profile | {"count": count}
        pixels = np.repeat(source.read([1]), count, axis=0)
    with rasterio.open(path, "w", **profile) as target:
        target.write(pixels)
    return path


def test_bad_input_is_one_line_and_exit_code_2(
    rhm: Rhm,
    world: Path,
    catalog_path: Path,
    bank_path: Path,
    trained: Path,
    tmp_path: Path,
) -> None:
    scene = world / "scenes" / "birch_satellite.tif"
    (tmp_path / "text.tif").write_text("not a raster")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    blocked = tmp_path / "text.tif" / "out"
    config = tmp_path / "config.yaml"
    config.write_text("name: a\ndata: {catalog: c.parquet}\nmodle: {}\n")
    good = tmp_path / "good.yaml"
    good.write_text(
        f"name: a\noutput: {out}\n"
        f"data: {{catalog: {catalog_path}, sources: [birch_satellite]}}\n"
        "trainer: {accelerator: cpu}\n"
    )
    cases: list[tuple[str, list[Any]]] = [
        (
            "model.standardize undoes what augment.colour varies: choose one of the two",
            ["train", good, "--set", "model.standardize=equalize", "--bank", bank_path],
        ),
        ("choose none, equalize, gray", ["train", good, "--set", "model.standardize=sepia"]),
        ("choose none, rhm, mean-std", ["train", good, "--set", "augment.colour=sepia"]),
        (
            "colour hsv uses no bank: choose rhm",
            ["train", good, "--set", "augment={colour: hsv, bank: a}"],
        ),
        (
            "has no domain atlantis: choose from alder_aerial",
            ["train", good, "--set", "augment={colour: fda, targets: [atlantis]}"],
        ),
        ("no such file", ["predict", trained, tmp_path / "none.tif", "-o", out]),
        ("not a raster", ["predict", trained, tmp_path / "text.tif", "-o", out]),
        ("cannot be", ["predict", trained, truncated(tmp_path / "cut.tif", scene), "-o", out]),
        (
            "the model takes 3 bands, and 4 of",
            ["predict", trained, bands_of(tmp_path / "four.tif", scene, 4), "-o", out],
        ),
        ("no images in", ["predict", trained, tmp_path / "empty", "-o", out]),
        ("cannot write to", ["predict", trained, scene, "-o", blocked]),
        ("no model at", ["predict", tmp_path / "none", scene, "-o", out]),
        ("not a model file", ["predict", tmp_path / "text.tif", scene, "-o", out]),
        ("did you mean 'model'", ["train", config]),
        ("no configuration at", ["train", tmp_path / "none.yaml"]),
        ("no catalog at", ["evaluate", trained, tmp_path / "none.parquet"]),
        ("not a catalog", ["evaluate", trained, tmp_path / "text.tif"]),
        (
            "no images under",
            ["data", "index", "folder", tmp_path / "empty", "-o", tmp_path / "o.parquet"],
        ),
        (
            "no Inria tiles",
            ["data", "index", "inria", tmp_path / "empty", "-o", tmp_path / "o.parquet"],
        ),
        (
            "no SpaceNet images",
            ["data", "index", "spacenet", tmp_path / "empty", "-o", tmp_path / "o.parquet"],
        ),
        ("no such file", ["data", "inspect", tmp_path / "none.tif"]),
        ("no histogram bank at", ["bank", "show", tmp_path / "none.bank"]),
        ("as a histogram bank", ["bank", "show", scene]),
        ("run `rhm evaluate`", ["report", tmp_path / "empty", "-o", tmp_path / "r.html"]),
    ]
    before = sorted(path.name for path in tmp_path.iterdir())
    for told, words in cases:
        code, printed, err = rhm(*words)
        assert code == 2, (words, err)
        assert told in err, (words, err)
        assert err.count("\n") == 1, err
        assert printed == ""
    left = [path for path in out.rglob("*") if path.is_file()] if out.exists() else []
    assert left == []
    assert [n for n in sorted(p.name for p in tmp_path.iterdir()) if n != "out"] == before


@pytest.mark.parametrize(
    "words",
    [
        ["data", "index", "nonsense", "."],
        ["predict", "m", "s", "-o", "o", "--tile", "100"],
        ["predict", "m", "s", "-o", "o", "--format", "dwg"],
        ["evaluate", "m", "c", "--split", "all-of-them"],
        ["no-such-command"],
        ["train"],
    ],
)
def test_wrong_usage_is_exit_code_2(rhm: Rhm, words: list[str]) -> None:
    code, _, err = rhm(*words)
    assert code == 2
    assert "Traceback" not in err


def test_a_word_after_two_dashes_is_no_option(rhm: Rhm) -> None:
    code, _, said = rhm("data", "inspect", "--", "-q")
    assert (code, said.strip()) == (2, "rhm: no such file or folder: -q")


def test_quiet_leaves_results_and_errors(
    rhm: Rhm, world: Path, trained: Path, tmp_path: Path
) -> None:
    scene = tmp_path / "nowhere.tif"
    with rasterio.open(world / "scenes" / "birch_satellite.tif") as placed:
        profile = placed.profile | {"crs": None}
        with rasterio.open(scene, "w", **profile) as raster:
            raster.write(placed.read())
    words = ["predict", trained, scene, "-o", tmp_path / "out"]
    code, printed, said = rhm(*words)
    assert (code, "buildings in" in printed) == (0, True)
    assert "no coordinate reference system" in said
    for quiet in (["--quiet", *words], [*words, "-q"]):
        code, printed, said = rhm(*quiet)
        assert (code, "buildings in" in printed, said) == (0, True, "")
    code, printed, said = rhm("--quiet", "predict", tmp_path, scene, "-o", tmp_path / "out")
    assert (code, printed) == (2, "")
    assert said.startswith("rhm: no model")
    assert rhm(*words)[2]


def commands(command: Any, *words: str) -> Iterator[tuple[str, ...]]:
    """The words of every command below ``command``."""
    inner = getattr(command, "commands", {})
    if not inner:
        yield words
    for name, each in inner.items():
        yield from commands(each, *words, name)


COMMANDS = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_has_an_example_for_every_command(rhm: Rhm, words: tuple[str, ...]) -> None:
    code, printed, _ = rhm(*words, "--help")
    assert code == 0
    assert f"Example: rhm {' '.join(words)}" in " ".join(printed.split())


def test_the_version_is_the_packages(rhm: Rhm) -> None:
    assert rhm("--version") == (0, f"rhm {rhm_package.__version__}\n", "")


def test_no_command_is_the_help(rhm: Rhm) -> None:
    code, printed, err = rhm()
    assert code == 2
    assert all(words[0] in printed + err for words in COMMANDS)


def test_an_interrupted_command_exits_with_130(
    rhm: Rhm, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    # As a signal does it, in the middle of reading.
    monkeypatch.setattr(rasterio.DatasetReader, "read", interrupt)
    code, printed, err = rhm("bank", "build", world / "birch_aerial" / "images", "-o", "never.bank")
    assert (code, printed, err) == (130, "", "rhm: interrupted\n")


def test_an_interrupted_command_says_how_to_continue(
    rhm: Rhm, trained: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rhm.inference.many_scenes.predict_scenes", interrupt)
    scene = world / "scenes" / "birch_satellite.tif"
    code, _, err = rhm("predict", trained, scene, "-o", tmp_path / "out")
    assert code == 130
    assert err.endswith("rhm: interrupted: repeat the command with --resume to continue\n")


def test_the_end_of_a_file_is_no_interrupt(
    rhm: Rhm, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: Any, **__: Any) -> None:
        raise EOFError("Compressed file ended before the end-of-stream marker")

    monkeypatch.setattr(rasterio.DatasetReader, "read", end)
    with pytest.raises(EOFError, match="Compressed file"):
        rhm("bank", "build", world / "birch_aerial" / "images", "-o", "never.bank")


def test_a_defect_shows_its_traceback_and_asks_for_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def defect() -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(main_module, "run", defect)
    with pytest.raises(SystemExit) as ended:
        main_module.main()
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert "please report" in error.splitlines()[-1]


@pytest.fixture
def _logging() -> Iterator[None]:
    """Loggers are as before when a test has asked for all that they say."""
    logger = logging.getLogger("rhm")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures("_logging")
def test_verbose_logs_what_is_done_and_where_an_error_comes_from(
    rhm: Rhm, world: Path, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = world / "scenes" / "birch_satellite.tif"
    assert rhm("--verbose", "predict", trained, scene, "-o", tmp_path / "out")[0] == 0
    assert "160 x 160 pixels, 1 strips" in caplog.text
    assert "Traceback" not in caplog.text
    code, _, err = rhm("--verbose", "predict", tmp_path, scene, "-o", tmp_path / "out")
    assert code == 2
    assert "Traceback" in caplog.text
    assert err.splitlines()[-1].startswith("rhm: no model")


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENAMETOOLONG])
def test_what_the_system_says_of_a_path_is_one_line(
    rhm: Rhm, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number), "/shut\n/x.tif")

    monkeypatch.setattr("rhm.cli.commands.configs.named_configs", fail)
    told = f"rhm: /shut /x.tif: {os.strerror(number)}\n"
    assert rhm("configs") == (2, "", told)


@pytest.mark.parametrize("command", ["evaluate", "analyze"])
def test_the_last_argument_is_the_one_that_is_missing(rhm: Rhm, command: str) -> None:
    """Although words go to the last argument first."""
    code, _, err = rhm(command, "runs/a")
    told = "rhm: Missing argument 'catalog': expected models... catalog (see --help)\n"
    assert (code, err) == (2, told)


def test_log_messages_do_not_control_the_terminal() -> None:
    record = logging.LogRecord(
        "rhm", logging.WARNING, "x.py", 1, "%s is damaged", ("\x1b]0;no\x07.tif\n\tat",), None
    )
    assert LogLine().format(record) == "\ufffd]0;no\ufffd.tif\n\tat is damaged"
