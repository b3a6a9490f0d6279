"""Inspection of a model: how its features separate the classes, by stage and domain.

It measures compression and discrimination of every stage (Wang et al., JMLR 26, 2025), neural
collapse of the last features (Yaras et al., NeurIPS 2022), and how far the class means of other
domains lie from those of the training domains.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np
import torch

from rhm.analysis.collapse import collapse, nearest_mean_disagreement
from rhm.analysis.depth_trends import fit_line
from rhm.analysis.domains import domain_shift, variance_shares
from rhm.analysis.moments import ClassMoments
from rhm.analysis.probes import ProbeScore, clear_lead, linear_probe
from rhm.analysis.separation import separation
from rhm.data.catalog import Catalog, Tile
from rhm.errors import AnalysisError, CatalogError
from rhm.evaluation.features.feature_moments import (
    LAST,
    CellSampling,
    StageFeatures,
    collect_features,
)
from rhm.evaluation.features.findings import (
    BestTap,
    DepthFit,
    Inspection,
    LastFeatures,
    StageStatistics,
    StageVariance,
)
from rhm.evaluation.image_choice import check_images, images_to_score
from rhm.models.build import SegmentationModel
from rhm.models.heads import classified, classifier_rows, classify
from rhm.models.spec import ModelSpec

ByDomain = Mapping[str, StageFeatures]

_FEWEST_CELLS = 10


def images_to_inspect(
    catalog: Catalog,
    spec: ModelSpec,
    *,
    split: str | None,
    domains: Sequence[str] | None = None,
) -> dict[str, Sequence[Tile]]:
    """Return the labelled images of each domain on which a model is inspected.

    Raises:
        CatalogError: the catalog has no labelled image of a training domain of the model, with
            which the other domains are compared, or a file is missing.
        ModelFileError: an image does not have the bands that the model takes.
    """
    images = images_to_score(catalog, spec, split=split, domains=domains)
    found = {each.domain: each.tiles for each in images}
    if not set(found) & set(spec.sources):
        where = ", ".join(domains) if domains else "the catalog"
        raise CatalogError(
            f"there is nothing to compare with: {where} contains no labelled image "
            f"{f'in split {split!r} ' if split else ''}of the training domains of the model "
            f"({', '.join(spec.sources) or 'which it does not record'})"
        )
    check_images(images, spec)
    return found


def inspect_model(
    model: SegmentationModel,
    images: Mapping[str, Sequence[Tile]],
    sampling: CellSampling,
    *,
    name: str,
    stages: Sequence[str] = (),
    on_image: Callable[[], None] | None = None,
) -> Inspection:
    """Analyse the features of a model on images of several domains.

    Args:
        model: model in ``eval`` mode.
        images: labelled images by domain, including at least one training domain of the model.
        sampling: images and cells to sample.
        name: name of the model in tables.
        stages: names of stages, as in ``rhm.analysis.taps.Taps``. By default all stages are
            analysed, except in domains where they have hardly any pure cells of a class.
        on_image: called after each image.

    Raises:
        AnalysisError: a stage does not exist, a named stage has hardly any pure cells of a class,
            or no stage remains.
        RasterError: an image or mask cannot be read.
        ModelFileError: an image does not have the bands that the model takes.
    """
    classes = sampling.classes
    few = [domain for domain, tiles in images.items() if len(tiles) < 2]
    left_out = [
        f"{domain} has one image, of two that it takes to fit and to test" for domain in few
    ]
    collected = {
        domain: collect_features(model, tiles, sampling, names=stages, on_image=on_image)
        for domain, tiles in images.items()
        if domain not in few
    }
    trained_on = [domain for domain in collected if domain in model.spec.sources]
    names = list(next(iter(collected.values()), {}))
    for domain in list(collected):
        absent = _absent(collected[domain], classes)
        if absent and not stages:
            left_out.append(f"{domain} shows no {' and no '.join(absent)} in the images looked at")
            del collected[domain]
    domains_left_out = len(left_out)
    found = _Found([], [], {}, {})
    for number, stage in enumerate(names):
        of_stage = {domain: collected[domain][stage] for domain in collected}
        rare = {domain: _rare(features, classes) for domain, features in of_stage.items()}
        if any(rare.values()):
            half = min(_half(images[domain], sampling) for domain in rare if rare[domain])
            left_out.append(_said_missing(stage, of_stage, rare, sampling.cells * half))
        present = {domain: features for domain, features in of_stage.items() if not rare[domain]}
        # Without a training domain there is nothing to compare the others with.
        if not set(present) & set(trained_on):
            continue
        try:
            found.add(name, stage, number, present, trained_on, sampling)
        except AnalysisError as error:
            left_out.append(f"{stage}: {error}")
    if not found.stages or (stages and len(left_out) > domains_left_out):
        raise AnalysisError(f"{name}: {left_out[-1 if stages else 0]}")
    return Inspection(
        model=name,
        method=model.spec.method,
        sources=model.spec.sources,
        classes=classes,
        stages=tuple(found.stages),
        variance=tuple(found.variance),
        last=tuple(_last_features(model, name, found.kept)),
        fits=tuple(_fits(name, found.stages)),
        best=_best_tap(name, found.stages, found.probes),
        left_out=tuple(left_out),
    )


@dataclass
class _Found:
    """The results so far; a stage is added either completely or not at all."""

    stages: list[StageStatistics]
    variance: list[StageVariance]
    kept: dict[str, ByDomain]
    probes: dict[tuple[str, str], ProbeScore]

    def add(
        self,
        model: str,
        stage: str,
        number: int,
        found: ByDomain,
        trained_on: Sequence[str],
        sampling: CellSampling,
    ) -> None:
        own = {
            domain: linear_probe(features.fitted).score(
                *features.sample(), features.sampled_groups()
            )
            for domain, features in found.items()
        }
        rows = _stage(model, stage, number, found, own, trained_on, sampling)
        if len(found) > 1:
            shares = variance_shares(_moments(found))
            self.variance.append(StageVariance(model, stage, number, shares))
        self.stages += rows
        self.probes |= {(stage, domain): score for domain, score in own.items()}
        self.kept[stage] = found


def _absent(found: Mapping[str, StageFeatures], classes: Sequence[str]) -> list[str]:
    """Return the classes without a cell at any stage in one of the halves."""
    most = torch.stack([torch.minimum(e.fitted.counts, e.held.counts) for e in found.values()])
    return [label for label, count in zip(classes, most.amax(0).tolist(), strict=True) if not count]


def _moments(found: ByDomain) -> dict[str, ClassMoments]:
    return {domain: features.moments for domain, features in found.items()}


def _rare(found: StageFeatures, classes: Sequence[str]) -> list[str]:
    """Return the classes with hardly any pure cells at a stage in one of the halves."""
    fewest = torch.minimum(found.fitted.counts, found.held.counts).tolist()
    return [label for label, count in zip(classes, fewest, strict=True) if count < _FEWEST_CELLS]


def _half(tiles: Sequence[Tile], sampling: CellSampling) -> int:
    """Return about how many images of a domain are looked at in each half, at least one."""
    return max(1, min(len(tiles), sampling.images) // 2)


def _said_missing(
    stage: str, found: ByDomain, lacking: Mapping[str, Sequence[str]], most_cells: int
) -> str:
    """Return what a stage lacks; of each class, ``most_cells`` are drawn in half of the images."""
    labels = dict.fromkeys(label for rare in lacking.values() for label in rare)
    where = [domain for domain, rare in lacking.items() if rare]
    stride = found[where[0]].stride
    cause = "lower the purity" if most_cells >= _FEWEST_CELLS else "draw more cells of each image"
    return (
        f"{stage} shows under {_FEWEST_CELLS} pure cells of {' or '.join(labels)} in half of the "
        f"images of {', '.join(where)} (cells of {stride} px): {cause}, or look at more images"
    )


def _stage(
    model: str,
    stage: str,
    number: int,
    found: ByDomain,
    own: Mapping[str, ProbeScore],
    trained_on: Sequence[str],
    sampling: CellSampling,
) -> list[StageStatistics]:
    classes = sampling.classes
    moments = _moments(found)
    present = [domain for domain in trained_on if domain in found]
    home = _merged([moments[domain] for domain in present])
    learned = linear_probe(_merged([found[domain].fitted for domain in present]))
    rows = []
    for domain, features in found.items():
        here = separation(moments[domain], weighting="classes")
        moved = domain_shift(home, moments[domain])
        rows.append(
            StageStatistics(
                model=model,
                stage=stage,
                number=number,
                part=stage.partition(".")[0].partition("[")[0],
                channels=features.channels,
                stride=features.stride,
                domain=domain,
                trained_on=domain in trained_on,
                comparable=features.stride <= sampling.ground_px,
                cells=dict(zip(classes, moments[domain].counts.tolist(), strict=True)),
                compression=here.compression,
                discrimination=here.discrimination,
                nc1=collapse(moments[domain]).nc1,
                stable_rank=here.stable_rank,
                numerical_rank=here.numerical_rank,
                probe=own[domain].accuracy,
                probe_error=own[domain].error,
                transfer=learned.balanced_accuracy(*features.sample()),
                shift=dict(zip(classes, moved.shift.tolist(), strict=True)),
                advance=dict(zip(classes, _most_advanced(moved.advance), strict=True)),
            )
        )
    return rows


def _merged(moments: Sequence[ClassMoments]) -> ClassMoments:
    first = ClassMoments.from_state_dict(moments[0].state_dict())
    return reduce(ClassMoments.merge, moments[1:], first)


def _most_advanced(advance: Any) -> list[float]:
    others = np.where(np.eye(len(advance), dtype=bool), -np.inf, advance)
    return [float(value) for value in others.max(axis=1)]


def _last_features(
    model: SegmentationModel, name: str, kept: Mapping[str, ByDomain]
) -> list[LastFeatures]:
    rows = classifier_rows(model.network)
    last = kept.get(LAST, {})
    if {features.fitted.num_classes for features in last.values()} != {max(len(rows), 2)}:
        return []  # the stage was left out, or the classifier has other classes
    found = []
    for domain, stage in last.items():
        moments = stage.classified or stage.moments
        metrics = collapse(moments, rows)
        features = classified(model.network, stage.sample()[0])
        disagreement = nearest_mean_disagreement(
            moments, features, partial(classify, model.network)
        )
        found.append(
            LastFeatures(
                model=name,
                domain=domain,
                nc1=metrics.nc1,
                nc2=metrics.nc2,
                nc3=metrics.nc3,
                nc3_centered=metrics.nc3_centered,
                self_duality=metrics.self_duality,
                nc4=disagreement.nc4,
            )
        )
    return found


def _fits(model: str, statistics: Sequence[StageStatistics]) -> list[DepthFit]:
    found = []
    for domain in dict.fromkeys(row.domain for row in statistics):
        for part in dict.fromkeys(row.part for row in statistics):
            # The logarithm is undefined for a stage whose classes are single points.
            rows = [
                row
                for row in statistics
                if (row.domain, row.part) == (domain, part) and row.compression > 0.0
            ]
            if len(rows) < 3:
                continue
            depth = [float(row.number) for row in rows]
            log_c = [math.log(row.compression) for row in rows]
            d = [row.discrimination for row in rows]
            found += [
                DepthFit(model, domain, part, "log C_l", fit_line(depth, log_c)),
                DepthFit(model, domain, part, "D_l", fit_line(depth, d)),
            ]
    return found


def _best_tap(
    model: str,
    statistics: Sequence[StageStatistics],
    probes: Mapping[tuple[str, str], ProbeScore],
) -> BestTap | None:
    """Return the stage with the best probes in unseen domains, or else in training domains."""
    away = any(not row.trained_on for row in statistics)
    by_stage: dict[str, list[StageStatistics]] = {}
    for row in statistics:
        # The first stage is the image itself and not a feature.
        if row.comparable and row.trained_on != away and row.stage != "encoder[0]":
            by_stage.setdefault(row.stage, []).append(row)
    # Stages are compared over the same domains only.
    most = max(map(len, by_stage.values()), default=0)
    by_stage = {stage: rows for stage, rows in by_stage.items() if len(rows) == most}
    if not by_stage:
        return None
    means = {stage: float(np.mean([e.probe for e in rows])) for stage, rows in by_stage.items()}
    best, last = max(means, key=lambda stage: means[stage]), list(means)[-1]
    pairs = [(probes[best, e.domain], probes[last, e.domain]) for e in by_stage[last]]
    margin = clear_lead(pairs, len(means) - 1)
    return BestTap(model, best, away, means[best], means[last], margin)
