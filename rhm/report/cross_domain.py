"""Tables across domains: pure functions from runs to the numbers in the report.

Runs with the same training domains and method form a :class:`Group` and differ in their seeds. The
score of a group is the mean over its seeds with the standard deviation between them or, with one
seed, the value with its bootstrap interval.
"""

import os
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from rhm.errors import ConfigError, printable
from rhm.evaluation.scores import DomainScores, Interval, Shift
from rhm.report.runs import EvaluatedRun

BASELINE = "none"

_UNKNOWN = Interval(None, None, None)

METRICS: dict[str, Callable[[DomainScores], Interval]] = {
    "iou": lambda domain: domain.pixel.iou,
    "f1": lambda domain: domain.pixel.f1,
    "precision": lambda domain: domain.pixel.precision,
    "recall": lambda domain: domain.pixel.recall,
    "object_f1": lambda domain: domain.object.f1,
    "object_precision": lambda domain: domain.object.precision,
    "object_recall": lambda domain: domain.object.recall,
    "boundary_iou_1m": lambda domain: domain.boundary_iou["1m"],
    "boundary_iou_3m": lambda domain: domain.boundary_iou["3m"],
    "ece": lambda domain: Interval(domain.calibration.ece, None, None),
    "ap": lambda domain: Interval(domain.outline.ap if domain.outline else None, None, None),
    "ap50": lambda domain: Interval(domain.outline.ap50 if domain.outline else None, None, None),
    "polis_m": lambda domain: domain.outline.polis_m if domain.outline else _UNKNOWN,
    "complexity_iou": lambda domain: domain.outline.complexity_iou if domain.outline else _UNKNOWN,
    "vertex_ratio": lambda domain: domain.outline.vertex_ratio if domain.outline else _UNKNOWN,
    "tangent_error_deg": lambda domain: (
        domain.outline.tangent_error_deg if domain.outline else _UNKNOWN
    ),
}
"""Scores by name; those of outlines are unknown in files up to format 5."""


@dataclass(frozen=True)
class Target:
    """A domain on which runs are scored, unchanged or under a synthetic shift."""

    name: str
    shift: Shift | None = None

    @property
    def label(self) -> str:
        """The name, with the family and seed of the shift if the name lacks them."""
        if self.shift is None:
            return self.name
        family = "" if self.shift.family in self.name else f" ({self.shift.family} shift)"
        seed = f", seed {self.shift.seed}" if self.shift.seed else ""
        return f"{self.name}{family}{seed}"


@dataclass(frozen=True)
class Group:
    """Runs with the same training domains and method; ``label`` is unique among their sources."""

    sources: tuple[str, ...]
    method: str
    label: str
    runs: tuple[EvaluatedRun, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the runs."""
        return tuple(run.scores.seed for run in self.runs)


@dataclass(frozen=True)
class ScoreEstimate:
    """A score of a group.

    Attributes:
        mean: mean over the seeds that have a value; None without any.
        sd: sample standard deviation over seeds; None with fewer than two.
        low: lower end of the 95 % bootstrap interval, for one seed.
        high: upper end of the 95 % bootstrap interval, for one seed.
        seeds: number of seeds that have a value.
        runs: number of runs that should have one.
    """

    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    seeds: int
    runs: int

    @property
    def lacking(self) -> str:
        """How many runs have a value, as ``2 of 3``; empty if all have one or none has."""
        return f"{self.seeds} of {self.runs}" if 0 < self.seeds < self.runs else ""


@dataclass(frozen=True)
class Cell:
    """The IoU of a group on a target; ``role`` is ``source``, ``unseen`` or ``shifted``."""

    role: str
    iou: ScoreEstimate


@dataclass(frozen=True)
class MatrixRow:
    """A row of the matrix, with one cell per target; None where the group was not scored."""

    sources: tuple[str, ...]
    method: str
    seeds: tuple[int, ...]
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Matrix:
    """The IoU by group of runs (rows) and scored domain (columns)."""

    targets: tuple[Target, ...]
    rows: tuple[MatrixRow, ...]


@dataclass(frozen=True)
class Difference:
    """The difference between a method and the baseline on a target, seed by seed."""

    sources: tuple[str, ...]
    method: str
    target: Target
    metric: str
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...]
    mean: float
    sd: float | None


@dataclass(frozen=True)
class Rank:
    """The mean IoU of a group over the targets of a ranking, for all seeds and for each."""

    method: str
    iou: ScoreEstimate
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class Ranking:
    """Groups with the same sources, best first, over the targets on which all have scores."""

    sources: tuple[str, ...]
    role: str
    targets: tuple[Target, ...]
    ranks: tuple[Rank, ...]


@dataclass(frozen=True)
class ScoreRow:
    """All scores of a group, or of a single run, on a target, by their names in ``METRICS``."""

    target: Target
    role: str
    images: int
    gsd_m: float | None
    sources: tuple[str, ...]
    method: str
    seeds: tuple[int, ...]
    scores: dict[str, ScoreEstimate]


def group_runs(runs: Iterable[EvaluatedRun]) -> tuple[Group, ...]:
    """Group runs by training domains and method, with the baseline first.

    If two runs of a group have the same seed, the group is split into single runs, which are
    labelled with their names, or with those of their folders if one model was scored in several
    ways.

    Raises:
        ConfigError: a run is given twice.
    """
    ordered = sorted(runs, key=_order)
    groups = []
    for (sources, _, method), members in groupby(ordered, key=lambda run: _order(run)[:3]):
        same = tuple(members)
        if len({run.scores.seed for run in same}) == len(same):
            groups.append(Group(sources, method, method, same))
            continue
        names = [run.scores.run for run in same]
        if len({*names}) < len(names):
            folders = [run.folder.resolve() for run in same]
            above = os.path.commonpath(folder.parent for folder in folders)
            names = [printable(folder.relative_to(above).as_posix()) for folder in folders]
        twice, count = Counter(names).most_common(1)[0]
        if count > 1:
            raise ConfigError(f"run {twice!r} is given twice: give each run folder once")
        groups += [
            Group(sources, method, f"{method} · {name}", (run,))
            for name, run in zip(names, same, strict=True)
        ]
    return tuple(groups)


def targets_of(runs: Iterable[EvaluatedRun]) -> tuple[Target, ...]:
    """Return all scored domains: training domains, then unseen domains, then synthetic shifts."""
    places: dict[Target, int] = {}
    for run in runs:
        for domain in run.scores.domains:
            target = target_of(domain)
            place = ("source", "unseen", "shifted").index(role_of(domain))
            places[target] = min(place, places.get(target, place))
    return tuple(sorted(places, key=lambda target: (places[target], target.name, target.label)))


def target_of(domain: DomainScores) -> Target:
    """Return the name and the shift of a scored domain."""
    return Target(domain.name, domain.shift)


def role_of(domain: DomainScores) -> str:
    """Return ``shifted`` under a synthetic shift, else ``source`` or ``unseen``."""
    if domain.shift is not None:
        return "shifted"
    return "source" if domain.role == "source" else "unseen"


def find_domain(run: EvaluatedRun, target: Target) -> DomainScores | None:
    """Return the scores of a run on a target, or None."""
    return run.domain(target.name, target.shift)


def estimate(intervals: Sequence[Interval], runs: int) -> ScoreEstimate:
    """Return mean and standard deviation over seeds, or value and interval of a single seed.

    Args:
        intervals: scores of the runs that were scored.
        runs: number of runs, with those that were not.
    """
    known = [(i.value, i.low, i.high) for i in intervals if i.value is not None]
    if not known:
        return ScoreEstimate(None, None, None, None, 0, runs)
    if len(known) == 1:
        return ScoreEstimate(known[0][0], None, known[0][1], known[0][2], 1, runs)
    values = [value for value, _, _ in known]
    return ScoreEstimate(
        statistics.fmean(values), statistics.stdev(values), None, None, len(values), runs
    )


def matrix(groups: Sequence[Group], targets: tuple[Target, ...]) -> Matrix:
    """Return the matrix of pixel IoU by group and target."""
    rows = []
    for group in groups:
        found = [_domains(group, target) for target in targets]
        cells = tuple(
            Cell(
                role_of(domains[0]),
                estimate([domain.pixel.iou for domain in domains], len(group.runs)),
            )
            if domains
            else None
            for domains in found
        )
        rows.append(MatrixRow(group.sources, group.label, group.seeds, cells))
    return Matrix(targets, tuple(rows))


def rankings(groups: Sequence[Group], targets: tuple[Target, ...]) -> tuple[Ranking, ...]:
    """Rank the groups with the same sources by mean IoU, separately for each role of the targets.

    Only targets on which all runs of these sources have an IoU are included, so that all means are
    over the same domains.
    """
    result = []
    for sources, rivals in _by_sources(groups):
        for role in ("source", "unseen", "shifted"):
            common = tuple(t for t in targets if _all_scored(rivals, t, role))
            if not common:
                continue
            ranks = [_rank(group, common) for group in rivals]
            ranks.sort(key=lambda rank: -(rank.iou.mean or 0.0))
            result.append(Ranking(sources, role, common, tuple(ranks)))
    return tuple(result)


def method_differences(
    groups: Sequence[Group], targets: tuple[Target, ...], metric: str, baseline: str = BASELINE
) -> tuple[Difference, ...]:
    """Return the differences between methods and the baseline with the same sources and seed.

    Args:
        groups: groups from :func:`group_runs`.
        targets: domains on which to compare.
        metric: name of the score in ``METRICS``.
        baseline: name of the method with which the others are compared.
    """
    result = []
    for sources, rivals in _by_sources(groups):
        base = next((group for group in rivals if group.label == baseline), None)
        for group in rivals:
            if base is None or group is base:
                continue
            for target in targets:
                ours, theirs = (_by_seed(side, target, metric) for side in (group, base))
                seeds = tuple(sorted(ours.keys() & theirs.keys()))
                if not seeds:
                    continue
                by_seed = tuple(ours[seed] - theirs[seed] for seed in seeds)
                sd = statistics.stdev(by_seed) if len(by_seed) > 1 else None
                mean = statistics.fmean(by_seed)
                result.append(
                    Difference(sources, group.label, target, metric, seeds, by_seed, mean, sd)
                )
    return tuple(result)


def score_rows(groups: Sequence[Group], targets: tuple[Target, ...]) -> tuple[ScoreRow, ...]:
    """Return all scores, by target and then by group."""
    rows = []
    for target in targets:
        for group in groups:
            domains = _domains(group, target)
            if not domains:
                continue
            first = domains[0]
            scores = {
                name: estimate([metric(domain) for domain in domains], len(group.runs))
                for name, metric in METRICS.items()
            }
            rows.append(
                ScoreRow(
                    target,
                    role_of(first),
                    first.images,
                    first.gsd_m,
                    group.sources,
                    group.label,
                    group.seeds,
                    scores,
                )
            )
    return tuple(rows)


def single_runs(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Return the runs of groups as groups of their own, labelled with the names of the runs."""
    return tuple(
        Group(group.sources, group.method, run.scores.run, (run,))
        for group in groups
        for run in group.runs
    )


def _order(run: EvaluatedRun) -> tuple[tuple[str, ...], bool, str, int, str]:
    scores = run.scores
    sources = tuple(sorted(set(scores.model.sources)))
    return sources, scores.method != BASELINE, scores.method, scores.seed, scores.run


def _by_sources(groups: Sequence[Group]) -> list[tuple[tuple[str, ...], list[Group]]]:
    return [(sources, list(g)) for sources, g in groupby(groups, key=lambda group: group.sources)]


def _domains(group: Group, target: Target) -> list[DomainScores]:
    found = (find_domain(run, target) for run in group.runs)
    return [domain for domain in found if domain is not None]


def _all_scored(groups: Sequence[Group], target: Target, role: str) -> bool:
    found = [find_domain(run, target) for group in groups for run in group.runs]
    return all(
        domain is not None and role_of(domain) == role and domain.pixel.iou.value is not None
        for domain in found
    )


def _rank(group: Group, targets: tuple[Target, ...]) -> Rank:
    by_seed = tuple(_mean_iou(run, targets) for run in group.runs)
    iou = estimate([Interval(value, None, None) for value in by_seed], len(by_seed))
    return Rank(group.label, iou, group.seeds, by_seed)


def _mean_iou(run: EvaluatedRun, targets: tuple[Target, ...]) -> float:
    found = (find_domain(run, target) for target in targets)
    values = [d.pixel.iou.value for d in found if d is not None and d.pixel.iou.value is not None]
    return statistics.fmean(values)


def _by_seed(group: Group, target: Target, metric: str) -> dict[int, float]:
    found = ((run.scores.seed, find_domain(run, target)) for run in group.runs)
    values = {seed: METRICS[metric](domain).value for seed, domain in found if domain is not None}
    return {seed: value for seed, value in values.items() if value is not None}
