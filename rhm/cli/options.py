"""Options that several commands share, each declared once.

Those of a prediction are made from what declares them for Python too.
"""

from pathlib import Path
from typing import Annotated

import typer

from rhm.cli.flags import flag
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.prediction_config import band_numbers as read_band_numbers
from rhm.inference.runtime.runtimes import RuntimeConfig

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Bands = Annotated[str | None, flag(PredictionConfig, "bands")]
BlackIsNodata = Annotated[bool, flag(PredictionConfig, "black_is_nodata")]
Views = Annotated[bool, flag(PredictionConfig, "views")]
Tile = Annotated[int, flag(PredictionConfig, "tile")]
Overlap = Annotated[int, flag(PredictionConfig, "overlap")]
Device = Annotated[str, flag(RuntimeConfig, "device")]
Domains = Annotated[
    list[str] | None, typer.Option("--domain", help="Only this domain; may be repeated.")
]
ShiftFamily = Annotated[
    str | None,
    typer.Option("--shift", help="Random pixel-wise shift: affine, gamma, monotone or hsv."),
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
        ConfigError: the text is not a list of numbers from 1.
    """
    return None if text is None else read_band_numbers(text)
