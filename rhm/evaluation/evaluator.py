"""Scores of a model in every domain of a catalog, which show how far to trust it in each."""

import operator
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce
from itertools import chain
from itertools import count as count_from
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rhm.data.catalog import Catalog, Tile
from rhm.errors import CatalogError
from rhm.evaluation.bootstrap import bootstrap_interval
from rhm.evaluation.examples import ExamplePicture, choose_examples
from rhm.evaluation.footprint_precision import footprint_scores
from rhm.evaluation.outlines.domain_outlines import outline_scores
from rhm.evaluation.own_threshold import own_threshold
from rhm.evaluation.score_files import earlier_scores, kept_domains, write_scores
from rhm.evaluation.scores import (
    BOUNDARY_WIDTHS,
    Calibration,
    CalibrationBin,
    DomainScores,
    Example,
    FootprintScores,
    Interval,
    Levels,
    ModelFacts,
    PixelScores,
    Scores,
    Shares,
    Shift,
    finite,
)
from rhm.evaluation.tile_scores import TileScores, count, pooled_histogram, see
from rhm.inference.runtime.backends import Backend, DescribedNetwork
from rhm.inference.runtime.identity import identity_of
from rhm.inference.settings.polygon_config import AUTO
from rhm.inference.tiling.stream import Tiling
from rhm.models.spec import ModelSpec
from rhm.training import metrics

_RELIABILITY_BINS = 20


def evaluate_model(
    model: DescribedNetwork,
    catalog: Catalog,
    folder: str | os.PathLike[str],
    *,
    name: str,
    catalog_path: str = "",
    split: str | None = "test",
    domains: Sequence[str] | None = None,
    shifts: Sequence[Shift] = (),
    tiling: Tiling | None = None,
    picks: Mapping[str, Mapping[str, str]] | None = None,
    threshold: float | str | None = None,
    seed: int = 0,
    on_progress: Callable[[], None] | None = None,
) -> Scores:
    """Score a model on labelled images, domain by domain, and write ``scores.json``.

    Args:
        model: model in ``eval`` mode.
        catalog: catalog of labelled images.
        folder: folder for ``scores.json`` and ``examples/``. Domains that were scored there before
            are kept, unless they are scored again or the model is another; see ``kept_domains``.
        name: name of the run.
        catalog_path: path of the catalog, which is recorded.
        split: split of the images to score; None scores all. Domains that the model has not seen
            are scored on all their images if they have none in this split.
        domains: domains to score; all by default.
        shifts: shifts under which the training domains of the model are scored in addition.
        tiling: options of the tiles.
        picks: for each domain, the images to show as best, median and worst, from ``picks_of``, so
            that models side by side show the same images; by default those of this model.
        threshold: minimum probability of a building pixel; by default that of the model. With
            ``auto``, it is the one that the model's own probabilities imply in each domain, without
            its labels.
        seed: seed of the bootstrap.
        on_progress: called after each image.

    Returns:
        The scores of these domains; ``scores.json`` may also contain earlier ones.

    Raises:
        CatalogError: no labelled image is left to score.
        RasterError: an image or mask cannot be read.
        ModelFileError: an image does not have the bands that the model takes.
        OutputError: the folder cannot be written.
    """
    chosen = catalog.select(domains=domains, labelled=True)
    work = _work(chosen, model.spec, split, shifts)
    if not work:
        raise CatalogError(f"no labelled image in split '{split}' to evaluate on")
    tiling = tiling or Tiling()
    created = datetime.now(UTC).isoformat(timespec="seconds")
    results: list[DomainScores] = []
    shown: list[ExamplePicture] = []
    for domain, tiles, shift in work:
        scored, used = _scored(model, tiles, shift, tiling, threshold, on_progress)
        name_of_domain = _name(domain, shift)
        wanted = (picks or {}).get(name_of_domain)
        pictures = choose_examples(model, scored, shift, tiling, picks=wanted, threshold=used)
        shown += pictures
        examples = tuple(picture.example for picture in pictures)
        found = _domain(model.spec, name_of_domain, scored, shift, examples, seed)
        results.append(
            replace(
                found,
                catalog=catalog_path,
                split=split or "all",
                created=created,
                views=tiling.views,
                threshold=used if threshold == AUTO else None,
            )
        )
    scores = Scores(
        run=name,
        method=model.spec.method,
        seed=model.spec.seed,
        split=split or "all",
        catalog=catalog_path,
        created=created,
        threshold=model.spec.threshold if threshold in (None, AUTO) else float(threshold),
        views=tiling.views,
        runtime=model.runtime if isinstance(model, Backend) else "torch",
        model=_model(model),
        domains=tuple(results),
    )
    return _write(Path(folder), scores, shown)


def _scored(
    model: DescribedNetwork,
    tiles: Sequence[Tile],
    shift: Shift | None,
    tiling: Tiling,
    threshold: float | str | None,
    on_progress: Callable[[], None] | None,
) -> tuple[list[TileScores], float]:
    """Return the scores of images, and the threshold that was used."""
    used = model.spec.threshold if threshold is None else threshold
    with TemporaryDirectory() as folder:
        predicted: Sequence[Path | None] = [None] * len(tiles)
        if isinstance(used, str):
            used, predicted = own_threshold(
                model, tiles, Path(folder), shift=shift, tiling=tiling, on_progress=on_progress
            )
            on_progress = None
        scored = []
        for tile, path in zip(tiles, predicted, strict=True):
            seen = see(model, tile, shift=shift, tiling=tiling, threshold=used, predicted=path)
            scored.append(count(seen, tile, used))
            if on_progress is not None:
                on_progress()
    return scored, used


def amount_of_work(
    catalog: Catalog,
    spec: ModelSpec,
    *,
    split: str | None,
    domains: Sequence[str] | None,
    shifts: Sequence[Shift],
) -> int:
    """Return the number of images that ``evaluate_model`` would score."""
    chosen = catalog.select(domains=domains, labelled=True)
    return sum(len(tiles) for _, tiles, _ in _work(chosen, spec, split, shifts))


def pixels_of_work(
    catalog: Catalog,
    spec: ModelSpec,
    *,
    split: str | None,
    domains: Sequence[str] | None,
    shifts: Sequence[Shift],
) -> int:
    """Return the number of pixels, at the model's resolution, that ``evaluate_model`` predicts."""
    chosen = catalog.select(domains=domains, labelled=True)
    sizes = (
        tile.width * tile.height * tile.scale_to(spec.gsd_m).area
        for _, tiles, _ in _work(chosen, spec, split, shifts)
        for tile in tiles
    )
    return round(sum(sizes))


def unshifted_sources(
    catalog: Catalog, spec: ModelSpec, *, split: str | None, domains: Sequence[str] | None
) -> list[str]:
    """Return the training domains of a model that ``evaluate_model`` cannot score under a shift."""
    chosen = catalog.select(domains=domains, labelled=True)
    scored = {domain for domain, _ in tiles_to_score(chosen, spec, split)}
    return [source for source in spec.sources if source not in scored]


def tiles_to_score(
    catalog: Catalog, spec: ModelSpec, split: str | None
) -> Iterator[tuple[str, list[Tile]]]:
    """Yield every domain that has images in a split, with these images.

    A domain that the model has not seen yields all its images if it has none in the split.
    """
    for domain in catalog.domains:
        of_domain = catalog.select(domains=[domain])
        within = of_domain if split is None else of_domain.select(split=split)
        if not len(within) and domain not in spec.sources:
            within = of_domain
        if len(within):
            yield domain, within.tiles


def _work(
    catalog: Catalog, spec: ModelSpec, split: str | None, shifts: Sequence[Shift]
) -> list[tuple[str, list[Tile], Shift | None]]:
    work: list[tuple[str, list[Tile], Shift | None]] = []
    for domain, tiles in tiles_to_score(catalog, spec, split):
        work.append((domain, tiles, None))
        if domain in spec.sources:
            work += [(domain, tiles, shift) for shift in shifts]
    return work


def picks_of(scores: Scores) -> dict[str, dict[str, str]]:
    """Return the images that an evaluation shows as best, median and worst, by domain and kind."""
    return {
        domain.name: {example.kind: example.name for example in domain.examples}
        for domain in scores.domains
    }


def _name(domain: str, shift: Shift | None) -> str:
    return domain if shift is None else f"{domain} ({shift.family} shift)"


def _domain(
    spec: ModelSpec,
    name: str,
    scored: list[TileScores],
    shift: Shift | None,
    examples: tuple[Example, ...],
    seed: int,
) -> DomainScores:
    """Return the scores of one domain."""
    groups = [scores.tile.group for scores in scored]
    histogram = pooled_histogram(scored).distribution()
    boundaries = zip(*(scores.boundaries for scores in scored), strict=True)

    def interval(counts: Sequence[metrics.Counts], score: Callable[..., Any]) -> Interval:
        return bootstrap_interval(counts, groups, score, seed=seed)

    return DomainScores(
        name=name,
        role="source" if name in spec.sources else "target",
        shift=shift,
        images=len(scored),
        groups=len(set(groups)),
        gsd_m=_median([scores.tile.gsd_m for scores in scored]),
        pixel=_pixels([scores.pixels for scores in scored], interval),
        object=_footprints([scores.objects for scores in scored], interval),
        boundary_iou={
            width: interval(counts, metrics.boundary_score)
            for width, counts in zip(BOUNDARY_WIDTHS, boundaries, strict=True)
        },
        calibration=_calibration(reduce(operator.add, (scores.calibration for scores in scored))),
        outline=outline_scores(
            [scores.outlines for scores in scored],
            [scores.detections for scores in scored],
            interval,
        ),
        histogram=_shares(histogram.round(6).tolist()),
        distance=_distance(spec, histogram),
        examples=examples,
        footprint_scores=footprint_scores(scored),
        unknown_gsd=sum(scores.tile.gsd_m is None for scores in scored),
    )


_MakeInterval = Callable[[Sequence[metrics.Counts], Callable[..., Any]], Interval]


def _pixels(counts: list[metrics.ConfusionCounts], interval: _MakeInterval) -> PixelScores:
    return PixelScores(
        iou=interval(counts, metrics.jaccard_score),
        f1=interval(counts, metrics.f1_score),
        precision=interval(counts, metrics.precision_score),
        recall=interval(counts, metrics.recall_score),
    )


def _footprints(counts: list[metrics.ObjectScores], interval: _MakeInterval) -> FootprintScores:
    total = reduce(operator.add, counts)
    return FootprintScores(
        f1=interval(counts, metrics.f1_score),
        precision=interval(counts, metrics.precision_score),
        recall=interval(counts, metrics.recall_score),
        true_positives=total.true_positives,
        false_positives=total.false_positives,
        false_negatives=total.false_negatives,
    )


def _calibration(levels: metrics.CalibrationBins) -> Calibration:
    bins = levels.merged(_RELIABILITY_BINS)
    confidence, frequency = bins.reliability()
    edges = np.linspace(0.0, 1.0, len(bins.pixels) + 1)
    rows = zip(edges[:-1], edges[1:], bins.pixels, confidence, frequency, strict=True)
    return Calibration(
        ece=finite(bins.expected_calibration_error),
        bins=tuple(
            CalibrationBin(float(low), float(high), int(pixels), finite(mean), finite(share))
            for low, high, pixels, mean, share in rows
        ),
        levels=Levels(tuple(levels.pixels.tolist()), tuple(levels.buildings.tolist())),
    )


def _model(model: DescribedNetwork) -> ModelFacts:
    spec = model.spec
    return ModelFacts(
        architecture=spec.architecture,
        encoder=spec.encoder,
        bands=spec.bands,
        gsd_m=spec.gsd_m,
        sources=tuple(spec.sources),
        split_hash=spec.split_hash,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        rhm_version=spec.rhm_version,
        training_images=spec.training_images,
        licence=spec.licence,
        classes=spec.classes,
        weights=identity_of(model.model if isinstance(model, Backend) else model),
        histograms={name: _shares(bands) for name, bands in spec.source_histograms.items()},
    )


def _shares(bands: Sequence[Sequence[float]]) -> Shares:
    return tuple(tuple(band) for band in bands)


def _distance(spec: ModelSpec, histogram: Any) -> tuple[float, ...]:
    if not spec.source_histograms:
        return ()
    return tuple(float(distance) for distance in spec.source_distance(histogram)[1])


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _write(folder: Path, scores: Scores, pictures: list[ExamplePicture]) -> Scores:
    """Write scores and pictures beside those that are kept; return the scores as written."""
    earlier = earlier_scores(folder)
    kept = kept_domains(earlier, scores)
    names = _free_names([each.example.image for each in pictures], _pictures(kept))
    for picture in pictures:
        replace(picture, example=_renamed(picture.example, names)).save(folder)
    domains = tuple(
        replace(domain, examples=tuple(_renamed(each, names) for each in domain.examples))
        for domain in scores.domains
    )
    written = replace(scores, domains=(*kept, *domains))
    write_scores(written, folder)
    for stale in _pictures(earlier.domains if earlier else ()) - _pictures(written.domains):
        (folder / stale).unlink(missing_ok=True)
    return replace(scores, domains=domains)


def _pictures(domains: Sequence[DomainScores]) -> set[str]:
    """Return the pictures of an evaluation, which are the only files to remove."""
    named = {example.image for domain in domains for example in domain.examples}
    return {name for name in named if re.fullmatch(r"examples/[\w-]+\.png", name)}


def _free_names(names: Sequence[str], taken: Collection[str]) -> dict[str, str]:
    """Return a name for each picture that no picture of an earlier evaluation has."""
    free = {}
    for name in names:
        candidates = (f"{name.removesuffix('.png')}-{number}.png" for number in count_from(2))
        free[name] = next(each for each in chain([name], candidates) if each not in taken)
    return free


def _renamed(example: Example, names: Mapping[str, str]) -> Example:
    return replace(example, image=names[example.image])
