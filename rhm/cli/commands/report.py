"""``rhm report``."""

from pathlib import Path
from typing import Annotated

import typer

from rhm.cli.options import Json, required
from rhm.cli.output import emit
from rhm.required_files import require_run


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of evaluated runs.", callback=required(require_run)),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Page to write.")] = Path(
        "report.html"
    ),
    json: Json = False,
) -> None:
    """Write the cross-domain report of evaluated runs: one page that needs no network.

    Example: `rhm report runs/inria-none runs/inria-rhm -o report.html`
    """
    from rhm.report import write_report

    page = write_report(runs, output)
    values = {"page": str(page), "numbers": str(page.with_suffix(".json"))}
    emit(values, [f"report: {page}, numbers: {values['numbers']}"], as_json=json)
