"""How fast trained networks compress and separate the classes over depth, at home and away.

    python benchmarks/depth_trends.py --work /tmp/new-city

The models are those that ``new_city.py`` has trained in ``--work``. Lines are fitted to log C_l and
D_l over their stages (Wang et al., JMLR 26, 2025), as ``rhm analyze`` does; slopes are averaged
over places for each seed, and intervals are over seeds. A second table asks whether what is seen at
home predicts how a model does in other places: rank correlations with the IoU there, over the
models of one source, averaged over sources.

Finished models are kept in ``--work``, one JSON file each. ``--table`` only prints the tables.
"""

import argparse
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, mean_and_interval
from new_city_methods import file_stem
from new_city_tables import KeptCells, Resampled
from numpy.typing import NDArray
from places import PLACES
from scipy import stats

from rhm.analysis.depth_trends import Fit, fit_line
from rhm.data.catalog import Catalog, Tile
from rhm.evaluation.features.feature_moments import CellSampling
from rhm.evaluation.features.inspection import inspect_model
from rhm.files import write_text
from rhm.models.model_file import load_model

METHODS = ("none", "rhm", "fda + scale")
SAMPLING = CellSampling(images=24, window_px=256, cells=100)
INPUT = "encoder[0]"
SHUFFLES = 10_000

GROUNDS = ("encoder", "decoder", "same ground")
"""Stages that a line is fitted to: those of a part of the network, whose coarse ones only see the
interiors of large buildings, or those behind the input that sample the same squares of ground."""

Rows = Sequence[Mapping[str, Any]]
"""Statistics of the stages of one model, a row for each stage and domain."""

Models = Mapping[tuple[str, str, int], Rows]
"""Statistics by method, source and seed."""


def main() -> None:
    """Look into the models that were not looked into, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--setting", default="300x8x96", help="folder of the models in --work")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    kept = Path(__file__).with_name("new_city.jsonl")
    parser.add_argument("--kept", type=Path, default=kept, help="scores of the models")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    asked = parser.parse_args()
    folder = asked.work / asked.setting
    found: dict[tuple[str, str, int], Rows] = {}
    images = None if asked.table else test_images(folder)
    for seed, method, source in itertools.product(asked.seeds, asked.methods, PLACES):
        rows = looked_into(folder, file_stem(source, method, seed), images)
        if rows:
            found[method, source, seed] = rows
    print(f"{machine('torch', 'segmentation-models-pytorch', 'timm')}\n")
    print("\n".join(slope_table(found)), end="\n\n")
    print("\n".join(prediction_table(found, KeptCells(asked.kept, asked.setting).cells)))


def test_images(folder: Path) -> dict[str, list[Tile]]:
    """Return the test images by domain, which no training saw."""
    catalog = Catalog.load(folder / "catalog.parquet")
    return {
        domain: catalog.select(domains=[domain], split="test", labelled=True).tiles
        for domains in PLACES.values()
        for domain in domains
    }


def looked_into(folder: Path, stem: str, images: dict[str, list[Tile]] | None) -> Rows:
    """Return the statistics of a model, from its result or of ``images``; none without either."""
    result, model = folder / "trends" / f"{stem}.json", folder / "models" / f"{stem}.safetensors"
    if not result.is_file():
        if images is None or not model.is_file():
            return []
        inspected = inspect_model(load_model(model).eval(), images, SAMPLING, name=stem)
        rows = [
            {
                "stage": row.stage,
                "number": row.number,
                "part": row.part,
                "comparable": row.comparable,
                "domain": row.domain,
                "home": row.trained_on,
                "compression": row.compression,
                "discrimination": row.discrimination,
                "nc1": row.nc1,
                "transfer": row.transfer,
            }
            for row in inspected.stages
        ]
        write_text(result, json.dumps(rows) + "\n")
        print(f"{stem}: {len(rows)} stages in their domains", flush=True)
    found: Rows = json.loads(result.read_text())
    return found


def fits(rows: Rows, ground: str, home: bool) -> dict[str, list[Fit]]:
    """Return the lines of log C_l and D_l over the stages, one for each domain."""
    found: dict[str, list[Fit]] = {"compression": [], "discrimination": []}
    for domain in dict.fromkeys(row["domain"] for row in rows if row["home"] == home):
        stages = [row for row in rows if row["domain"] == domain and row["stage"] != INPUT]
        if ground in ("encoder", "decoder"):
            stages = [row for row in stages if row["part"] == ground]
        else:
            stages = [row for row in stages if row["comparable"]]
        if len(stages) < 3:
            continue
        # Stages are counted along the network; those that are left out leave no gaps.
        depth = np.arange(len(stages))
        log_c = [math.log(row["compression"]) for row in stages]
        found["compression"].append(fit_line(depth, log_c))
        found["discrimination"].append(fit_line(depth, [row["discrimination"] for row in stages]))
    return found


def slope_table(found: Models) -> Iterator[str]:
    """Yield the slopes of all methods as Markdown, with 95 % intervals over seeds."""
    yield "| stages | images | method | seeds | slope of log C_l | falls | R2 | slope of D_l | R2 |"
    yield "|---" * 9 + "|"
    methods = dict.fromkeys(method for method, _, _ in found)
    for ground, home, method in itertools.product(GROUNDS, (True, False), methods):
        seeds = sorted({seed for of, _, seed in found if of == method})
        cells = [ground, "home" if home else "away", method, str(len(seeds))]
        for quantity in ("compression", "discrimination"):
            of_seeds = [
                [
                    fit
                    for (of, _, number), rows in found.items()
                    if (of, number) == (method, seed)
                    for fit in fits(rows, ground, home)[quantity]
                ]
                for seed in seeds
            ]
            every = [fit for of_seed in of_seeds for fit in of_seed]
            slopes = [float(np.mean([fit.slope for fit in of_seed])) for of_seed in of_seeds]
            cells.append(mean_and_interval(slopes))
            if quantity == "compression":
                cells.append(f"{sum(fit.slope < 0 for fit in every)} of {len(every)}")
            cells.append(f"{np.mean([fit.r_squared for fit in every]):.2f}")
        yield f"| {' | '.join(cells)} |"


def prediction_table(found: Models, cells: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield how well statistics of a model rank models by their IoU away, as Markdown."""
    scores = Resampled(cells, list(PLACES), list(PLACES), "own")
    tried = [key for key in found if key[2] in scores.seeds.get(key[0], ())]
    iou = {
        (method, source, seed): np.mean(
            [scores.pair(method, source, target, [seed]) for target in PLACES if target != source]
        )
        for method, source, seed in tried
    }
    yield "| statistic of a model | rank correlation with the IoU away | between seeds | p |"
    yield "|---" * 4 + "|"
    for name, of in {
        "C_l of the last stage, home": lambda rows: last(rows, "compression", home=True),
        "NC1 of the last stage, home": lambda rows: last(rows, "nc1", home=True),
        "slope of log C_l, same ground, home": lambda rows: np.mean(
            [fit.slope for fit in fits(rows, "same ground", home=True)["compression"]]
        ),
        "C_l of the last stage, away": lambda rows: last(rows, "compression", home=False),
        "transferred probe, away (needs labels)": lambda rows: last(rows, "transfer", home=False),
    }.items():
        value = {key: float(of(found[key])) for key in tried}
        shown = []
        for within in (False, True):
            groups = grouped(value, iou, within)
            drawn = shuffled_correlations(groups) if groups else np.array([np.nan])
            shown.append(f"{drawn[0]:+.2f}" if groups else "")
        # Seeds of one method are alike, and the methods are too few to be shuffled.
        p = float(np.mean(np.abs(drawn) >= np.abs(drawn[0]) - 1e-9))
        shown.append(f"{p:.3f}" if groups else "")
        yield f"| {name} | {' | '.join(shown)} |"


def last(rows: Rows, quantity: str, *, home: bool) -> float:
    """Return a statistic of the last stage, averaged over domains."""
    end = max(row["number"] for row in rows)
    return float(
        np.mean([row[quantity] for row in rows if row["number"] == end and row["home"] == home])
    )


def grouped(
    value: Mapping[tuple[str, str, int], float],
    iou: Mapping[tuple[str, str, int], Any],
    within: bool,
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return statistic and IoU of the models of each source, or of each source and method."""
    groups: dict[tuple[str, ...], list[tuple[str, str, int]]] = {}
    for key in value:
        groups.setdefault((key[0], key[1]) if within else (key[1],), []).append(key)
    return [
        (np.array([value[key] for key in keys]), np.array([iou[key] for key in keys]))
        for keys in groups.values()
        if len(keys) > 2
    ]


def shuffled_correlations(
    groups: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> NDArray[np.float64]:
    """Return Spearman's rank correlation, averaged over groups.

    The first of (1 + SHUFFLES,) values is that of the groups; in the others, the models of each
    group are shuffled.
    """
    rng = np.random.default_rng(0)
    by_group = []
    for x, y in groups:
        ranks = [stats.zscore(stats.rankdata(values)) for values in (x, y)]
        shuffled = rng.permuted(np.tile(ranks[0], (SHUFFLES, 1)), axis=1)
        by_group.append(np.vstack([ranks[0], shuffled]) @ ranks[1] / len(x))
    return np.asarray(np.mean(by_group, axis=0))


if __name__ == "__main__":
    main()
