"""How benchmarks choose learning rates: on what is not scored, and not at the end of a grid."""

import statistics
from collections.abc import Mapping, Sequence

LADDER = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
"""All rates, about half a power of ten apart, with ends beyond any that could be best."""

Tried = Mapping[float, Sequence[float]]
"""Scores of the runs of choice by learning rate."""


def finished(tried: Tried, runs: int) -> dict[float, Sequence[float]]:
    """Return what was tried often enough to be compared: ``runs`` times."""
    return {rate: scores for rate, scores in tried.items() if len(scores) >= runs}


def best_rate(tried: Tried) -> float:
    """Return the rate with the highest mean score."""
    return max(tried, key=lambda rate: statistics.fmean(tried[rate]))


def rates_to_try(tried: Tried, first: Sequence[float], runs: int) -> list[float]:
    """Return the rates that are still to be tried: the first ones, then both beside the best.

    Args:
        tried: scores so far.
        first: rates to begin with, from ``LADDER``.
        runs: number of runs with which a rate is finished.
    """
    complete = finished(tried, runs)
    if missing := [rate for rate in first if rate not in complete]:
        return missing
    place = LADDER.index(best_rate(complete))
    return [rate for rate in LADDER[max(place - 1, 0) : place + 2] if rate not in complete]


def rates_table(tried: Mapping[tuple[str, ...], Tried], *columns: str) -> list[str]:
    """Return the mean score of every rate that was tried, as Markdown; the best is bold.

    Args:
        tried: scores by the names of what was tuned.
        columns: titles of these names.
    """
    rates = [rate for rate in LADDER if any(rate in scores for scores in tried.values())]
    titles = [*columns, *(f"{rate:g}" for rate in rates)]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for names, scores in tried.items():
        best = best_rate(scores) if scores else None
        shown = []
        for rate in rates:
            mean = f"{statistics.fmean(scores[rate]):.3f}" if rate in scores else ""
            shown.append(f"**{mean}**" if rate == best else mean)
        lines.append(f"| {' | '.join([*names, *shown])} |")
    return lines
