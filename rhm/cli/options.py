"""Options that several commands share, each declared once."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Bands = Annotated[
    str | None,
    typer.Option(help="Bands to read, from 1, as 3,2,1; by default all but alpha."),
]
BlackIsNodata = Annotated[
    bool,
    typer.Option("--black-is-nodata", help="Pixels that are zero in all bands have no data."),
]
Domains = Annotated[
    list[str] | None, typer.Option("--domain", help="Only this domain; may be repeated.")
]
ShiftFamily = Annotated[
    str | None,
    typer.Option("--shift", help="Random pixel-wise shift: affine, gamma, monotone or hsv."),
]
Views = Annotated[
    bool,
    typer.Option("--views", help="Average over turned and mirrored views: eight predictions."),
]
ShiftSeed = Annotated[int, typer.Option("--shift-seed", min=0, help="Seed of the shift.")]
TargetBank = Annotated[
    Path | None,
    typer.Option(help="Bank of the target domain; without another augment.colour it turns on rhm."),
]
ResumeRun = Annotated[
    bool, typer.Option("--resume", help="Continue the run from its last checkpoint.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
CatalogFile = Annotated[Path, typer.Argument(help="Catalog, as `rhm data index` writes it.")]


def band_numbers(text: str | None) -> tuple[int, ...] | None:
    """Read ``3,2,1``.

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
