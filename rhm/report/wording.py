"""Wording: the sentences of the report, computed from its tables."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePath

from rhm.evaluation.scores import DomainScores, few_groups, not_implied, unknown_sizes
from rhm.report.cross_domain import (
    BASELINE,
    Group,
    Rank,
    Ranking,
    ScoreEstimate,
    Target,
    target_of,
)
from rhm.report.runs import EvaluatedRun, unlike_settings

_CLEAR_OF_SEEDS = {1: 0.25, 3: 0.1}
"""Difference of IoU that one seed is enough to tell, by the least number of domains: more than
twice the largest standard deviations over seeds in the benchmarks, 0.123 of one domain and 0.034 of
the mean of three."""

_MOST_NAMES = 6
"""Number of methods, domains or catalogs of which a sentence names all."""

_PLACES = {
    "source": ("its own domain", "its own domains"),
    "unseen": ("unseen domain", "unseen domains"),
    "shifted": ("synthetic shift", "synthetic shifts"),
}


def headlines(rankings: Sequence[Ranking]) -> tuple[str, ...]:
    """Return one sentence or two per ranking of unseen or shifted domains, or else of own domains.

    They name the best method, or those that share the first place, with the mean IoU, and the
    distance from the baseline, or from the next method if the baseline is missing or is among the
    best. They also name the runner-up if its distance may be chance.
    """
    result = []
    for sources in dict.fromkeys(ranking.sources for ranking in rankings):
        same = [ranking for ranking in rankings if ranking.sources == sources]
        away = [ranking for ranking in same if ranking.role != "source"]
        result += [_headline(ranking) for ranking in away or same]
    return tuple(result)


def notes(groups: Sequence[Group]) -> tuple[str, ...]:
    """Return warnings for comparisons of rows: unequal splits, conditions and domains."""
    runs = _runs(groups)
    result = []
    for sources in dict.fromkeys(group.sources for group in groups):
        hashes = {
            run.scores.model.split_hash
            for group in groups
            if group.sources == sources
            for run in group.runs
        } - {None, ""}  # models whose splits are not known
        if len(hashes) > 1:
            result.append(
                f"Runs trained on {_listed(sources)} used {len(hashes)} different splits of the "
                "data: a difference between them may come from the split."
            )
    if names := {
        target_of(domain).label: target_of(domain)
        for run in runs
        for domain in run.scores.domains
        if domain.other_split
    }:
        result.append(
            f"The splits of {_domains_in_words(names, runs)} may not have been those of the "
            "training: models may have been trained on images that they were scored on, and their "
            "scores may be too high."
        )
    result += unequal_conditions(groups)
    result += _own_thresholds(groups)
    domains = [domain for run in runs for domain in run.scores.domains]
    told = filter(None, [each(domains) for each in (not_implied, few_groups, unknown_sizes)])
    result += [f"{each[0].upper()}{each[1:]}." for each in told]
    if partial := _partly_scored(groups):
        result.append(
            f"Not all runs of the same training domains have a score on {_listed(partial)}: means "
            "over domains leave these out, and other means say how many runs they are of."
        )
    split_up = [group.label for group in groups if group.label != group.method]
    if split_up:
        result.append(
            f"Runs that share method, training domains and seed are shown one by one: "
            f"{_listed(split_up)}."
        )
    return tuple(result)


def unequal_conditions(groups: Sequence[Group]) -> tuple[str, ...]:
    """Return warnings of scores that stand side by side and were not measured in the same way.

    Splits, thresholds, views, runtimes, catalogs and numbers of images are compared by domain, and
    the models of runs that count as seeds of one method.
    """
    runs = _runs(groups)
    result = list(_no_seeds(groups))
    if names := _unequal(runs, lambda domain: domain.split):
        where = _domains_in_words(names, runs)
        result.append(
            f"Runs were scored on different splits of {where}, and are not comparable there."
        )
    if len({run.scores.threshold for run in runs}) > 1:
        result.append("Runs were scored at different thresholds.")
    if names := _unequal(runs, lambda domain: domain.threshold is not None):
        result.append(
            f"On {_domains_in_words(names, runs)}, some runs were scored at the threshold that "
            "their probabilities imply, and others at that of the model."
        )
    if names := _unequal(runs, lambda domain: domain.views):
        result.append(
            f"On {_domains_in_words(names, runs)}, the predictions of some runs are averages over "
            "rotated and mirrored views, and those of others are not: a difference between them "
            "may come from that."
        )
    if names := _unequal(runs, lambda domain: domain.rules):
        result.append(
            f"On {_domains_in_words(names, runs)}, footprints of some runs were scored by an "
            "earlier version, which did not split those that touch: evaluate these runs again "
            "before comparing scores of footprints."
        )
    if names := _unequal(runs, lambda domain: domain.runtime or None):
        used = {domain.runtime for domain in _on(runs, names) if domain.runtime}
        result.append(
            f"On {_domains_in_words(names, runs)}, runs were executed by different runtimes "
            f"({_listed(sorted(used))}): a difference between them may come from that."
        )
    if names := _unequal_catalogs(runs):
        files = {domain.key[0]: domain.catalog for domain in _on(runs, names) if domain.catalog}
        # One path, as it was given, leads to several files from several folders.
        catalogs = files.values() if len({*files.values()}) == len(files) else files
        result.append(
            f"On {_domains_in_words(names, runs)}, runs were scored with different catalogs "
            f"({_listed(sorted(catalogs), _MOST_NAMES)}): their images may differ."
        )
    if names := _unequal(runs, lambda domain: domain.images):
        result.append(f"Not all runs were scored on the same images of {_listed(names)}.")
    return tuple(result)


_ALIKE = {
    "architecture": 1.0,
    "encoder": 1.0,
    "classes": 1.0,
    "parameters": 1.0,
    "gsd_m": 1.01,
    "training_images": 1.25,
}
"""What seeds of a method have in common, and the ratio up to which numbers count as the same: with
a split for each seed, the number of images and the median of their pixel sizes differ a little."""


def _no_seeds(groups: Sequence[Group]) -> Iterator[str]:
    """Yield warnings of runs that count as seeds of one method and differ in more than the seed."""
    if mixed := _mixed(groups):
        yield (
            f"Runs of {_listed(mixed)} count as seeds of one method, but their models differ in "
            "more than the seed (architecture, encoder, classes, parameters, pixel size or number "
            "of training images): a mean over them is that of no method."
        )
    for group in groups:
        if unlike := unlike_settings(group.runs):
            yield (
                f"Runs of {group.label} count as seeds of one method, but were trained with "
                f"different settings ({_listed(unlike, _MOST_NAMES)}): a mean over them is that of "
                "no method."
            )


def _mixed(groups: Sequence[Group]) -> list[str]:
    """Return the labels of groups whose models are not all alike; None is unknown."""

    def differs(group: Group, fact: str, ratio: float) -> bool:
        found = {getattr(run.scores.model, fact) for run in group.runs} - {None}
        return len(found) > 1 and (ratio == 1.0 or max(found) > ratio * min(found))

    mixed = (
        group.label
        for group in groups
        if any(differs(group, fact, ratio) for fact, ratio in _ALIKE.items())
    )
    return list(dict.fromkeys(mixed))


def _unequal_catalogs(runs: Sequence[EvaluatedRun]) -> dict[str, Target]:
    """Return the domains, by their labels, that runs have from different catalogs.

    Where it is not known of all which file it was, the names of the files are compared.
    """
    found = _unequal(runs, lambda domain: domain.catalog_file or None)
    unknown = {
        target_of(domain)
        for run in runs
        for domain in run.scores.domains
        if domain.catalog and not domain.catalog_file
    }
    found = {label: target for label, target in found.items() if target not in unknown}
    named = _unequal(runs, lambda domain: PurePath(domain.catalog).name or None)
    return found | {label: target for label, target in named.items() if target in unknown}


def _runs(groups: Sequence[Group]) -> list[EvaluatedRun]:
    return [run for group in groups for run in group.runs]


def _unequal(
    runs: Sequence[EvaluatedRun], of: Callable[[DomainScores], object]
) -> dict[str, Target]:
    """Return the domains, by their labels, of which runs have different values; None is unknown."""
    found: dict[Target, set[object]] = {}
    for run in runs:
        for domain in run.scores.domains:
            found.setdefault(target_of(domain), set()).add(of(domain))
    unequal = (target for target, values in found.items() if len(values - {None}) > 1)
    return {target.label: target for target in sorted(unequal, key=lambda target: target.label)}


def _domains_in_words(names: dict[str, Target], runs: Sequence[EvaluatedRun]) -> str:
    """Return the names of domains, or in short that they are all of several."""
    scored = {target_of(domain) for run in runs for domain in run.scores.domains}
    return "every domain" if 1 < len(scored) == len(names) else _listed(names, _MOST_NAMES)


def _on(runs: Sequence[EvaluatedRun], names: dict[str, Target]) -> list[DomainScores]:
    """Return the scores of all runs on some domains."""
    chosen = {*names.values()}
    return [each for run in runs for each in run.scores.domains if target_of(each) in chosen]


def _own_thresholds(groups: Sequence[Group]) -> list[str]:
    """Return a note on domains whose thresholds the probabilities implied, if there are any."""
    runs = _runs(groups)
    names = {
        domain.name
        for run in runs
        for domain in run.scores.domains
        if domain.threshold is not None and domain.implied
    }
    if not names:
        return []
    return [
        f"The thresholds in {_listed(sorted(names))} are those that the probabilities of each "
        "model imply there, without labels."
    ]


def _partly_scored(groups: Sequence[Group]) -> list[str]:
    """Return the targets on which some, but not all, runs of the same sources have an IoU."""
    partial = set()
    for sources in {group.sources for group in groups}:
        runs = [run for group in groups if group.sources == sources for run in group.runs]
        scored = Counter(
            target_of(domain)
            for run in runs
            for domain in run.scores.domains
            if domain.pixel.iou.value is not None
        )
        partial |= {target.label for target, times in scored.items() if times < len(runs)}
    return sorted(partial)


def _headline(ranking: Ranking) -> str:
    best = ranking.ranks[0]
    where = _where(ranking)
    trained = f"Trained on {_listed(ranking.sources)}"
    count = len(ranking.ranks)
    if count == 1:
        return (
            f"{trained}, {best.method} reaches mean IoU {_amount(best.iou)} on {where} "
            f"({_seeds([best])})."
        )
    level = [rank for rank in ranking.ranks if _mean(rank) == _mean(best)]
    others = ranking.ranks[len(level) :]
    names = _listed([rank.method for rank in level], _MOST_NAMES)
    if not others:
        sentence = f"{names} are level on {where}: mean IoU {_mean(best)}"
    elif len(level) > 1:
        sentence = (
            f"{names} share the first place among {count} methods on {where}: "
            f"mean IoU {_mean(best)}"
        )
    else:
        sentence = (
            f"{names} is the best of {count} methods on {where}: mean IoU {_amount(best.iou)}"
        )
    if not others:
        return f"{trained}, {sentence}; {_seeds(level)}."
    rival = next((rank for rank in others if rank.method == BASELINE), others[0])
    lead = f"{_ahead(best, rival):.3f} above {rival.method} ({_amount(rival.iou)})"
    return f"{trained}, {sentence}, {lead}; {_seeds(level)}.{_doubts(ranking, others, rival)}"


def _doubts(ranking: Ranking, others: Sequence[Rank], rival: Rank) -> str:
    """Return sentences on the methods whose distance from the best may be chance, if there are any.

    Of those besides the rival, which the headline names, the first is named and the rest counted.
    """
    best, sentences = ranking.ranks[0], ""
    doubtful = [rank for rank in others if _may_be_chance(best, rank, len(ranking.targets))]
    for one_seed in (True, False):
        same = [rank for rank in doubtful if (_fewest_seeds(best, rank) == 1) == one_seed]
        close = [rank for rank in same if rank is not rival]
        leads = ["this" if one_seed else "the difference"] if rival in same else []
        if close:
            more = f" and {len(close) - 1} more" if len(close) > 1 else ""
            leads.append(f"the lead over {close[0].method} ({_amount(close[0].iou)}){more}")
        count = len(leads) + max(0, len(close) - 1)
        if leads and one_seed:
            sentences += f" With one seed, {_listed(leads)} may be chance."
        elif leads:
            told = f"{_listed(leads)} {'are' if count > 1 else 'is'}"
            sentences += f" {told[0].upper()}{told[1:]} smaller than the spread between seeds."
    return sentences


def _may_be_chance(best: Rank, other: Rank, targets: int) -> bool:
    """Return whether the distance of a method from the best is within the spread between seeds.

    That is the larger one of both methods, or that of the differences between them for the same
    seed. With one seed, it is what the benchmarks had.
    """
    ahead = _ahead(best, other)
    if _fewest_seeds(best, other) == 1:
        return ahead < min(of for least, of in _CLEAR_OF_SEEDS.items() if least <= targets)
    theirs = dict(zip(other.seeds, other.by_seed, strict=True))
    paired = [
        value - theirs[seed]
        for seed, value in zip(best.seeds, best.by_seed, strict=True)
        if seed in theirs
    ]
    spread = statistics.stdev(paired) if len(paired) > 1 else 0.0
    return ahead < max(best.iou.sd or 0.0, other.iou.sd or 0.0, spread)


def _fewest_seeds(one: Rank, other: Rank) -> int:
    return min(one.iou.seeds, other.iou.seeds)


def _ahead(best: Rank, other: Rank) -> float:
    return (best.iou.mean or 0.0) - (other.iou.mean or 0.0)


def _mean(rank: Rank) -> str:
    return f"{rank.iou.mean or 0.0:.3f}"


def _seeds(ranks: Sequence[Rank]) -> str:
    fewest, most = (choose(rank.iou.seeds for rank in ranks) for choose in (min, max))
    if fewest < most:
        return f"{fewest} to {most} seeds"
    return f"{most} seeds" if most > 1 else "one seed"


def _where(ranking: Ranking) -> str:
    singular, plural = _PLACES[ranking.role]
    count = len(ranking.targets)
    if ranking.role == "source":
        return singular if count == 1 else f"{plural} ({count})"
    if count == 1:
        return f"the {singular} {ranking.targets[0].label}"
    return f"{count} {plural}"


def _amount(value: ScoreEstimate) -> str:
    spread = f" ± {value.sd:.3f}" if value.sd is not None else ""
    return f"{value.mean or 0.0:.3f}{spread}"


def _listed(given: Iterable[str], most: int | None = None) -> str:
    """Return names as a list in words, of which those beyond ``most`` are only counted."""
    names = list(given)
    if most is not None and len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    if len(names) < 2:
        return "".join(names)
    return ", ".join(names[:-1]) + " and " + names[-1]
