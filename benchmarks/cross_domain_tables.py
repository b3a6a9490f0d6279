"""Tables of ``cross_domain.py``: mean IoU and standard deviation over seeds, as Markdown."""

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from machine import mean_and_interval, mean_and_spread
from places import PAIRS, PLACES

from rhm.colour.shifts import SHIFTS

Results = Sequence[dict[str, Any]]
"""The results of runs, as ``cross_domain.py`` stores them."""

_Runs = Mapping[int, Mapping[str, float]]

_MEAN = "mean of the families"


def cross_domain_table(found: Results, names: Sequence[str]) -> Iterator[str]:
    """Yield the results of experiment (b) as Markdown, a row per augmentation."""
    iou = _cross_domain(found)
    columns = "on the source | mean of pairs | gain over none | wins | gap closed"
    yield f"| augmentation | seeds | {columns} |"
    yield "|---" * 7 + "|"
    for name in names:
        seeds = _complete_seeds(iou, name)
        if not seeds:
            continue
        home = [statistics.mean(iou[name, place, place, s] for place in PLACES) for s in seeds]
        away = [statistics.mean(iou[name, a, b, s] for a, b in PAIRS) for s in seeds]
        yield (
            f"| {name} | {len(seeds)} | {mean_and_spread(home)} | {mean_and_spread(away)} | "
            f"{' | '.join(_against_none(iou, name, seeds))} |"
        )


def pair_table(found: Results, names: Sequence[str]) -> Iterator[str]:
    """Yield experiment (b) by pairs as Markdown; the last column was trained on the target."""
    iou = _cross_domain(found)
    seeds = {name: _complete_seeds(iou, name) for name in names}
    shown = [name for name in names if seeds[name]]
    if "none" not in shown:
        return
    yield f"| source | target | {' | '.join(shown)} | on the target |"
    yield "|---" * (len(shown) + 3) + "|"
    for a, b in PAIRS:
        cells = [mean_and_spread([iou[name, a, b, s] for s in seeds[name]]) for name in shown]
        bound = mean_and_spread([iou["none", b, b, s] for s in seeds["none"]])
        yield f"| {a} | {b} | {' | '.join(cells)} | {bound} |"


def _cross_domain(found: Results) -> dict[tuple[str, str, str, int], float]:
    """Return the IoU by augmentation, source, target and seed."""
    return {
        (each["augmentation"], each["source"], target, each["seed"]): value
        for each in found
        if each["experiment"] == "cross"
        for target, value in each["iou"].items()
    }


def _complete_seeds(iou: dict[tuple[str, str, str, int], float], name: str) -> list[int]:
    """Return the seeds for which all pairs of an augmentation are finished."""
    seeds = sorted({key[3] for key in iou if key[0] == name})
    return [s for s in seeds if all((name, a, b, s) in iou for a, b in PAIRS)]


def _against_none(
    iou: dict[tuple[str, str, str, int], float],
    name: str,
    seeds: Sequence[int],
) -> tuple[str, str, str]:
    """Return the paired difference, the share of pairs won, and the part of the gap closed."""
    common = [s for s in seeds if all(("none", a, b, s) in iou for a, b in PAIRS)]
    gains = {(a, b, s): iou[name, a, b, s] - iou["none", a, b, s] for a, b in PAIRS for s in common}
    if not gains or name == "none":
        return "", "", ""
    by_seed = [statistics.mean(gains[a, b, s] for a, b in PAIRS) for s in common]
    won = sum(gain > 0 for gain in gains.values())
    gap = sum(iou["none", b, b, s] - iou["none", a, b, s] for a, b, s in gains)
    return (
        mean_and_spread(by_seed, sign="+"),
        f"{won} of {len(gains)}",
        f"{sum(gains.values()) / gap:.0%}" if gap > 0 else "",
    )


def variant_table(found: Results, names: Sequence[str], source: str) -> Iterator[str]:
    """Yield the variants of the method on the largest source, as Markdown."""
    iou = _cross_domain(found)
    others = [place for place in PLACES if place != source]
    places = " | ".join(others)
    yield f"| from {source} | seeds | on the source | {places} | mean | gain over rhm |"
    yield "|---" * (len(others) + 5) + "|"
    for name in names:
        seeds = [s for s in range(100) if all((name, source, b, s) in iou for b in PLACES)]
        if not seeds:
            continue
        by_place = [mean_and_spread([iou[name, source, b, s] for s in seeds]) for b in others]
        means = {s: statistics.mean(iou[name, source, b, s] for b in others) for s in seeds}
        plain = {
            s: statistics.mean(iou["rhm", source, b, s] for b in others)
            for s in seeds
            if ("rhm", source, others[0], s) in iou
        }
        gains = [means[s] - plain[s] for s in plain]
        yield (
            f"| {name} | {len(seeds)} | "
            f"{mean_and_spread([iou[name, source, source, s] for s in seeds])} | "
            f"{' | '.join(by_place)} | {mean_and_spread(list(means.values()))} | "
            f"{mean_and_spread(gains, sign='+') if gains and name != 'rhm' else ''} |"
        )


def threshold_table(found: Results, names: Sequence[str]) -> Iterator[str]:
    """Yield the IoU at thresholds chosen with the target's labels, as Markdown."""
    runs = [each for each in found if each["experiment"] == "thresholds"]
    yield (
        "| source | augmentation | seeds | IoU on the targets at 0.5 | at the best threshold | "
        "predicted building share | true building share |"
    )
    yield "|---" * 7 + "|"
    for source, name in itertools.product(PLACES, names):
        of_both = [e["scores"] for e in runs if (e["source"], e["augmentation"]) == (source, name)]
        if not of_both:
            continue
        cells = []
        for key in ("iou", "best_iou", "predicted_share", "building_share"):
            away = [
                statistics.mean(values[key] for place, values in scores.items() if place != source)
                for scores in of_both
            ]
            spread = key.endswith("iou")
            cells.append(mean_and_spread(away) if spread else f"{statistics.mean(away):.3f}")
        yield f"| {source} | {name} | {len(of_both)} | {' | '.join(cells)} |"


def shift_table(found: Results, names: Sequence[str]) -> Iterator[str]:
    """Yield experiment (a) as Markdown: the IoU of each augmentation under each family of maps.

    A second table has paired differences, with 95 % intervals over seeds: to the models without
    augmentation under the same maps, and of the mean under all families to those with ``rhm``. A
    third one has what each family of maps takes from the same models' IoU on images as they are.
    """
    by_name = {
        name: {
            e["seed"]: e["iou"] | {_MEAN: statistics.mean(e["iou"][each] for each in SHIFTS)}
            for e in found
            if e["experiment"] == "controlled" and e["augmentation"] == name
        }
        for name in names
    }
    shown = {name: runs for name, runs in by_name.items() if runs}
    columns = ("as it is", *SHIFTS, _MEAN)
    yield f"| augmentation | seeds | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 2) + "|"
    for name, runs in shown.items():
        means = [statistics.mean(iou[each] for iou in runs.values()) for each in columns]
        yield f"| {name} | {len(runs)} | {' | '.join(f'{mean:.3f}' for mean in means)} |"
    yield ""
    yield f"| over none | {' | '.join(columns)} | {_MEAN}, over rhm |"
    yield "|---" * (len(columns) + 2) + "|"
    for name, runs in shown.items():
        cells = [
            mean_and_interval(over) if (over := _paired(runs, shown.get(base, {}), each)) else ""
            for each, base in [*((each, "none") for each in columns), (_MEAN, "rhm")]
        ]
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""
    yield f"| taken by the maps | {' | '.join([*SHIFTS, _MEAN])} |"
    yield "|---" * (len(SHIFTS) + 2) + "|"
    for name, runs in shown.items():
        taken = [[iou["as it is"] - iou[each] for iou in runs.values()] for each in columns[1:]]
        yield f"| {name} | {' | '.join(map(mean_and_interval, taken))} |"


def _paired(runs: _Runs, base: _Runs, column: str) -> list[float]:
    """Return the differences between runs of the same seeds."""
    return [iou[column] - base[seed][column] for seed, iou in runs.items() if seed in base]
