"""Options that several commands share, declared once."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Bands = Annotated[
    str | None,
    typer.Option(help="Bands to read, counted from 1, such as 3,2,1. Default: all except alpha."),
]
BlackIsNodata = Annotated[
    bool,
    typer.Option("--black-is-nodata", help="Treat pixels that are zero in all bands as nodata."),
]
Domains = Annotated[
    list[str] | None, typer.Option("--domain", help="Use only this domain. Can be repeated.")
]
ShiftFamily = Annotated[
    str | None,
    typer.Option(
        "--shift", help="Apply a random pixel-wise shift: affine, gamma, monotone or hsv."
    ),
]
Views = Annotated[
    bool,
    typer.Option(
        "--views", help="Test-time augmentation: average over eight rotated and mirrored views."
    ),
]
ShiftSeed = Annotated[int, typer.Option("--shift-seed", min=0, help="Seed of the shift.")]
TargetBank = Annotated[
    Path | None,
    typer.Option(
        help="Bank of the target domain. Sets augment.colour to rhm unless another is set."
    ),
]
ResumeRun = Annotated[
    bool, typer.Option("--resume", help="Continue an interrupted run from its last checkpoint.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bar.")]
CatalogFile = Annotated[Path, typer.Argument(help="Catalog written by `rhm data index`.")]


def band_numbers(text: str | None) -> tuple[int, ...] | None:
    """Parse band numbers such as ``3,2,1``.

    Raises:
        typer.BadParameter: the text is not a list of numbers from 1.
    """
    if text is None:
        return None
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise typer.BadParameter(f"'{text}' is not a list of band numbers such as 3,2,1")
    return numbers
