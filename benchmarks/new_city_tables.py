"""Results and tables of ``new_city.py``: IoU at several thresholds, with paired intervals."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kept import KeptResults
from numpy.typing import NDArray

from rhm.evaluation.bootstrap import expanded_tail
from rhm.models.expected_iou import LEAST_IMPLIED, best_threshold

THRESHOLDS = ("0.5", "0.1", "own", "split", "best")
"""At which probability a pixel counts as building: a half; a tenth; the one that maximises the
expected IoU of the model's own probabilities on the place; the one that splits their logits into
two classes by Otsu's method; the best one by the labels of the place."""

AVERAGED = "none, averaged"

COMPARED = (
    ("fda", "rhm"),
    ("mean-teacher", "rhm"),
    ("fda + scale", "rhm + scale"),
    ("spectrum + scale", "fda + scale"),
    ("spectrum", "fda"),
    ("scale", "none"),
    ("rhm + scale", "scale"),
    ("fda + scale", "scale"),
    ("spectrum + scale", "scale"),
    ("spectrum + scale", "spectrum"),
)
"""Methods, and others that they are compared with pair by pair."""

RESAMPLES = 10_000
FEWEST_SEEDS = 3
"""Seeds below which a difference has no interval: it would hold draws of images only."""
_SEED = 0

Groups = Mapping[str, Sequence[Sequence[float]]]
"""For each group of images, its pixels, probability sums and buildings by level of probability."""

Cells = Sequence[Mapping[str, Any]]


def hits_and_unions(groups: Groups, threshold: str) -> NDArray[np.float64]:
    """Return true positives and unions of every group at one of ``THRESHOLDS``, (groups, 2)."""
    bins = np.array([groups[name] for name in sorted(groups)], dtype=np.float64)
    pixels, sums, buildings = bins.transpose(1, 0, 2)
    # Numbers of called pixels and hits from each level upwards.
    called, hits = (np.cumsum(part[:, ::-1], axis=1)[:, ::-1] for part in (pixels, buildings))
    unions = called + buildings.sum(axis=1, keepdims=True) - hits
    levels = pixels.shape[1]
    if threshold == "own":
        level = best_threshold(pixels.sum(axis=0), sums.sum(axis=0), least=LEAST_IMPLIED)
        level = levels // 2 if level is None else level
    elif threshold == "split":
        level = split_of_logits(pixels.sum(axis=0), sums.sum(axis=0))
    elif threshold != "best":
        level = round(levels * float(threshold))
    else:
        level = int(np.argmax(hits.sum(axis=0) / np.maximum(unions.sum(axis=0), 1.0)))
    return np.stack([hits[:, level], unions[:, level]], axis=1)


def split_of_logits(pixels: NDArray[np.float64], sums: NDArray[np.float64]) -> int:
    """Return the level whose threshold maximises the variance between two classes of logits.

    Otsu, "A threshold selection method from gray-level histograms", 1979.
    """
    levels = (np.arange(len(pixels)) + 0.5) / len(pixels)
    means = np.where(pixels > 0, sums / np.maximum(pixels, 1.0), levels).clip(1e-5, 1.0 - 1e-5)
    logits = np.log(means / (1.0 - means))
    below, mass = np.cumsum(pixels), np.cumsum(pixels * logits)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = mass / below - (mass[-1] - mass) / above
    return 1 + int(np.argmax(np.nan_to_num(below * above * apart**2)[:-1]))


def compact(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result with the hits and unions of its groups at ``THRESHOLDS`` instead of bins."""
    return {
        **cell,
        "counts": {
            place: {name: hits_and_unions(of, name).astype(int).tolist() for name in THRESHOLDS}
            for place, of in cell["counts"].items()
        },
    }


class KeptCells:
    """What the tables need of finished cells, in a file of one line each.

    Args:
        file: file that is read and added to; None keeps cells in memory only.
        setting: name of the sizes and imagery; cells of others are left as they are.
    """

    def __init__(self, file: Path | None, setting: str) -> None:
        self._setting = setting
        self._kept = KeptResults(file, ("setting", "method", "source", "seed"))

    @property
    def cells(self) -> list[dict[str, Any]]:
        """The cells of this setting, in the order of their names."""
        found = [row for row in self._kept.rows if row["setting"] == self._setting]
        return sorted(found, key=lambda row: (row["method"], row["source"], row["seed"]))

    def has(self, source: str, method: str, seed: int) -> bool:
        """Return whether a cell is there."""
        return self._kept.has(setting=self._setting, method=method, source=source, seed=seed)

    def add(self, cell: Mapping[str, Any]) -> None:
        """Keep a cell, unless it is there."""
        self._kept.add({"setting": self._setting, **compact(cell)})


def pooled_iou(groups: Groups, threshold: str) -> float:
    """Return the IoU of all groups together."""
    hits, unions = hits_and_unions(groups, threshold).sum(axis=0)
    return float(hits / max(unions, 1.0))


class Resampled:
    """IoU of every method under the same draws of seeds and of test groups.

    Args:
        cells: results, as ``compact`` returns them.
        sources: places that models are trained on.
        targets: places that they are tested on.
        threshold: one of ``THRESHOLDS``.

    Attributes:
        seeds: by method, the seeds for which all sources are finished.
    """

    def __init__(
        self, cells: Cells, sources: Sequence[str], targets: Sequence[str], threshold: str
    ) -> None:
        self._pairs = [(a, b) for a in sources for b in targets if a != b]
        self._home = [(a, a) for a in sources]
        self._counts = {
            (cell["method"], cell["source"], place, cell["seed"]): np.array(of[threshold], float)
            for cell in cells
            for place, of in cell["counts"].items()
        }
        methods = dict.fromkeys(key[0] for key in self._counts)
        known = sorted({key[3] for key in self._counts})
        homes = [(a, a) for a in sources]
        self.seeds = {
            method: [s for s in known if all((method, *pair, s) in self._counts for pair in homes)]
            for method in methods
        }
        rng = np.random.default_rng(_SEED)
        sizes = {key[2]: len(groups) for key, groups in self._counts.items()}
        self._draws = {
            place: np.vstack(
                [np.ones(size), rng.multinomial(size, np.full(size, 1 / size), RESAMPLES)]
            )
            for place, size in sorted(sizes.items())  # whatever the order of the cells
        }
        self._seed_draws = rng.random((RESAMPLES, 64))

    def away(self, method: str, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Return the mean over pairs; the first of (1 + resamples,) values is not resampled."""
        return self._mean(method, self._pairs, seeds)

    def home(self, method: str, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Return the mean over sources, tested at home, like ``away``."""
        return self._mean(method, self._home, seeds)

    def has(self, method: str, source: str, target: str, seed: int) -> bool:
        """Return whether there is a result."""
        return (method, source, target, seed) in self._counts

    def pair(self, method: str, source: str, target: str, seeds: Sequence[int]) -> float:
        """Return the mean IoU of one pair."""
        return float(self._mean(method, [(source, target)], seeds)[0])

    def over(
        self,
        method: str,
        other: str,
        pairs: Sequence[tuple[str, str]] | None = None,
        *,
        home: bool = False,
    ) -> str:
        """Return the paired difference to another method, with its 95 % interval.

        Percentiles are expanded as for the mean of as many values as there are seeds.

        Args:
            method: a method.
            other: another method.
            pairs: pairs of source and target; None for all.
            home: whether to compare at home instead.
        """
        seeds = [s for s in self.seeds.get(method, ()) if s in self.seeds.get(other, ())]
        if not seeds or method == other:
            return ""
        pairs = self._home if home else self._pairs if pairs is None else pairs
        difference = self._mean(method, pairs, seeds) - self._mean(other, pairs, seeds)
        if len(seeds) < FEWEST_SEEDS:
            return f"{difference[0]:+.3f}"
        tail = expanded_tail(len(seeds))
        low, high = np.quantile(difference[1:], [tail, 1 - tail])
        return f"{difference[0]:+.3f} ({low:+.3f} to {high:+.3f})"

    def _mean(
        self, method: str, pairs: Sequence[tuple[str, str]], seeds: Sequence[int]
    ) -> NDArray[np.float64]:
        by_seed = []
        for seed in seeds:
            scores = []
            for source, place in pairs:
                hits, unions = (self._draws[place] @ self._counts[method, source, place, seed]).T
                scores.append(hits / np.maximum(unions, 1.0))
            by_seed.append(np.mean(scores, axis=0))
        stacked = np.array(by_seed)
        picked = (self._seed_draws[:, : len(seeds)] * len(seeds)).astype(int)
        drawn = stacked[picked, np.arange(1, RESAMPLES + 1)[:, None]].mean(axis=1)
        return np.concatenate([[stacked[:, 0].mean()], drawn])


def methods_table(cells: Cells, sources: Sequence[str], targets: Sequence[str]) -> Iterator[str]:
    """Yield a row for each method, with intervals of its difference to others, as Markdown."""
    at = {name: Resampled(cells, sources, targets, name) for name in THRESHOLDS}
    yield (
        "| method | seeds | home | home, split | away at 0.5 | at 0.1 | own threshold | split | "
        "best | gap closed | over none | over rhm | over fda | CPU seconds |"
    )
    yield "|---" * 14 + "|"
    own = at["own"]
    for method, seeds in own.seeds.items():
        if not seeds:
            continue
        away = {name: each.away(method, seeds)[0] for name, each in at.items()}
        seconds = np.mean([cell["seconds"] for cell in cells if cell["method"] == method])
        yield (
            f"| {method} | {len(seeds)} | {own.home(method, seeds)[0]:.3f} | "
            f"{at['split'].home(method, seeds)[0]:.3f} | "
            f"{' | '.join(f'{score:.3f}' for score in away.values())} | "
            f"{_closed(at, method, sources, targets)} | "
            f"{' | '.join(own.over(method, other) for other in ('none', 'rhm', 'fda'))} | "
            f"{seconds:.0f} |"
        )


def averaged_table(cells: Cells, sources: Sequence[str], targets: Sequence[str]) -> Iterator[str]:
    """Yield what averaging the weights gains over the same method without it, as Markdown."""
    own = Resampled(cells, sources, targets, "own")
    yield "| averaged | seeds | over the same without, home | away |"
    yield "|---" * 4 + "|"
    suffix = AVERAGED.removeprefix("none")
    for method, seeds in own.seeds.items():
        if method.endswith(suffix) and (gain := own.over(method, method.removesuffix(suffix))):
            home = own.over(method, method.removesuffix(suffix), home=True)
            yield f"| {method} | {len(seeds)} | {home} | {gain} |"


def comparisons_table(cells: Cells, places: Sequence[str]) -> Iterator[str]:
    """Yield how ``COMPARED`` methods differ over all pairs, and without the pair that differs most.

    Intervals hold draws of seeds and of test groups, but no draws of places: whether a difference
    would be found between other places is for the number of pairs and for this last column to say.
    """
    own = Resampled(cells, places, places, "own")
    pairs = [(a, b) for a in places for b in places if a != b]
    columns = "home | away | pairs ahead | median pair | without the pair | away"
    yield f"| method | over | {columns} |"
    yield "|---" * 8 + "|"
    for method, other in COMPARED:
        seeds = [s for s in own.seeds.get(method, ()) if s in own.seeds.get(other, ())]
        if not seeds:
            continue
        gains = {
            pair: own.pair(method, *pair, seeds) - own.pair(other, *pair, seeds) for pair in pairs
        }
        most = max(gains, key=lambda pair: abs(gains[pair]))
        rest = [pair for pair in pairs if pair != most]
        yield (
            f"| {method} | {other} | {own.over(method, other, home=True)} | "
            f"{own.over(method, other)} | "
            f"{sum(gain > 0 for gain in gains.values())} of {len(pairs)} | "
            f"{np.median(list(gains.values())):+.3f} | {' to '.join(most)} | "
            f"{own.over(method, other, rest)} |"
        )


def _closed(
    at: Mapping[str, Resampled], method: str, sources: Sequence[str], targets: Sequence[str]
) -> str:
    """Return the share of the gap between none and training on the target that a method closes.

    Both ends are at 0.5, as trained; the method is at its own threshold. Averaging weights helps
    without adaptation, too, so methods that do are compared with ends that do. Seeds count for
    which models of all targets are finished.
    """
    half, own = at["0.5"], at["own"]
    base = AVERAGED if AVERAGED.removeprefix("none") in method else "none"
    pairs = [(a, b) for a in sources for b in targets if a != b]
    seeds = [
        s
        for s in own.seeds[method]
        if s in own.seeds.get(base, ()) and all(half.has(base, b, b, s) for _, b in pairs)
    ]
    if not seeds:
        return ""
    without = np.mean([half.pair(base, a, b, seeds) for a, b in pairs])
    trained = np.mean([half.pair(base, b, b, seeds) for _, b in pairs])
    reached = np.mean([own.pair(method, a, b, seeds) for a, b in pairs])
    # Zero has no sign.
    return f"{round((reached - without) / (trained - without), 2) + 0.0:.0%}"


def closed_table(cells: Cells, places: Sequence[str]) -> Iterator[str]:
    """Yield the share of the gap that each method closes from each source, as Markdown."""
    at = {name: Resampled(cells, places, places, name) for name in ("0.5", "own")}
    yield f"| method | {' | '.join(f'from {place}' for place in places)} |"
    yield "|---" * (len(places) + 1) + "|"
    for method, seeds in at["own"].seeds.items():
        if seeds and at["own"].seeds.get("none"):
            shares = [
                _closed(at, method, [source], [place for place in places if place != source])
                for source in places
            ]
            yield f"| {method} | {' | '.join(shares)} |"


def pairs_table(cells: Cells, places: Sequence[str]) -> Iterator[str]:
    """Yield the IoU of every pair at the model's own threshold, as Markdown."""
    at = Resampled(cells, places, places, "own")
    methods = [method for method, seeds in at.seeds.items() if seeds]
    yield f"| source | target | {' | '.join(methods)} | trained on the target |"
    yield "|---" * (len(methods) + 3) + "|"
    for source in places:
        for target in places:
            if source == target:
                continue
            shown = [f"{at.pair(m, source, target, at.seeds[m]):.3f}" for m in methods]
            bound = ""
            if at.seeds.get("none"):
                bound = f"{at.pair('none', target, target, at.seeds['none']):.3f}"
            yield f"| {source} | {target} | {' | '.join(shown)} | {bound} |"
