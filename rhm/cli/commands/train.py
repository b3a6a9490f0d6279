"""``rhm train``."""

from pathlib import Path
from typing import Annotated

import typer

from rhm.cli.options import BatchSize, Json, ResumeRun, Steps, TargetBank, required
from rhm.cli.output import emit, shows_progress
from rhm.cli.training_output import continues, finished_run
from rhm.required_files import require_catalog
from rhm.training.configs.named_configs import config_file


def train(
    config: Annotated[
        Path,
        typer.Argument(
            help="Configuration: a YAML file, or a name that `rhm configs` lists.",
            callback=required(config_file),
        ),
    ],
    bank: TargetBank = None,
    catalog: Annotated[
        Path | None,
        typer.Option(help="Catalog of labelled imagery.", callback=required(require_catalog)),
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--source", help="Domain whose labels are learned. Can be repeated. Default: all."
        ),
    ] = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Learning rate, above 0 and below 10.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting such as trainer.average=0.2. Can be repeated."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run. Default: that of the configuration.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for runs.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the run.")] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="Number of processes on this machine, one per device.")
    ] = None,
    num_nodes: Annotated[int | None, typer.Option(min=1, help="Number of machines.")] = None,
    resume: ResumeRun = False,
    json: Json = False,
) -> None:
    """Train a model by a configuration.

    Example: `rhm train my-city --source kathmandu --bank kampala.bank`
    """
    from rhm.evaluation.footprint_precision import calibrate_scores
    from rhm.training.config import read_config
    from rhm.training.fitting import fit

    read = read_config(
        config,
        settings or (),
        name=name,
        seed=seed,
        output=None if output is None else str(output),
        trainer__devices=devices,
        trainer__num_nodes=num_nodes,
        data__catalog=None if catalog is None else str(catalog),
        data__sources=sources or None,
        augment__bank=None if bank is None else str(bank),
        trainer__steps=steps,
        trainer__batch_size=batch_size,
        optimizer__learning_rate=learning_rate,
    )
    run = fit(
        read,
        resume=continues(read, resume=resume),
        progress=shows_progress(quiet=json),
        calibrate=calibrate_scores,
    )
    if not run.config.trainer.is_main_process:
        return  # the process that launched this one prints the result
    more, lines = finished_run(run)
    values = {"run": str(run.folder), "model": str(run.model), **more}
    emit(values, [*lines, f"model: {run.model}"], as_json=json)
