"""What ``rhm train`` and ``rhm adapt`` say of a run."""

import math
from typing import TYPE_CHECKING, Any

from rhm.cli.output import duration, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rhm.colour.spectra.spectrum import Spectrum
    from rhm.training.config import RunConfig
    from rhm.training.run import Run

TOO_FAR = 1.5
"""Ratio of the waves of chips to those of a bank above which too many are unknown to the bank."""


def continues(config: "RunConfig", *, resume: bool) -> bool:
    """Return whether an earlier attempt is continued, and say what a new run lacks.

    An interrupt may come before there is anything to continue: one that never began begins.

    Raises:
        CatalogError: the catalog cannot be read, or has no such domain.
        BankError: the bank cannot be read.
        ConfigError, ModelFileError: the base model does not fit, or cannot be read.
    """
    from rhm.training.run import Run

    begun = Run(config.folder).is_begun
    if resume and not begun:
        say(f"there is no run at {config.folder} yet: it begins")
    resumed = resume and begun
    if config.trainer.is_main_process and not resumed:
        for note in (*_on_target(config), *_on_resolution(config)):
            say(note)
    return resumed


def finished_run(run: "Run") -> tuple[dict[str, Any], list[str]]:
    """Return the validation scores, threshold and time of a run, as JSON values and as lines."""
    from rhm.models.spec import load_spec
    from rhm.training.callbacks.run_cost import read_cost
    from rhm.training.configs.trainer_config import SELECT

    scores = run.best_scores(SELECT[run.config.trainer.select])
    cost, threshold = read_cost(run.folder), load_spec(run.model).threshold
    values = {
        "validation": scores,
        "threshold": threshold,
        "seconds": None if cost is None else cost.seconds,
    }
    lines = []
    if cost is not None:
        lines.append(f"{cost.steps} steps in {duration(cost.seconds)}")
    validated = f"validation IoU {scores['iou']:.3f}, " if "iou" in scores else ""
    lines.append(f"{validated}threshold {threshold:.3f}")
    return values, lines


def _on_target(config: "RunConfig") -> "Iterator[str]":
    """Yield what a new run does not do with the unlabelled domains that it names."""
    target = config.target
    if target.domains and target.method == "none" and config.trainer.select != "expected-iou":
        taken = "" if config.data.sources else ", and their labels are left out"
        yield f"nothing is learned from target.domains without target.method{taken}"


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
