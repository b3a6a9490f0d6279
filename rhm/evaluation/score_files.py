"""``scores.json`` in the folder of an evaluation: written, read, checked, and continued."""

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from rhm.documents import read_json
from rhm.errors import ConfigError
from rhm.evaluation.scores import (
    BOUNDARY_WIDTHS,
    FILE,
    FORMAT,
    HISTOGRAM_LEVELS,
    DomainScores,
    Interval,
    Scores,
)
from rhm.files import write_text
from rhm.records import MalformedError, parse, to_json
from rhm.required_files import require_run

_READABLE = (2, 3, 4, 5, FORMAT)
"""Versions that can be read. Format 2 does not record the runtime, which was PyTorch; in formats 2
and 3, all domains are of one evaluation; up to format 4, all have the same threshold; up to format
5, outlines are not scored, and scores of footprints are not calibrated."""


def write_scores(scores: Scores, folder: Path) -> None:
    """Write ``scores.json`` into the folder of an evaluation.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_text(folder / FILE, to_json(scores, indent=1))


def read_scores(folder: Path) -> Scores:
    """Read ``scores.json`` from the folder of an evaluation inside the folder of a run.

    Raises:
        ConfigError: the file is missing or malformed.
    """
    path, run = folder / FILE, folder.parent
    again = f"run `rhm evaluate` on {run} again"
    require_run(run)
    try:
        document = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{run} has no {folder.name}/{FILE}: run `rhm evaluate` on the run first"
        ) from None
    except (OSError, ValueError) as error:
        problem = str(error).splitlines()[0]
        raise ConfigError(f"{path} cannot be read ({problem}): {again}") from error
    try:
        if not isinstance(document, dict) or document.get("format") not in _READABLE:
            readable = " or ".join(map(str, _READABLE))
            raise MalformedError(f"expected scores of format {readable}")
        scores = _complete(parse(Scores, document))
        _check(scores)
    except MalformedError as error:
        where = f" at {error.place}" if error.place else ""
        raise ConfigError(f"{path} is malformed{where} ({error.problem}): {again}") from None
    return scores


def earlier_scores(folder: Path) -> Scores | None:
    """Return the scores in the folder of an evaluation, or None if there are none to keep."""
    try:
        return read_scores(folder)
    except ConfigError:
        return None


def kept_domains(earlier: Scores | None, latest: Scores) -> tuple[DomainScores, ...]:
    """Return the domains of earlier scores that an evaluation did not score again.

    Args:
        earlier: earlier scores, or None. Those of another model, or at another threshold, are not
            kept: they say nothing of this one.
        latest: scores of the evaluation.
    """
    if earlier is None or not of_same_model(earlier, latest):
        return ()
    again = {domain.key for domain in latest.domains}
    return tuple(domain for domain in earlier.domains if domain.key not in again)


def check_replaced(
    earlier: Scores,
    folder: Path,
    *,
    catalog: str,
    domains: Collection[str],
    split: str,
    views: bool,
    threshold: float,
    own_threshold: bool,
) -> None:
    """Refuse an evaluation that would replace scores which it does not repeat.

    Args:
        earlier: scores of the same weights.
        folder: folder that has them.
        catalog: path of the catalog of the images.
        domains: names of the domains that are to be scored.
        split: split of the images, or ``all``.
        views: whether views are averaged.
        threshold: minimum probability of a building pixel.
        own_threshold: whether each domain gets its own one.

    Raises:
        ConfigError: the earlier scores have another threshold, or one of these domains was scored
            with another split, other views, or another choice of the threshold.
    """
    lost = [*earlier.domains] if earlier.threshold != threshold else []
    again = {(os.path.abspath(catalog), name, None) for name in domains}
    asked = (split, views, own_threshold)
    lost = lost or [
        domain
        for domain in earlier.domains
        if domain.key in again
        and (domain.split, domain.views, domain.threshold is not None) != asked
    ]
    if lost:
        first = lost[0]
        chosen = "auto" if first.threshold is not None else f"{earlier.threshold:.3g}"
        told = f"split {first.split}, threshold {chosen}" + (", with views" if first.views else "")
        others = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise ConfigError(
            f"{folder} has other scores of {first.name}{others} ({told}): write these elsewhere "
            "with --output, or replace those with --overwrite"
        )


def of_same_model(one: Scores, other: Scores) -> bool:
    """Return whether two evaluations are of the same weights at the same threshold.

    Files up to format 3 do not record the weights, and may be of any.
    """
    first, second = ((each.threshold, each.model.weights) for each in (one, other))
    return first == second and one.model.weights is not None


def _complete(scores: Scores) -> Scores:
    """Return scores whose domains say which evaluation they are of."""
    told = {name: getattr(scores, name) for name in ("catalog", "split", "created", "views")}
    domains = (domain if domain.created else replace(domain, **told) for domain in scores.domains)
    return replace(scores, domains=tuple(_without_unknown_metres(domain) for domain in domains))


def _without_unknown_metres(domain: DomainScores) -> DomainScores:
    """Return a domain without the metres that files had for pixels of unknown size."""
    if domain.gsd_m is not None or domain.outline is None:
        return domain
    return replace(domain, outline=replace(domain.outline, polis_m=Interval(None, None, None)))


def _check(scores: Scores) -> None:
    """Check the rules that the types of the fields do not express."""
    targets = [domain.key for domain in scores.domains]
    if len(set(targets)) < len(targets):
        raise MalformedError("a domain appears twice")
    for domain in scores.domains:
        if set(domain.boundary_iou) != set(BOUNDARY_WIDTHS):
            raise MalformedError(f"expected Boundary IoU of {' and '.join(BOUNDARY_WIDTHS)}")
        levels = domain.calibration.levels
        if len(levels.pixels) != len(levels.buildings) or any(
            not 0 <= buildings <= pixels
            for pixels, buildings in zip(levels.pixels, levels.buildings, strict=True)
        ):
            raise MalformedError("expected a share of the pixels of every level as buildings")
    histograms = [domain.histogram for domain in scores.domains if domain.histogram]
    for histogram in (*histograms, *scores.model.histograms.values()):
        if len(histogram) != scores.model.bands:
            raise MalformedError(f"expected histograms of {scores.model.bands} bands")
        if any(len(band) != HISTOGRAM_LEVELS or min(band) < 0 for band in histogram):
            raise MalformedError(f"expected histograms of {HISTOGRAM_LEVELS} shares")
    examples = [example for domain in scores.domains for example in domain.examples]
    if any(min(example.width, example.height) < 1 for example in examples):
        raise MalformedError("an example has no size")
    if not scores.model.sources:
        raise MalformedError("the model names no sources")
