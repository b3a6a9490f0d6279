"""Wording: the sentences of the report, computed from its tables."""

from collections import Counter
from collections.abc import Sequence

from rhm.evaluation.scores import few_groups, unknown_sizes
from rhm.report.cross_domain import BASELINE, Group, Rank, Ranking, ScoreEstimate, target_of

_CLEAR_OF_SEEDS = {1: 0.25, 3: 0.1}
"""Difference of IoU that one seed is enough to tell, by the least number of domains: more than
twice the largest standard deviations over seeds in the benchmarks, 0.123 of one domain and 0.034 of
the mean of three."""

_PLACES = {
    "source": ("its own domain", "its own domains"),
    "unseen": ("unseen domain", "unseen domains"),
    "shifted": ("synthetic shift", "synthetic shifts"),
}


def headlines(rankings: Sequence[Ranking]) -> tuple[str, ...]:
    """Return one sentence per ranking of unseen or shifted domains, or else of training domains.

    The sentence names the best method with its mean IoU, and its distance from the baseline, or
    from the next method if the baseline is missing or is the best method itself.
    """
    result = []
    for sources in dict.fromkeys(ranking.sources for ranking in rankings):
        same = [ranking for ranking in rankings if ranking.sources == sources]
        away = [ranking for ranking in same if ranking.role != "source"]
        result += [_headline(ranking) for ranking in away or same]
    return tuple(result)


def notes(groups: Sequence[Group]) -> tuple[str, ...]:
    """Return warnings for comparisons of rows: unequal splits, thresholds and domains."""
    runs = [run for group in groups for run in group.runs]
    result = []
    for sources in dict.fromkeys(group.sources for group in groups):
        hashes = {
            run.scores.model.split_hash
            for group in groups
            if group.sources == sources
            for run in group.runs
        }
        if len(hashes) > 1:
            result.append(
                f"Runs trained on {_listed(sources)} used {len(hashes)} different splits of the "
                "data: a difference between them may come from the split."
            )
    if len({domain.split for run in runs for domain in run.scores.domains}) > 1:
        result.append("Runs were scored on different splits, and are not comparable.")
    if len({run.scores.threshold for run in runs}) > 1:
        result.append("Runs were scored at different thresholds (see the table of runs).")
    result += _own_thresholds(groups)
    domains = [domain for run in runs for domain in run.scores.domains]
    told = filter(None, [few_groups(domains), unknown_sizes(domains)])
    result += [f"{each[0].upper()}{each[1:]}." for each in told]
    images: dict[str, set[int]] = {}
    for run in runs:
        for domain in run.scores.domains:
            images.setdefault(domain.name, set()).add(domain.images)
    uneven = [name for name, counts in images.items() if len(counts) > 1]
    if uneven:
        result.append(f"Not all runs were scored on the same images of {_listed(sorted(uneven))}.")
    partial = _partly_scored(groups)
    if partial:
        result.append(
            "Means leave out domains that not all runs of the same training domains have a score "
            f"on: {_listed(partial)}."
        )
    split_up = [group.label for group in groups if group.label != group.method]
    if split_up:
        result.append(
            f"Runs that share method, training domains and seed are shown one by one: "
            f"{_listed(split_up)}."
        )
    return tuple(result)


def _own_thresholds(groups: Sequence[Group]) -> list[str]:
    """Return a note on domains whose thresholds the probabilities implied, if there are any."""
    runs = [run for group in groups for run in group.runs]
    names = {
        domain.name for run in runs for domain in run.scores.domains if domain.threshold is not None
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
    mean = f"mean IoU {_amount(best.iou)}"
    seeds = f"{best.iou.seeds} seeds" if best.iou.seeds > 1 else "one seed"
    if len(ranking.ranks) == 1:
        return f"{trained}, {best.method} reaches {mean} on {where} ({seeds})."
    rival = _rival(ranking)
    ahead = (best.iou.mean or 0.0) - (rival.iou.mean or 0.0)
    if f"{ahead:.3f}" == "0.000":
        comparison = f"level with {rival.method} ({_amount(rival.iou)})"
    else:
        comparison = f"{ahead:.3f} above {rival.method} ({_amount(rival.iou)})"
    sentence = (
        f"{trained}, {best.method} is the best of {len(ranking.ranks)} methods on {where}: "
        f"{mean}, {comparison}; {seeds}."
    )
    if min(best.iou.seeds, rival.iou.seeds) == 1:
        clear = min(of for least, of in _CLEAR_OF_SEEDS.items() if least <= len(ranking.targets))
        return sentence + " With one seed, this may be chance." * (ahead < clear)
    if ahead < max(best.iou.sd or 0.0, rival.iou.sd or 0.0):
        return sentence + " The difference is smaller than the spread between seeds."
    return sentence


def _rival(ranking: Ranking) -> Rank:
    others = ranking.ranks[1:]
    return next((rank for rank in others if rank.method == BASELINE), others[0])


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


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return ", ".join(names[:-1]) + " and " + names[-1]
