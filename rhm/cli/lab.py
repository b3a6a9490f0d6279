"""``rhm lab``: the papers' experiments, small and quick, each with its figure."""

from pathlib import Path
from typing import Annotated

import typer

from rhm.cli.options import Json
from rhm.cli.output import emit, say, table

app = typer.Typer(help="The papers' experiments, small and quick.", no_args_is_help=True)


@app.callback()
def _lab() -> None:
    """Keep the group a group while it has one command."""


@app.command()
def shift(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of figure, numbers and models.")
    ] = Path("lab-shift"),
    steps: Annotated[int, typer.Option(min=2, help="Training steps of each model.")] = 120,
    seed: Annotated[int, typer.Option(min=0, help="Of world, training and shifts.")] = 0,
    json: Json = False,
) -> None:
    """Shift a town's colours under control, and see which training withstands it.

    Trains on a synthetic town with several augmentations and tests under families of random
    pixel-wise maps: the first experiment of the paper on randomized histogram matching, whose
    bank holds the histograms of the shifted test images, as unlabelled imagery of the target.

    Example: `rhm lab shift -o lab-shift`
    """
    import json as json_format

    from rhm.evaluation.controlled import SAMPLE_DOMAIN, run_controlled_shifts, sample_town
    from rhm.files import write_text
    from rhm.report.figures import draw_controlled_shifts

    say("drawing a town")
    catalog = sample_town(output, seed=seed)
    result = run_controlled_shifts(
        catalog, SAMPLE_DOMAIN, output, steps=steps, seed=seed, on_step=say
    )
    figure, numbers = output / "shift.png", output / "shift.json"
    draw_controlled_shifts(result, figure)
    values = {"iou": {name: dict(iou) for name, iou in result.iou.items()}, "seed": seed}
    write_text(numbers, json_format.dumps(values | {"steps": steps}, indent=1) + "\n")
    families = list(next(iter(result.iou.values())))
    lines = table(
        ["trained with", *("as it is" if each == "none" else each for each in families)],
        [[name, *(iou[each] for each in families)] for name, iou in result.iou.items()],
    )
    emit(values | {"figure": str(figure)}, [*lines, f"figure: {figure}"], as_json=json)
