"""Flags are the options of dataclasses: named, checked, defaulted and explained as declared."""

from dataclasses import dataclass

import pytest
import typer
from typer.testing import CliRunner

from rhm.cli.flags import ChoosingCommand, Chosen, choosing
from rhm.errors import ConfigError
from rhm.inference.settings.option import check_options, option


@dataclass(frozen=True)
class Line:
    width_m: float = option(1.0, "Width.", least=0, command=2.0)
    dashed: bool = option(False, "Dashes.")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class Path(Line):
    suffix: str = option(
        ".svg",
        "Format: {choices}.",
        choices=lambda: ("svg", "png"),
        flag="--format",
        command="png",
        parse=lambda name: f".{name}",
    )
    points: int = option(4, "Points.", least=2, depends="as many as fit")
    ends: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Pen:
    ink: str = option("red", "Ink.")


def run(*words: str) -> tuple[int, str, list[Chosen]]:
    """Run a command that has these options; returns its exit code, its output and the choice."""
    seen: list[Chosen] = []
    app = typer.Typer()

    @choosing(Path, Pen)
    def draw(name: str, chosen: Chosen, loud: bool = False) -> None:
        """Draw."""
        seen.append(chosen)
        typer.echo(f"{name} {loud}")

    app.command(cls=ChoosingCommand)(draw)
    result = CliRunner().invoke(app, list(words))
    if isinstance(result.exception, ConfigError):
        raise result.exception
    return result.exit_code, result.output, seen


def test_what_is_chosen_makes_the_dataclasses() -> None:
    code, printed, (chosen,) = run(
        "x", "--width-m", "3", "--dashed", "--format", "svg", "--points", "7", "--ink", "blue",
        "--loud",
    )  # fmt: skip
    assert (code, printed) == (0, "x True\n")
    assert chosen.make(Path, ends=(1,)) == Path(3.0, True, suffix=".svg", points=7, ends=(1,))
    assert chosen.make(Line) == Line(3.0, True)
    assert chosen.make(Pen) == Pen("blue")


def test_defaults_are_those_of_the_command_line() -> None:
    _, _, (chosen,) = run("x")
    assert chosen.make(Path) == Path(2.0, False, suffix=".png", points=4)
    assert chosen.make(Path, points=9).points == 9
    _, _, (chosen,) = run("x", "--points", "5")
    assert chosen.make(Path, points=9).points == 5


def test_help_says_what_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, printed, _ = run("--help")
    assert code == 0
    words = " ".join(printed.split())
    for told in ("--format", "Format: svg or png.", "--width-m", "2.0", "as many as fit", "--ink"):
        assert told in words
    assert "{choices}" not in words
    assert "--no-dashed" not in words
    assert "--ends" not in words


def test_a_word_that_is_parsed_shows_no_range(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Cut:
        cut: str = option("0.5", "Number, or auto.", least=0, most=1, parse=str)

    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer()

    @app.command(cls=ChoosingCommand)
    @choosing(Cut)
    def draw(chosen: Chosen) -> None:
        """Draw."""

    printed = CliRunner().invoke(app, ["--help"]).output
    assert "--cut" in printed
    assert "<=" not in printed


def test_what_is_not_allowed_is_refused() -> None:
    assert run("x", "--width-m", "-1")[0] == 2
    assert run("x", "--points", "1")[0] == 2
    with pytest.raises(ConfigError, match="unknown suffix 'gif': choose svg, png"):
        run("x", "--format", "gif")


def test_choices_are_not_looked_at_before_they_are_needed() -> None:
    """The help of other commands must not pay for what choices import."""

    def never() -> list[str]:
        raise AssertionError

    @dataclass(frozen=True)
    class Shy:
        kind: str = option("a", "Kind: {choices}.", choices=never)

    app = typer.Typer()

    @app.command()
    @choosing(Shy)
    def first(chosen: Chosen) -> None:
        """Come first."""

    @app.command()
    def second() -> None:
        """Come second."""

    result = CliRunner().invoke(app, ["second", "--help"])
    assert result.exit_code == 0, result.output
    assert CliRunner().invoke(app, ["--help"]).exit_code == 0
