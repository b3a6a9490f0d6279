"""The cross-domain report of the models that ``cross_domain.py`` trained: time, size, findings.

    python benchmarks/cross_domain.py --work cross --augmentations none rhm fda color-jitter
    python benchmarks/report.py cross/300x8x96 -o report.html

The script evaluates the models that have not been evaluated yet and writes the report. It prints
the time that the report took, its size, and how well two label-free measures predict the loss of
IoU.
"""

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from machine import machine

from rhm.data.catalog import Catalog
from rhm.evaluation.evaluator import evaluate_model, picks_of
from rhm.evaluation.score_files import read_scores
from rhm.models.expected_iou import NOTABLE
from rhm.models.model_file import load_model
from rhm.report import write_report
from rhm.report.cross_domain import group_runs, single_runs, targets_of
from rhm.report.runs import EvaluatedRun, load_run
from rhm.report.without_labels import distance_losses

SOURCES = ("massachusetts", "inria", "dubai", "vegas")
MUCH = 0.15
"""A loss of IoU that matters to users of the footprints."""

METHODS = ("none", "rhm", "fda", "color-jitter")


def main() -> None:
    """Evaluate what is missing, write the report and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder with the models of cross_domain.py")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"))
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    catalog = Catalog.load(asked.work / "catalog.parquet")
    runs = []
    for seed, source in itertools.product(range(asked.seeds), SOURCES):
        picks: Mapping[str, Mapping[str, str]] | None = None
        for method in METHODS:
            run = asked.work / "report" / f"{source}-{method}-{seed}"
            picks = evaluated(
                run, asked.work / "models" / f"{source}.{method}.{seed}.safetensors", catalog, picks
            )
            runs.append(run)
    begun = time.perf_counter()
    page = write_report(runs, asked.output)
    seconds = time.perf_counter() - begun
    print(machine("numpy", "jinja2"))
    print(
        f"report of {len(runs)} runs: {seconds:.1f} s, {page.stat().st_size / 1e6:.1f} MB",
        end="\n\n",
    )
    numbers = json.loads(page.with_suffix(".json").read_text())
    print("| method | pairs | histogram distance | expected loss |")
    print("|---|---|---|---|")
    for row in numbers["correlations"]:
        measures = (row["distance"], row["expected_loss"])
        cells = ("" if value is None else f"{value:+.2f}" for value in measures)
        print(f"| {row['method']} | {row['pairs']} | {' | '.join(cells)} |")
    print()
    print("\n".join(warnings_table([load_run(run) for run in runs])))


def warnings_table(runs: Sequence[EvaluatedRun]) -> Iterator[str]:
    """Yield a table of the losses with and without a warning of a single model."""
    yield (
        f"| method | models x domains | with warning | share of the warned that lost over {MUCH} | "
        f"share of losses over {MUCH} with warning | mean loss with warning | mean loss without |"
    )
    yield "|---|---|---|---|---|---|---|"
    for method in METHODS:
        trained = [run for run in runs if run.scores.method == method]
        rows = distance_losses(single_runs(group_runs(trained)), targets_of(trained))
        warned = [row.loss for row in rows if row.expected_loss > NOTABLE]
        calm = [row.loss for row in rows if row.expected_loss <= NOTABLE]
        much = sum(loss > MUCH for loss in warned)
        all_much = much + sum(loss > MUCH for loss in calm)
        yield (
            f"| {method} | {len(rows)} | {len(warned)} | {much / len(warned):.0%} | "
            f"{much / all_much:.0%} | {statistics.fmean(warned):.2f} | "
            f"{statistics.fmean(calm):.2f} |"
        )


def evaluated(
    run: Path, model: Path, catalog: Catalog, picks: Mapping[str, Mapping[str, str]] | None
) -> Mapping[str, Mapping[str, str]]:
    """Evaluate a model in a run folder unless that is done; return the images that it shows."""
    scores = run / "evaluation" / "scores.json"
    if not scores.is_file():
        run.mkdir(parents=True, exist_ok=True)
        own = run / "model.safetensors"
        if not own.exists():
            os.link(model, own)
        evaluate_model(
            load_model(own), catalog, scores.parent, name=run.name, picks=picks, catalog_path=""
        )
        print(f"evaluated {run.name}", flush=True)
    return picks or picks_of(read_scores(scores.parent))


if __name__ == "__main__":
    main()
