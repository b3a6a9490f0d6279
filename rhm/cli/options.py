"""Options that several commands share, declared once.

Those of a prediction are made from the dataclasses that declare them for Python, too.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from rhm.cli.flags import flag
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.prediction_config import band_numbers as read_band_numbers
from rhm.inference.runtime.runtimes import RuntimeConfig
from rhm.models.named_models import model_file
from rhm.required_files import require_bank, require_catalog

V = TypeVar("V")

SOURCES_BANK = "sources"
"""In place of a bank: ``rhm.augmentation.colours.SOURCES_BANK``, which takes time to import."""

LARGEST_SEED = 2**32 - 1
"""The largest seed that all generators take."""


def required(check: Callable[[Any], object]) -> Callable[[V], V]:
    """Return a callback that checks the paths of an argument before the command begins.

    A command that takes seconds to import its libraries so refuses a misspelt path at once.

    Args:
        check: function that raises an ``RhmError`` for a path that does not exist.
    """

    def checked(value: V) -> V:
        for each in value if isinstance(value, list | tuple) else [value]:
            if each is not None:
                check(each)
        return value

    return checked


def _require_target_bank(path: Path) -> None:
    if str(path) != SOURCES_BANK:
        require_bank(path)


def check_shift_seed(shift: str | None, seed: int | None) -> None:
    """Refuse the seed of a shift where no shift is applied."""
    if shift is None and seed is not None:
        raise typer.BadParameter("--shift-seed applies to --shift: leave it out, or add --shift")


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Styles = Annotated[
    bool,
    typer.Option("--styles", help="Also write styles beside the results, which QGIS applies."),
]
Bands = Annotated[str | None, flag(PredictionConfig, "bands")]
BlackIsNodata = Annotated[bool, flag(PredictionConfig, "black_is_nodata")]
Views = Annotated[bool, flag(PredictionConfig, "views")]
NamedScenes = Annotated[
    list[str] | None,
    typer.Option(
        "--scene", help="Scene: a file, pattern, folder or STAC document. Can be repeated."
    ),
]
SceneAsset = Annotated[
    str | None,
    typer.Option("--asset", help="Asset of STAC items that is the scene. Default: the image."),
]
Steps = Annotated[int | None, typer.Option(min=1, help="Number of optimiser steps.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Chips per step.")]
Device = Annotated[str, flag(RuntimeConfig, "device")]
Domains = Annotated[
    list[str] | None, typer.Option("--domain", help="Use only this domain. Can be repeated.")
]
ShiftFamily = Annotated[
    str | None,
    typer.Option(
        "--shift", help="Apply a random pixel-wise shift: affine, gamma, monotone or hsv."
    ),
]
ShiftSeed = Annotated[
    int | None,
    typer.Option("--shift-seed", min=0, max=LARGEST_SEED, help="Seed of the shift. Default: 0."),
]
TargetBank = Annotated[
    Path | None,
    typer.Option(
        help="Bank of the target domain. Turns on augmentations that use it, unless "
        "augment.colour is set.",
        callback=required(_require_target_bank),
    ),
]
ResumeRun = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue an interrupted run from its last checkpoint, or begin it if there is none.",
    ),
]
ModelPath = Annotated[
    Path,
    typer.Argument(
        help="Model file, folder of a run, or name from `rhm models`.",
        callback=required(model_file),
    ),
]
ModelPaths = Annotated[
    list[Path],
    typer.Argument(
        help="Folders of runs, model files, or names from `rhm models`.",
        callback=required(model_file),
    ),
]
CatalogFile = Annotated[
    Path,
    typer.Argument(help="Catalog written by `rhm data index`.", callback=required(require_catalog)),
]


def band_numbers(text: str | None) -> tuple[int, ...] | None:
    """Parse band numbers such as ``3,2,1``.

    Raises:
        ConfigError: the text is not a list of numbers from 1.
    """
    return None if text is None else read_band_numbers(text)
