"""Train the starter model, and score its recipe on each domain that it was not shown.

    python benchmarks/starter.py --work /tmp/starter

The starter learns from all labelled sets of ``--data`` (by default ``RHM_DATA`` or
``../shared/data``) and from synthetic towns, split by group, with the settings of the configuration
``starter``. What to expect of it in a new place is measured by leaving one domain out: a model of
the same recipe is trained without each domain in turn, neither its labels nor its histograms, and
both models are tested on the same test images of that domain.

Finished runs are not repeated and interrupted ones continue. ``--table`` only prints the table, and
``--ship rhm/models/shipped/starter`` also writes the model and its card, as they come with rhm. The
nine models take hours: those that leave a domain out may be trained for fewer steps (``--only
dubai ... --steps 1500``), and the card says so. With ``--earlier CARD``, what an earlier card says
of them is kept where they were not trained again.
"""

import argparse
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from machine import machine
from places import find_sources
from starter_card import starter_card

from rhm.data.catalog import Catalog, Source
from rhm.data.layouts.folder import find_in_folder
from rhm.evaluation.evaluator import evaluate_model
from rhm.evaluation.footprint_precision import calibrate_scores
from rhm.evaluation.score_files import read_scores
from rhm.evaluation.scores import FILE, DomainScores, Interval, Scores
from rhm.files import write_text
from rhm.models.build import SegmentationModel
from rhm.models.model_file import load_model, save_model
from rhm.models.named_models import CARD, MODEL
from rhm.synthetic.world import write_sample_world
from rhm.training.config import read_config
from rhm.training.fitting import fit_once
from rhm.training.run import Run

EVERYTHING = "starter"

SYNTHETIC = "synthetic"
"""Domain of all synthetic tiles, which every model is trained on."""

SHARES = {"val": 0.1, "test": 0.3}
_COLUMNS = (
    *("domain", "groups tested", "IoU, left out", "IoU, trained on it"),
    *("footprint F1, left out", "footprint F1, trained on it"),
)
_EARLIER_STEPS = 1500  # of cards that do not say it

TOWNS = 4
"""Number of synthetic worlds of two towns each, seen by two sensors each."""


@dataclass(frozen=True)
class EarlierCard:
    """What an earlier card says of models that leave a domain out.

    Attributes:
        cells: scores as the card shows them, by domain and ``iou`` or ``f1``.
        steps: number of steps that they were trained for.
    """

    cells: Mapping[tuple[str, str], str]
    steps: int

    @classmethod
    def read(cls, path: Path | None) -> "EarlierCard":
        """Read a card; without one, nothing is known."""
        text = path.read_text(encoding="utf-8") if path else ""
        cells = {}
        for line in text.splitlines():
            parts = [part.strip() for part in line.strip("|").split("|")]
            if len(parts) == len(_COLUMNS) and parts[1].isdecimal():
                cells |= {(parts[0], "iou"): parts[2], (parts[0], "f1"): parts[4]}
        found = re.search(r"those that leave a domain out for (\d+)", text)
        return cls(cells, int(found[1]) if found else _EARLIER_STEPS)


def main() -> None:
    """Train and test what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("RHM_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="steps of each model instead of the recipe's")
    parser.add_argument("--only", nargs="+", help="models to train: starter, or domains left out")
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--earlier", type=Path, help="earlier card with left-out models")
    parser.add_argument("--ship", type=Path, help="folder to write the model and its card to")
    asked = parser.parse_args()
    catalog = prepare(asked.work, asked.data)
    domains = [name for name in catalog.domains if name != SYNTHETIC]
    if not asked.table:
        for left_out in asked.only or [EVERYTHING, *domains]:
            run = train(asked.work, catalog, left_out, asked.steps)
            tested = domains if left_out == EVERYTHING else [left_out]
            test(run, catalog, tested, asked.work)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{machine('torch', 'segmentation-models-pytorch', 'timm')}, {device}")
    earlier = EarlierCard.read(asked.earlier)
    scores = list(table(asked.work, domains, earlier))
    print("\n".join(scores))
    if asked.ship:
        model = calibrated(load_model(Run(asked.work / "runs" / EVERYTHING).model), catalog)
        save_model(model, asked.ship / MODEL, half=True)
        steps = steps_of(asked.work, domains, earlier)
        write_text(asked.ship / CARD, starter_card(model.spec, catalog, scores, steps))


def prepare(work: Path, data: Path) -> Catalog:
    """Return the catalog of all sets and of the synthetic towns, split by group."""
    path = work / "catalog.parquet"
    if not path.is_file():
        Catalog.build(sources(work, data)).assign_splits(SHARES).save(path)
    return Catalog.load(path)


def sources(work: Path, data: Path) -> list[Source]:
    """Return the images of all sets and of the synthetic towns, which are drawn."""
    found = find_sources(data)
    for seed in range(TOWNS):
        world = work / "worlds" / str(seed)
        write_sample_world(world, tile_size=384, tiles_per_domain=4, gsd_m=0.3, seed=seed)
        for folder in sorted(world.glob("*_*")):
            drawn = find_in_folder(folder, domain=SYNTHETIC)
            found += [replace(source, split="train") for source in drawn]
    return found


def train(work: Path, catalog: Catalog, left_out: str, steps: int | None) -> Run:
    """Train one model by the recipe, unless it is finished."""
    chosen = [name for name in catalog.domains if name != left_out]
    return fit_once(
        read_config(
            EVERYTHING,
            name=EVERYTHING if left_out == EVERYTHING else f"without-{left_out}",
            output=str(work / "runs"),
            data__catalog=str(work / "catalog.parquet"),
            data__sources=chosen,
            data__workers=1,
            trainer__steps=steps,
        ),
        calibrate=calibrate_scores,
    )


def test(run: Run, catalog: Catalog, domains: Sequence[str], work: Path) -> None:
    """Score a model on the test images of some domains, unless that is done."""
    if (run.evaluation / FILE).is_file():
        return
    evaluate_model(
        load_model(run.model),
        catalog,
        run.evaluation,
        name=run.folder.name,
        catalog_path=str(work / "catalog.parquet"),
        domains=domains,
    )
    print(f"{run.folder.name}: tested on {', '.join(domains)}", flush=True)


def table(work: Path, domains: Sequence[str], earlier: EarlierCard) -> Iterator[str]:
    """Yield the scores as Markdown, with a row for each domain."""
    yield f"| {' | '.join(_COLUMNS)} |"
    yield "|---" * len(_COLUMNS) + "|"
    trained = _scores(Run(work / "runs" / EVERYTHING))
    for domain in domains:
        without = _scores(Run(work / "runs" / f"without-{domain}"))
        cells = []
        for kind, score in (("pixels", "iou"), ("footprints", "f1")):
            kept = earlier.cells.get((domain, score), "")
            cells.append(kept if without is None else _cell(without, domain, kind, score))
            cells.append(_cell(trained, domain, kind, score))
        known = next((s for s in (without, trained) if s is not None), None)
        groups = "" if known is None else str(_domain(known, domain).groups)
        yield f"| {domain} | {groups} | {' | '.join(cells)} |"


def steps_of(work: Path, domains: Sequence[str], earlier: EarlierCard) -> tuple[int, int]:
    """Return the steps of the model, and those of the models that left a domain out."""
    runs = [Run(work / "runs" / f"without-{domain}") for domain in domains]
    steps = {run.config.trainer.steps if run.model.is_file() else earlier.steps for run in runs}
    if len(steps) > 1:
        raise SystemExit(f"models that leave a domain out have {sorted(steps)} steps: train alike")
    return Run(work / "runs" / EVERYTHING).config.trainer.steps, steps.pop()


def calibrated(model: SegmentationModel, catalog: Catalog) -> SegmentationModel:
    """Return a model whose scores are calibrated, which those of earlier runs are not."""
    if model.spec.score_calibration is None:
        listed = catalog.select(domains=model.spec.sources, split="val", labelled=True)
        found = calibrate_scores(model, listed.tiles)
        model.spec = replace(model.spec, score_calibration=found)
    return model


def _scores(run: Run) -> Scores | None:
    return read_scores(run.evaluation) if (run.evaluation / FILE).is_file() else None


def _domain(scores: Scores, name: str) -> DomainScores:
    return next(each for each in scores.domains if each.name == name)


def _cell(scores: Scores | None, domain: str, kind: str, score: str) -> str:
    if scores is None:
        return ""
    found = _domain(scores, domain)
    of_kind = found.pixel if kind == "pixels" else found.object
    interval: Interval = getattr(of_kind, score)
    if interval.value is None:
        return ""
    if interval.low is None or interval.high is None:
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


if __name__ == "__main__":
    main()
