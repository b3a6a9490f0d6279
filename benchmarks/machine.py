"""Helpers shared by the benchmarks: a machine line, medians of alternating runs, means."""

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from rhm.data.catalog import Tile


def machine(*packages: str) -> str:
    """Return one line that describes the machine and the versions of packages."""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {python}, {versions}"


def medians_ms(
    candidates: Mapping[str, Callable[[], object]],
    runs: int = 50,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return each candidate's median time in milliseconds.

    The candidates take turns, so that a drift of the machine's speed affects all of them alike.
    With the clock ``time.process_time``, other processes hardly matter, and waiting does not count.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for run in range(runs + 2):
        for name, call in candidates.items():
            start = clock()
            call()
            if run >= 2:
                times[name].append(1000.0 * (clock() - start))
    return {name: statistics.median(measured) for name, measured in times.items()}


def mean_and_spread(values: Sequence[float], sign: str = "") -> str:
    """Return the mean and, for several values, the standard deviation, formatted for a table."""
    shown = f"{statistics.mean(values):{sign}.3f}"
    return shown if len(values) < 2 else f"{shown} ± {statistics.stdev(values):.3f}"


def mean_and_interval(values: ArrayLike, digits: int = 3) -> str:
    """Return the mean and, for several values, its 95 % t interval, formatted for a table."""
    sample = np.asarray(values, dtype=float)
    mean = float(sample.mean())
    if len(sample) < 2:
        return f"{mean:+.{digits}f}"
    reach = stats.t.ppf(0.975, len(sample) - 1) * stats.sem(sample)
    return f"{mean:+.{digits}f} [{mean - reach:+.{digits}f}, {mean + reach:+.{digits}f}]"


def thinned(tiles: Sequence[Tile], pixels: float) -> Sequence[Tile]:
    """Return evenly spaced images with about ``pixels`` pixels in total, or all if fewer."""
    total = sum(tile.width * tile.height for tile in tiles)
    return tiles[:: max(1, math.ceil(total / pixels))]


def peak_growth_mb(call: Callable[[], object]) -> float:
    """Return the peak growth of this process during a call, in megabytes.

    Linux only, because the kernel has to reset the earlier peak.
    """
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_mb("VmRSS")
    call()
    return _status_mb("VmHWM") - before


def _status_mb(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    (line,) = [each for each in status.splitlines() if each.startswith(f"{name}:")]
    return int(line.split()[1]) / 1024
