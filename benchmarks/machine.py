"""What benchmarks share: a machine line, medians of paired runs, means with their spread."""

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from rhm.data.catalog import Tile


def machine(*packages: str) -> str:
    """Return one line on the machine and the versions that matter."""
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

    Candidates take turns, so that a machine whose speed drifts is fair to all. With the clock
    ``time.process_time`` what else the machine does hardly counts, nor does waiting.
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
    """Return a mean and, of several values, their standard deviation, as a table shows them."""
    shown = f"{statistics.mean(values):{sign}.3f}"
    return shown if len(values) < 2 else f"{shown} ± {statistics.stdev(values):.3f}"


def thinned(tiles: Sequence[Tile], pixels: float) -> Sequence[Tile]:
    """Return evenly spaced images of about so many pixels together; all where they are fewer."""
    total = sum(tile.width * tile.height for tile in tiles)
    return tiles[:: max(1, math.ceil(total / pixels))]


def peak_growth_mb(call: Callable[[], object]) -> float:
    """Return by how many megabytes this process grows, at its peak, while it makes a call.

    Linux only: the kernel is asked to forget earlier peaks.
    """
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_mb("VmRSS")
    call()
    return _status_mb("VmHWM") - before


def _status_mb(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    (line,) = [each for each in status.splitlines() if each.startswith(f"{name}:")]
    return int(line.split()[1]) / 1024
