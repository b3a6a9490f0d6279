"""What a model's features do to the classes, stage by stage and domain by domain.

Compression and discrimination per stage (Wang et al., JMLR 26, 2025), collapse of the last
features (Yaras et al., NeurIPS 2022), and how far the class means of other domains are from those
of the domains that the model was trained on.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np
import torch

from rhm.analysis.collapse import collapse, nearest_mean_disagreement
from rhm.analysis.domains import domain_shift, variance_shares
from rhm.analysis.fits import fit_line
from rhm.analysis.moments import ClassMoments
from rhm.analysis.probes import linear_probe
from rhm.analysis.separation import separation
from rhm.data.catalog import Catalog, Tile
from rhm.errors import AnalysisError, CatalogError
from rhm.evaluation.evaluator import tiles_to_score
from rhm.evaluation.feature_moments import CellSampling, StageFeatures, collect_features
from rhm.evaluation.findings import (
    BestTap,
    DepthFit,
    Inspection,
    LastFeatures,
    StageStatistics,
    StageVariance,
)
from rhm.models.build import SegmentationModel
from rhm.models.heads import classifier_rows, classify

ByDomain = Mapping[str, StageFeatures]

_FEWEST_CELLS = 10


def images_to_inspect(
    catalog: Catalog,
    model: SegmentationModel,
    *,
    split: str | None,
    domains: Sequence[str] | None = None,
) -> dict[str, list[Tile]]:
    """Return the labelled images of each domain that a model is inspected on.

    Raises:
        CatalogError: the catalog has no such images of a domain that the model was trained on,
            which the others are compared with.
    """
    listed = catalog.select(domains=domains, labelled=True)
    found = dict(tiles_to_score(listed, model.spec, split))
    if not set(found) & set(model.spec.sources):
        where = f"among {', '.join(domains)}" if domains else "in the catalog"
        raise CatalogError(
            f"there is nothing to compare with: {where} is no labelled image "
            f"{f'of split {split!r} ' if split else ''}of what the model was trained on, "
            f"{', '.join(model.spec.sources) or 'which it does not say'}"
        )
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
    """Analyse a model's features on the images of several domains.

    Args:
        model: in ``eval`` mode.
        images: by domain, labelled; one at least that the model was trained on.
        sampling: which cells are looked at.
        name: of the model, for the tables.
        stages: names of stages, as ``rhm.analysis.taps.Taps`` takes them; all by default, where
            a stage is left out in domains that show hardly any pure cells of a class there.
        on_image: called after each image.

    Raises:
        AnalysisError: there is no such stage; a stage that was named shows no pure cells of a
            class; or no stage does in every domain.
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
    found = _Found([], [], {})
    for number, stage in enumerate(names):
        of_stage = {domain: collected[domain][stage] for domain in collected}
        rare = {domain: _rare(each, classes) for domain, each in of_stage.items()}
        if any(rare.values()):
            left_out.append(_said_missing(stage, of_stage, rare))
        present = {domain: each for domain, each in of_stage.items() if not rare[domain]}
        # Without the domains trained on there is nothing to compare the others with.
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
        best=_best_tap(name, found.stages),
        left_out=tuple(left_out),
    )


@dataclass
class _Found:
    """What was found so far; a stage is taken in as a whole or not at all."""

    stages: list[StageStatistics]
    variance: list[StageVariance]
    kept: dict[str, ByDomain]

    def add(
        self,
        model: str,
        stage: str,
        number: int,
        found: ByDomain,
        trained_on: Sequence[str],
        sampling: CellSampling,
    ) -> None:
        rows = _stage(model, stage, number, found, trained_on, sampling)
        if len(found) > 1:
            shares = variance_shares(_moments(found))
            self.variance.append(StageVariance(model, stage, number, shares))
        self.stages += rows
        self.kept[stage] = found


def _absent(found: Mapping[str, StageFeatures], classes: Sequence[str]) -> list[str]:
    """Return the classes that no stage shows a cell of in one of the halves."""
    most = torch.stack([torch.minimum(e.fitted.counts, e.held.counts) for e in found.values()])
    return [label for label, count in zip(classes, most.amax(0).tolist(), strict=True) if not count]


def _moments(found: ByDomain) -> dict[str, ClassMoments]:
    return {domain: each.moments for domain, each in found.items()}


def _rare(found: StageFeatures, classes: Sequence[str]) -> list[str]:
    """Return the classes of which a stage shows hardly any pure cells in a half of the images."""
    fewest = torch.minimum(found.fitted.counts, found.held.counts).tolist()
    return [label for label, count in zip(classes, fewest, strict=True) if count < _FEWEST_CELLS]


def _said_missing(stage: str, found: ByDomain, lacking: Mapping[str, Sequence[str]]) -> str:
    labels = dict.fromkeys(label for rare in lacking.values() for label in rare)
    where = [domain for domain, rare in lacking.items() if rare]
    stride = found[where[0]].stride
    return (
        f"{stage} shows under {_FEWEST_CELLS} pure cells of {' or '.join(labels)} in half of the "
        f"images of {', '.join(where)} (cells of {stride} px): lower the purity, or look at more "
        "images"
    )


def _stage(
    model: str,
    stage: str,
    number: int,
    found: ByDomain,
    trained_on: Sequence[str],
    sampling: CellSampling,
) -> list[StageStatistics]:
    classes = sampling.classes
    moments = _moments(found)
    present = [domain for domain in trained_on if domain in found]
    home = _merged([moments[domain] for domain in present])
    learned = linear_probe(_merged([found[domain].fitted for domain in present]))
    rows = []
    for domain, each in found.items():
        here = separation(moments[domain], weighting="classes")
        moved = domain_shift(home, moments[domain])
        own, error = linear_probe(each.fitted).score(*each.sample())
        rows.append(
            StageStatistics(
                model=model,
                stage=stage,
                number=number,
                part=stage.partition(".")[0].partition("[")[0],
                channels=each.channels,
                stride=each.stride,
                domain=domain,
                trained_on=domain in trained_on,
                comparable=each.stride <= sampling.ground_px,
                cells=dict(zip(classes, moments[domain].counts.tolist(), strict=True)),
                compression=here.compression,
                discrimination=here.discrimination,
                nc1=collapse(moments[domain]).nc1,
                stable_rank=here.stable_rank,
                numerical_rank=here.numerical_rank,
                probe=own,
                probe_error=error,
                transfer=learned.balanced_accuracy(*each.sample()),
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
    last = kept.get("decoder", {})
    if {each.fitted.num_classes for each in last.values()} != {max(len(rows), 2)}:
        return []  # left out, or the classifier tells other classes apart than those looked at
    found = []
    for domain, each in last.items():
        moments = each.moments
        metrics = collapse(moments, rows)
        features, _ = each.sample()
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
    for domain in dict.fromkeys(each.domain for each in statistics):
        for part in dict.fromkeys(each.part for each in statistics):
            # A stage whose classes are points has no logarithm to fit.
            rows = [
                each
                for each in statistics
                if (each.domain, each.part) == (domain, part) and each.compression > 0.0
            ]
            if len(rows) < 3:
                continue
            depth = [float(each.number) for each in rows]
            log_c = [math.log(each.compression) for each in rows]
            d = [each.discrimination for each in rows]
            found += [
                DepthFit(model, domain, part, "log C_l", fit_line(depth, log_c)),
                DepthFit(model, domain, part, "D_l", fit_line(depth, d)),
            ]
    return found


def _best_tap(model: str, statistics: Sequence[StageStatistics]) -> BestTap | None:
    """Return the stage whose own probes do best away from home, at home where all is home."""
    away = any(not each.trained_on for each in statistics)
    by_stage: dict[str, list[StageStatistics]] = {}
    for each in statistics:
        # The image itself is no feature of the network.
        if each.comparable and each.trained_on != away and each.stage != "encoder[0]":
            by_stage.setdefault(each.stage, []).append(each)
    # Stages compare over the same domains only.
    most = max(map(len, by_stage.values()), default=0)
    by_stage = {stage: rows for stage, rows in by_stage.items() if len(rows) == most}
    if not by_stage:
        return None
    means = {stage: float(np.mean([e.probe for e in rows])) for stage, rows in by_stage.items()}
    best, last = max(means, key=lambda stage: means[stage]), list(means)[-1]
    errors = [e.probe_error for stage in (best, last) for e in by_stage[stage]]
    error = float(np.sqrt(np.sum(np.square(errors))) / most)
    return BestTap(model, best, away, means[best], means[last], error)
