"""Does the rank of the updates matter: LoRA and Deep LoRA at ranks 8 and 64, each at its best rate.

    python benchmarks/ranks.py --work /tmp/few --tune      # rates, on Austin and Chicago
    python benchmarks/ranks.py --work /tmp/few

The setting is that of ``few_shot.py`` with 16 chips, in Las Vegas and in Banepa. LoRA multiplies
its update by ``alpha / rank``, and a comparison of ranks depends on what becomes of ``alpha``: it
is 8 at every rank, or grows with the root of the rank (rank-stabilised LoRA, Kalajdzievski, 2023),
or is the rank itself. The rate of every arm is chosen at both ranks, on other places with other
seeds; where the lowest or the highest rate that was tried is the best, the next one is tried, too.
The higher rank also has the rate that is best for the lower one: what becomes of those who do not
choose a rate for their rank. The last arm has the authors' setting of AdamW's eps, 1e-6.

Finished runs are kept in the file ``--kept`` and not repeated; ``--table`` only prints the tables.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import few_shot
import numpy as np
from few_shot import TUNED_ON, TUNING_SEEDS, Run
from kept import KeptResults
from learning_rates import LADDER, best_rate, finished, rates_table, rates_to_try
from machine import machine, mean_and_interval

PLACES = ("vegas", "banepa")
RANKS = (8, 64)
SETTINGS = ((8, 8), (64, 64), (64, 8))
"""Ranks of the updates, and those for which their rates were chosen."""
SHOTS = 16
FIRST_TRIED = (1e-3, 3e-3, 1e-2, 3e-2)
ARMS = (
    "lora, alpha 8",
    "lora, rank-stabilised",
    "lora, alpha = rank",
    "deep-lora",
    "deep-lora, eps",
)
BASELINE = ARMS[0]


def main() -> None:
    """Adapt and test the missing runs, then print the tables."""
    parser = few_shot.options(__doc__)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    asked = parser.parse_args()
    kept = few_shot.kept_runs(asked, "kept-ranks")
    if not asked.table:
        source = few_shot.prepare(asked.work, asked.data)
        if asked.tune:
            for rank, arm in itertools.product(RANKS, asked.arms):
                while missing := rates_to_try(
                    tuned(results(kept, asked.steps), arm, rank), FIRST_TRIED, len(TUNING_SEEDS)
                ):
                    for seed, rate in itertools.product(TUNING_SEEDS, missing):
                        run = run_of(TUNED_ON, arm, rank, seed, rate)
                        few_shot.run_cell(asked.work, kept, source, run, asked.steps)
        else:
            tried = results(kept, asked.steps)
            settings = list(itertools.product(SETTINGS, asked.arms, PLACES))
            for seed, ((rank, of), arm, place) in itertools.product(range(asked.seeds), settings):
                run = run_of(place, arm, rank, seed, chosen(tried, arm, of))
                few_shot.run_cell(asked.work, kept, source, run, asked.steps)
    found = results(kept, asked.steps)
    print(machine("torch", "segmentation-models-pytorch", "timm"))
    print("\n".join([*tuning_table(found), "", *table(found)]))


def run_of(place: str, arm: str, rank: int, seed: int, rate: float) -> Run:
    """Return the adaptation of an arm."""
    method = "lora" if arm.startswith("lora") else "deep-lora"
    adapter: dict[str, Any] = {}
    if method == "lora":
        adapter["alpha"] = {
            "lora, alpha 8": 8.0,
            "lora, rank-stabilised": 8.0 * float(np.sqrt(rank / 8.0)),
            "lora, alpha = rank": float(rank),
        }[arm]
    eps = 1e-6 if arm.endswith("eps") else Run.eps
    return Run(place, method, rank, SHOTS, seed, rate, adapter, eps)


def results(kept: KeptResults, steps: int) -> dict[str, float]:
    """Return the IoU of all runs of a length by their names."""
    return {row["name"]: row["iou"] for row in kept.rows if row["steps"] == steps}


def tuned(found: Mapping[str, float], arm: str, rank: int) -> dict[float, list[float]]:
    """Return the IoU on the places of choice by learning rate, of those that are finished."""
    by_rate = {
        rate: [
            found[name]
            for seed in TUNING_SEEDS
            if (name := run_of(TUNED_ON, arm, rank, seed, rate).name) in found
        ]
        for rate in LADDER
    }
    return finished(by_rate, len(TUNING_SEEDS))


def chosen(found: Mapping[str, float], arm: str, rank: int) -> float:
    """Return the rate that was best on the places of choice."""
    tried = tuned(found, arm, rank)
    if not tried:
        raise SystemExit(f"choose the rate of '{arm}' at rank {rank} first: --tune")
    return best_rate(tried)


def tuning_table(found: Mapping[str, float]) -> list[str]:
    """Return the IoU of every rate that was tried, as Markdown."""
    tried = {(arm, str(rank)): tuned(found, arm, rank) for arm in ARMS for rank in RANKS}
    return rates_table(tried, "chosen on Austin and Chicago", "rank")


def table(found: Mapping[str, float]) -> Iterator[str]:
    """Yield the IoU of every arm at its chosen rate, with paired 95 % intervals, as Markdown."""
    columns = f"IoU | over {BASELINE} | over its rank {RANKS[0]}"
    yield f"| place | rank | its rate is that of rank | arm | rate | seeds | {columns} |"
    yield "|---" * 9 + "|"
    for place, (rank, of), arm in itertools.product(PLACES, SETTINGS, ARMS):
        ours, other = (scores(found, place, rank, of, name) for name in (arm, BASELINE))
        if not ours:
            continue
        low = scores(found, place, RANKS[0], RANKS[0], arm)
        cells = [
            place,
            str(rank),
            str(of),
            arm,
            f"{chosen(found, arm, of):g}",
            str(len(ours)),
            f"{np.mean(list(ours.values())):.3f}",
            "" if arm == BASELINE else paired(ours, other),
            "" if rank == RANKS[0] else paired(ours, low),
        ]
        yield f"| {' | '.join(cells)} |"


def scores(
    found: Mapping[str, float], place: str, rank: int, of: int, arm: str
) -> dict[int, float]:
    """Return the IoU by seed, at the rate that was chosen for a rank."""
    if not tuned(found, arm, of):
        return {}
    rate = chosen(found, arm, of)
    named = {seed: run_of(place, arm, rank, seed, rate).name for seed in range(100)}
    return {seed: found[name] for seed, name in named.items() if name in found}


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> str:
    """Return the paired difference over the seeds that both have, with its 95 % interval."""
    gains = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    return mean_and_interval(gains) if gains else ""


if __name__ == "__main__":
    main()
