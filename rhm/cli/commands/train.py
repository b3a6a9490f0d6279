"""``rhm train``."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rhm.cli.options import BatchSize, Json, ResumeRun, Steps, TargetBank, required
from rhm.cli.output import emit, say, shows_progress
from rhm.cli.training_output import continues, finished_run
from rhm.required_files import require_catalog
from rhm.training.configs.named_configs import config_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rhm.colour.spectra.spectrum import Spectrum
    from rhm.training.config import RunConfig

TOO_FAR = 1.5
"""Ratio of the waves of chips to those of a bank above which too many are unknown to the bank."""


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
    resumed = continues(read, resume=resume)
    if read.trainer.is_main_process and not resumed:
        for note in _on_resolution(read):
            say(note)
    run = fit(
        read,
        resume=resumed,
        progress=shows_progress(quiet=json),
        calibrate=calibrate_scores,
    )
    if not run.config.trainer.is_main_process:
        return  # the process that launched this one prints the result
    more, lines = finished_run(run)
    values = {"run": str(run.folder), "model": str(run.model), **more}
    emit(values, [*lines, f"model: {run.model}"], as_json=json)


def _on_resolution(config: "RunConfig") -> "Iterator[str]":
    """Yield what a new run lacks because of the ground sampling distance of its imagery.

    Raises:
        CatalogError: the catalog cannot be read, or has no such domain.
        BankError: the bank cannot be read.
        ConfigError, ModelFileError: the base model does not fit, or cannot be read.
    """
    from statistics import median

    from rhm.augmentation.colours import SOURCES_BANK
    from rhm.colour.histogram_bank import HistogramBank
    from rhm.data.catalog import Catalog
    from rhm.training.base_model import with_base

    # A base model may give the resolution of the chips.
    gsd_m, bank = with_base(config).data.gsd_m, config.augment.bank
    if gsd_m is None and not config.target.source_free:
        catalog, sources = Catalog.load(config.data.catalog), config.data.sources
        seen = [name for name in catalog.domains if name not in config.target.domains]
        chosen = catalog.select(domains=sources or seen, split="train", labelled=True)
        known = [tile.gsd_m for tile in chosen.tiles if tile.gsd_m is not None]
        if chosen.tiles and not known:
            yield (
                "no training image says its metres per pixel, so the model will take scenes of "
                "any resolution as they are: set data.gsd_m to that of the images"
            )
        gsd_m = median(known) if known else None
    if gsd_m and bank not in (None, SOURCES_BANK) and config.augment.uses("from_spectra"):
        yield from _on_spectra(HistogramBank.load(bank).spectra, config, gsd_m)


def _on_spectra(
    spectra: "Sequence[Spectrum | None]", config: "RunConfig", gsd_m: float
) -> "Iterator[str]":
    """Yield a note if spectra do not know the waves of chips that are given theirs."""
    measured = [each for each in spectra if each is not None]
    known = [(each, each.gsd_m) for each in measured if each.gsd_m is not None]
    beta = config.augment.beta[1]
    shortest_m, longest_m = gsd_m / beta if beta else math.inf, gsd_m * config.data.chip_px
    coarse = [own for each, own in known if each.waves_px[0] * own > TOO_FAR * shortest_m]
    narrow: dict[str, list[float]] = {}
    build = f"build the bank with --gsd {gsd_m:.3g}"
    if coarse:
        yield (
            f"{len(coarse)} of {len(measured)} spectra in the bank were measured at "
            f"{_ends(coarse)} m per pixel, and the chips have {gsd_m:.2g} m, so many of their "
            f"waves are unknown and stay as they are: {build}"
        )
    for each, own in known if beta else ():
        if TOO_FAR * (size := each.waves_px[1] * own) < longest_m:
            if not each.others:
                advice = "build the bank again, with this version of rhm"
            else:
                advice = build if each.is_bounded else "larger images, such as mosaics, have them"
            narrow.setdefault(advice, []).append(size)
    for advice, sizes in narrow.items():
        yield (
            f"{len(sizes)} of {len(measured)} spectra in the bank know no waves longer than "
            f"{_ends(sizes)} m, and the chips are {_rounded(longest_m)} m wide, so their longer "
            f"waves stay as they are: {advice}"
        )


def _ends(values: "Sequence[float]") -> str:
    return " to ".join(dict.fromkeys(map(_rounded, (min(values), max(values)))))


def _rounded(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"
