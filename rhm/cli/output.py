"""Output of commands: results on standard output, everything else on standard error."""

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer

from rhm.errors import printable

_quiet = False


def be_quiet(quiet: bool) -> None:
    """Turn messages other than errors off or on."""
    global _quiet
    _quiet = quiet


def say(text: str) -> None:
    """Print a message on standard error, unless messages are turned off."""
    if not _quiet:
        complain(text)


def complain(text: str) -> None:
    """Print an error on standard error; unprintable characters are replaced.

    Where standard error has lost its reader, nobody can be told, and the work goes on.
    """
    with suppress(OSError):
        typer.echo(printable(text, keep="\n\t"), err=True)


def emit(values: dict[str, Any], lines: list[str], *, as_json: bool) -> None:
    """Print the result of a command, as JSON or as lines of text.

    Numbers that are not finite, which JSON lacks, are printed as null. In lines, unprintable
    characters are replaced: names of files could otherwise command the terminal.
    """
    if as_json:
        typer.echo(json.dumps(_finite(values), indent=1, default=str, allow_nan=False))
    else:
        for line in lines:
            typer.echo(printable(line, keep="\n\t"))


def _finite(value: Any) -> Any:
    """Return a value with None in place of the numbers in it that are not finite."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def counted(count: int, noun: str) -> str:
    """Return a number with a noun in singular or plural."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(seconds: float) -> str:
    """Return a time in seconds, minutes or hours, whichever is short."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def size(count: float) -> str:
    """Return a number of bytes in MB or GB."""
    return f"{count / 1e9:.1f} GB" if count >= 999.5e6 else f"{count / 1e6:.0f} MB"


def table(header: list[str], rows: list[list[Any]]) -> list[str]:
    """Return the lines of a table: text aligned left, numbers aligned right.

    If standard output is a terminal that is too narrow, every row becomes a paragraph.
    """
    lines = _aligned(header, rows)
    if sys.stdout.isatty():
        columns = shutil.get_terminal_size().columns
        if max(map(len, lines)) > columns:
            return _paragraphs(header, rows, columns)
    return lines


def _paragraphs(header: list[str], rows: list[list[Any]], columns: int) -> list[str]:
    """Return the texts of each row in a line, and its numbers with their names below."""
    lines = []
    for row in rows:
        lines.append("  ".join(value for value in row if isinstance(value, str)))
        numbers = [
            f"{name} {_cell(value)}".replace(" ", "\0")
            for name, value in zip(header, row, strict=True)
            if not isinstance(value, str)
        ]
        wrapped = textwrap.wrap(
            ", ".join(numbers),
            columns,
            initial_indent="    ",
            subsequent_indent="    ",
            break_on_hyphens=False,
        )
        lines += [line.replace("\0", " ") for line in wrapped]
    return lines


def _aligned(header: list[str], rows: list[list[Any]]) -> list[str]:
    cells = [header, *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    numeric = [
        all(isinstance(row[column], int | float | None) for row in rows)
        for column in range(len(header))
    ]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]


def shows_progress(*, quiet: bool) -> bool:
    """Return whether progress is shown: on a terminal, unless the user or the command is quiet."""
    return not (quiet or _quiet) and sys.stderr.isatty()


@contextmanager
def progress(
    title: str, total: float, *, unit: str = "", per_unit: float = 1.0, quiet: bool = False
) -> Iterator[Callable[[float], None]]:
    """Show a progress bar with the remaining time, if standard error is a terminal.

    Args:
        title: title of the bar, such as the name of a file, which may be of unknown origin.
        total: number of steps.
        unit: unit of the speed, such as ``Mpx``; if empty, no speed is shown.
        per_unit: number of steps in one unit.
        quiet: show nothing.

    Yields:
        A function that advances the bar by a number of steps.
    """
    if not shows_progress(quiet=quiet):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(TextColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed / per_unit:.2f} {unit}/s" if speed and unit else "")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        Speed(""),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(printable(title), total=total)
        yield lambda step: bar.advance(task, step)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
