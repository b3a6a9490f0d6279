"""``rhm report``."""

from pathlib import Path
from typing import Annotated

import typer

from rhm.cli.options import Json, required
from rhm.cli.output import emit, say
from rhm.cli.output_files import Overwrite, check_output, is_page, is_score_table
from rhm.required_files import require_run

_PAGES = (".html", ".htm")
_SUFFIXES = {"latex": (".tex",), "markdown": (".md",), "csv": (".csv",)}


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
        str, typer.Option(help="Score of the table, such as iou, f1, object_f1 or ap50.")
    ] = "iou",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write the cross-domain report of evaluated runs: one page that needs no network.

    Example: `rhm report runs/inria-none runs/inria-rhm -o report.html`
    """
    runs = _evaluated(runs)
    if table is not None:
        if output is not None:
            suffixes = _SUFFIXES.get(table, ())
            check_output(output, suffixes, overwrite=overwrite, ours=is_score_table)
        _write_table(runs, output, table, metric, as_json=json)
        return
    output = output or Path("report.html")
    if output.suffix.lower() not in _PAGES:
        raise typer.BadParameter(f"{output} gets a page: end it with .html, or add --table")
    check_output(output, _PAGES, overwrite=overwrite, ours=is_page)
    if not output.exists():  # the numbers of a page that is replaced are replaced, too
        check_output(output.with_suffix(".json"), (), overwrite=overwrite)
    from rhm.report import write_report

    page = write_report(runs, output)
    values = {"page": str(page), "numbers": str(page.with_suffix(".json"))}
    emit(values, [f"report: {page}, numbers: {values['numbers']}"], as_json=json)


def _evaluated(runs: list[Path]) -> list[Path]:
    """Return the runs that were evaluated, and say which were not; all of them if none was."""
    found = [run for run in runs if (run / "evaluation").is_dir()]
    if not found:
        return runs  # reading the first says what is missing
    if left := [run.name for run in runs if run not in found]:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        say(f"left out: {left[0]}{more}, which `rhm evaluate` has not scored")
    return found


def _write_table(
    runs: list[Path], output: Path | None, kind: str, metric: str, *, as_json: bool
) -> None:
    from rhm.cli.score_table import FORMATS, ScoreTable
    from rhm.files import write_text

    if kind not in FORMATS:
        raise typer.BadParameter(f"unknown --table '{kind}': choose {', '.join(FORMATS)}")
    text = FORMATS[kind](ScoreTable.of(runs, metric))
    if output is None:
        emit({"table": text}, text.splitlines(), as_json=as_json)
        return
    write_text(output, text)
    emit({"table": text, "file": str(output)}, [f"table: {output}"], as_json=as_json)
