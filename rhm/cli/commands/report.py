"""``rhm report``."""

from pathlib import Path
from typing import Annotated

import typer

from rhm.cli.options import Json, required
from rhm.cli.output import emit, say
from rhm.cli.output_files import (
    Overwrite,
    check_output,
    is_report,
    is_report_page,
    is_score_table,
)
from rhm.required_files import require_run

_PAGES = (".html", ".htm")
_SUFFIXES = {"latex": (".tex",), "markdown": (".md",), "csv": (".csv",)}
_READ = ("evaluation/scores.json", "metrics.csv", "config.yaml", "cost.json")


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of evaluated runs.", callback=required(require_run)),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Page to write, or with --table the file. Default: report.html; a table is "
            "printed.",
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(
            help="Instead of the page, one table of methods by domains: latex, markdown or csv."
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Score of --table, such as iou (default), f1, object_f1, ap50 or vertex_ratio."
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write the cross-domain report of evaluated runs: one page that needs no network.

    Example: `rhm report runs/inria-none runs/inria-rhm -o report.html`
    """
    if table is not None:
        if table not in _SUFFIXES:
            raise typer.BadParameter(f"unknown --table '{table}': choose {', '.join(_SUFFIXES)}")
        if output is not None:
            needed = _needed(runs, output)
            check_output(
                output, _SUFFIXES[table], needed=needed, overwrite=overwrite, ours=is_score_table
            )
        _write_table(runs, output, table, "iou" if metric is None else metric, as_json=json)
        return
    if metric is not None:
        raise typer.BadParameter("--metric chooses the score of a table: add --table")
    output = output or Path("report.html")
    if output.suffix.lower() not in _PAGES:
        raise typer.BadParameter(f"{output} gets a page: end it with .html, or add --table")
    numbers = output.with_suffix(".json")
    for path, ours in ((output, is_report_page), (numbers, is_report)):
        check_output(path, (), needed=_needed(runs, path), overwrite=overwrite, ours=ours)
    from rhm.report import write_report

    page = write_report(_evaluated(runs), output)
    values = {"page": str(page), "numbers": str(page.with_suffix(".json"))}
    emit(values, [f"report: {page}, numbers: {values['numbers']}"], as_json=json)


def _needed(runs: list[Path], path: Path) -> list[Path]:
    """Return the files of runs that an output may not replace: all that no report wrote."""
    read = [run / name for run in runs for name in _READ]
    homes = [run.resolve() for run in runs if any((run / name).is_file() for name in _READ)]
    inside = any(path.parent.resolve().is_relative_to(home) for home in homes)
    written = any(ours(path) for ours in (is_report_page, is_report, is_score_table))
    return [*read, path] if inside and path.is_file() and not written else read


def _evaluated(runs: list[Path]) -> list[Path]:
    """Return the runs that were evaluated, and say which were not; all of them if none was."""
    found = [run for run in runs if (run / "evaluation").is_dir()]
    if not found:
        return runs  # reading the first says what is missing
    if left := [run.resolve().name or str(run) for run in runs if run not in found]:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        say(f"left out: {left[0]}{more}, which `rhm evaluate` has not scored")
    return found


def _write_table(
    runs: list[Path], output: Path | None, kind: str, metric: str, *, as_json: bool
) -> None:
    from rhm.cli.score_table import FORMATS, ScoreTable
    from rhm.files import write_text
    from rhm.report.wording import unequal_conditions

    found = ScoreTable.of(_evaluated(runs), metric)
    for note in unequal_conditions(found.groups):
        say(note)
    if names := found.lacking():
        say(f"not all runs have a score on {', '.join(names)}: such a mean is never the best")
    text = FORMATS[kind](found)
    if output is None:
        emit({"table": text}, text.splitlines(), as_json=as_json)
        return
    write_text(output, text)
    emit({"table": text, "file": str(output)}, [f"table: {output}"], as_json=as_json)
