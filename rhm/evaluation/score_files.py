"""``scores.json`` in the folder of an evaluation: written, read, checked, and continued."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rhm.documents import MOST_BYTES, read_json
from rhm.errors import ConfigError, OutputError
from rhm.evaluation.scores import (
    BOUNDARY_WIDTHS,
    FILE,
    FORMAT,
    HISTOGRAM_LEVELS,
    DomainScores,
    Interval,
    Scores,
    located,
)
from rhm.files import write_text
from rhm.records import MalformedError, parse, to_json
from rhm.required_files import require_run

_READABLE = (2, 3, 4, 5, 6, FORMAT)
"""Versions that can be read. Format 2 does not record the runtime, which was PyTorch; in formats 2
and 3, all domains are of one evaluation; up to format 4, all have the same threshold; up to format
5, outlines are not scored, and scores of footprints are not calibrated; up to format 6, footprints
that touch are not split."""


def write_scores(scores: Scores, folder: Path) -> None:
    """Write ``scores.json`` into the folder of an evaluation.

    Raises:
        OutputError: the folder cannot be written, or the file would be too large to be read again.
    """
    stored = _with_catalogs(scores, lambda path: _from_folder(path, folder))
    text = to_json(stored, indent=1)
    if len(text) > MOST_BYTES:  # it is ASCII
        raise OutputError(
            f"{folder / FILE} would be larger than {MOST_BYTES >> 20} MB with the scores of "
            f"{len(scores.domains)} domains: score further ones elsewhere, with --output"
        )
    write_text(folder / FILE, text)


def read_scores(folder: Path) -> Scores:
    """Read ``scores.json`` from the folder of an evaluation inside the folder of a run.

    Raises:
        ConfigError: the file is missing or malformed.
    """
    run = folder.parent
    require_run(run)
    try:
        scores = _read(folder)
        # A model without any can be scored, but not placed among others.
        if not scores.model.sources:
            raise MalformedError(f"{folder / FILE} is malformed (the model names no sources)")
        return scores
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{run} has no {folder.name}/{FILE}: run `rhm evaluate` on the run first"
        ) from None
    except MalformedError as error:
        raise ConfigError(
            f"{error.problem}: run `rhm evaluate` on {run} again with --overwrite"
        ) from error


def earlier_scores(folder: Path, *, overwrite: bool = False) -> Scores | None:
    """Return the scores in the folder of an evaluation, or None if there are none to keep.

    Args:
        folder: folder of the evaluation, which need not exist.
        overwrite: whether a file that cannot be read is as good as none.

    Raises:
        ConfigError: the file cannot be read: it is damaged, of a later version, or not of rhm.
    """
    try:
        return _read(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except MalformedError as error:
        if overwrite:
            return None
        raise ConfigError(
            f"{error.problem}, and is not replaced: choose another --output, or replace it with "
            "--overwrite"
        ) from error


def _read(folder: Path) -> Scores:
    """Read scores.

    Raises:
        FileNotFoundError, NotADirectoryError: there are none.
        MalformedError: there are, but they cannot be read; the problem names the file.
    """
    path = folder / FILE
    try:
        document = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError) as error:
        problem = str(error).splitlines()[0]
        raise MalformedError(f"{path} cannot be read ({problem})") from error
    try:
        if not isinstance(document, dict) or document.get("format") not in _READABLE:
            readable = " or ".join(map(str, _READABLE))
            raise MalformedError(f"expected scores of format {readable}")
        stored = _complete(parse(Scores, document))
        placed = _with_catalogs(stored, lambda file: _in_folder(file, folder))
        scores = _told_apart(_latest(_found_again(placed)))
        _check(scores)
    except MalformedError as error:
        where = f" at {error.place}" if error.place else ""
        raise MalformedError(f"{path} is malformed{where} ({error.problem})") from None
    return scores


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
    splits: Mapping[str, str],
    asked: str,
    views: bool,
    threshold: float,
    own_threshold: bool,
) -> None:
    """Refuse an evaluation that would replace scores which it does not repeat.

    Args:
        earlier: scores of the same weights.
        folder: folder that has them.
        catalog: path of the catalog of the images.
        splits: for each domain that is to be scored, the split of its images, or ``all``.
        asked: split that was asked for, or ``all``; of domains that are scored on all their images
            because they have none in it, earlier versions recorded it.
        views: whether views are averaged.
        threshold: minimum probability of a building pixel.
        own_threshold: whether each domain gets its own one.

    Raises:
        ConfigError: the earlier scores have another threshold, or one of these domains was scored
            with another split, other views, or another choice of the threshold.
    """
    lost = [*earlier.domains] if earlier.threshold != threshold else []
    again = {(located(catalog), name, None): (split, asked) for name, split in splits.items()}
    lost = lost or [
        domain
        for domain in earlier.domains
        if domain.key in again
        and not (
            domain.split in again[domain.key]
            and (domain.views, domain.threshold is not None) == (views, own_threshold)
        )
    ]
    if lost:
        first = lost[0]
        chosen = "auto" if first.threshold is not None else f"{earlier.threshold:.3g}"
        told = f"split {first.split}, threshold {chosen}" + (", with views" if first.views else "")
        others = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise ConfigError(
            f"{folder} has other scores of {first.label}{others} ({told}): write these elsewhere "
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
    names = ("catalog", "split", "created", "views")
    told = {name: getattr(scores, name) for name in names}
    domains = [domain if domain.created else replace(domain, **told) for domain in scores.domains]
    # Where the runtime of each domain is not recorded, that of the last evaluation is.
    domains = [
        domain
        if domain.runtime or domain.created != scores.created
        else replace(domain, runtime=scores.runtime)
        for domain in domains
    ]
    return replace(scores, domains=tuple(_without_unknown_metres(domain) for domain in domains))


def _with_catalogs(scores: Scores, change: Callable[[str], str]) -> Scores:
    """Return scores with the known files of catalogs changed."""
    domains = (
        replace(domain, catalog_file=change(domain.catalog_file)) if domain.catalog_file else domain
        for domain in scores.domains
    )
    return replace(scores, domains=tuple(domains))


def _from_folder(path: str, folder: Path) -> str:
    """Return an absolute path relative to a folder, unless they have only the root in common."""
    base = os.path.realpath(folder)
    try:
        common = Path(os.path.commonpath([path, base]))
    except ValueError:  # on Windows, on another drive
        return path
    return path if common == common.parent else Path(os.path.relpath(path, base)).as_posix()


def _in_folder(stored: str, folder: Path) -> str:
    return os.path.normpath(os.path.join(os.path.realpath(folder), stored))


def _found_again(scores: Scores) -> Scores:
    """Return scores with the catalogs that are not where they were, if they are where they are now.

    That is the case if the folder of a run was copied without its catalog.
    """
    domains = list(scores.domains)
    for number, domain in enumerate(domains):
        here = replace(domain, catalog_file=located(domain.catalog))
        lost = domain.catalog_file and not os.path.exists(domain.catalog_file)
        if (
            lost
            and os.path.exists(here.catalog_file)
            and here.key not in {each.key for each in domains}
        ):
            domains[number] = here
    return replace(scores, domains=tuple(domains))


def _latest(scores: Scores) -> Scores:
    """Return scores without those that were scored again from a path written in another way."""
    latest: dict[Any, DomainScores] = {}
    for domain in scores.domains:
        earlier = latest.get(domain.key)
        if earlier is None or (earlier.created or "") <= (domain.created or ""):
            latest[domain.key] = domain
    written = {(domain.key, domain.catalog) for domain in scores.domains}
    if len(written) < len(scores.domains):
        return scores  # some are there twice in every way, which is a fault
    return replace(scores, domains=tuple(latest.values()))


def _told_apart(scores: Scores) -> Scores:
    """Return scores in which every catalog has one path of its own, however it was given.

    It is the one that was given last, or the absolute one if another catalog was given by it, too.
    """
    given = {domain.key[0]: domain.catalog for domain in scores.domains}
    times = Counter(given.values())
    paths = {file: path if times[path] == 1 else file for file, path in given.items()}
    return replace(
        scores, domains=tuple(replace(each, catalog=paths[each.key[0]]) for each in scores.domains)
    )


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
        _check_counts(domain)
    histograms = [domain.histogram for domain in scores.domains if domain.histogram]
    for histogram in (*histograms, *scores.model.histograms.values()):
        if len(histogram) != scores.model.bands:
            raise MalformedError(f"expected histograms of {scores.model.bands} bands")
        if any(len(band) != HISTOGRAM_LEVELS for band in histogram) or not all(
            0 <= share <= 1 for band in histogram for share in band
        ):
            raise MalformedError(f"expected histograms of {HISTOGRAM_LEVELS} shares")
        # Shares are rounded; those of a band without pixels add up to zero.
        if not all(total == 0 or abs(total - 1) < 0.01 for total in map(sum, histogram)):
            raise MalformedError("expected histograms whose shares add up to one")
    examples = [example for domain in scores.domains for example in domain.examples]
    if any(min(example.width, example.height) < 1 for example in examples):
        raise MalformedError("an example has no size")


def _check_counts(domain: DomainScores) -> None:
    """Check the names and counts of one domain."""
    if set(domain.boundary_iou) != set(BOUNDARY_WIDTHS):
        raise MalformedError(f"expected Boundary IoU of {' and '.join(BOUNDARY_WIDTHS)}")
    levels = domain.calibration.levels
    if len(levels.pixels) != len(levels.buildings) or any(
        not 0 <= buildings <= pixels
        for pixels, buildings in zip(levels.pixels, levels.buildings, strict=True)
    ):
        raise MalformedError("expected a share of the pixels of every level as buildings")
    if any(each.count < 0 for each in domain.calibration.bins):
        raise MalformedError("expected a number of pixels in every bin of probability")
    if any(not 0 <= each.correct <= each.footprints for each in domain.footprint_scores):
        raise MalformedError("expected a share of the footprints of every score as correct")
