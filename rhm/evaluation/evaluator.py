"""Scores of a model in every domain of a catalog, which show how far to trust it in each."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rhm.data.catalog import Catalog, Tile
from rhm.errors import RhmError
from rhm.evaluation.examples import choose_examples, pictures_of, save_examples
from rhm.evaluation.image_choice import (
    ALL,
    check_images,
    nothing_to_score,
    with_other_splits,
    work_of,
)
from rhm.evaluation.own_threshold import own_threshold
from rhm.evaluation.pooled_scores import name_of, pooled_scores, shares
from rhm.evaluation.score_files import (
    earlier_scores,
    kept_domains,
    of_same_model,
    write_scores,
)
from rhm.evaluation.scores import ModelFacts, Scores, Shift, located
from rhm.evaluation.tile_scores import TileScores, count, see
from rhm.files import check_folder_writable
from rhm.inference.runtime.backends import Backend, DescribedNetwork
from rhm.inference.runtime.identity import identity_of
from rhm.inference.settings.polygon_config import AUTO
from rhm.inference.tiling.stream import Tiling
from rhm.records import as_read


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
    overwrite: bool = False,
    on_progress: Callable[[], None] | None = None,
) -> Scores:
    """Score a model on labelled images, domain by domain, and write ``scores.json``.

    All files are checked first, as far as that is possible without opening them. ``scores.json`` is
    then written after each domain, so that an image that cannot be read costs only its own.

    Args:
        model: model in ``eval`` mode.
        catalog: catalog of labelled images.
        folder: folder for ``scores.json`` and ``examples/``. Domains that were scored there before
            are kept, unless they are scored again or the model is another; see ``kept_domains``.
        name: name of the run.
        catalog_path: path of the catalog, which is recorded as it is and as an absolute one.
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
        overwrite: whether a ``scores.json`` that cannot be read is replaced.
        on_progress: called after each image.

    Returns:
        The scores of these domains; ``scores.json`` may also contain earlier ones.

    Raises:
        CatalogError: no labelled image is left to score, or a file of one is missing.
        RasterError: an image or mask cannot be read.
        ModelFileError: an image does not have the bands that the model takes.
        ConfigError: there is a ``scores.json`` that cannot be read.
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    work = work_of(catalog, model.spec, split=split, domains=domains, shifts=shifts)
    if not work:
        raise nothing_to_score(split, catalog_path or "the catalog")
    chosen = [images for images, shift in work if shift is None]
    check_images(chosen, model.spec)
    seen = with_other_splits(catalog, model.spec, chosen)
    earlier = earlier_scores(folder, overwrite=overwrite)  # it is read again to be added to
    # A folder that does not exist is made for scores only: reports take it as a sign of them.
    check_folder_writable(folder)
    tiling = tiling or Tiling()
    common: dict[str, Any] = {
        "catalog": catalog_path,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "views": tiling.views,
        "runtime": model.runtime if isinstance(model, Backend) else "torch",
    }
    # Names of folders may contain anything. What is added to scores has the names that they have.
    scores = as_read(
        Scores(
            run=name,
            method=model.spec.method,
            seed=model.spec.seed,
            split=split or ALL,
            threshold=model.spec.threshold if threshold in (None, AUTO) else float(threshold),
            model=_model(model),
            domains=(),
            **common,
        )
    )
    # Scores that are dropped as a whole stay until all that replace them are complete.
    at_once = earlier is None or of_same_model(earlier, scores)
    for images, shift in work:
        shown = (picks or {}).get(name_of(images.domain, shift))
        try:
            scored, used, implied = _scored(
                model, images.tiles, shift, tiling, threshold, on_progress
            )
            pictures = choose_examples(model, scored, shift, tiling, picks=shown, threshold=used)
            found = replace(
                pooled_scores(model.spec, images.domain, scored, shift, seed=seed),
                examples=save_examples(pictures, folder),
                split=images.split,
                threshold=used if threshold == AUTO else None,
                implied=implied,
                catalog_file=located(catalog_path),
                other_split=images.domain in seen,
                **common,
            )
            found = as_read(found)
            with_found = replace(scores, domains=(*scores.domains, found))
            if at_once or len(with_found.domains) == len(work):
                _write(folder, with_found, overwrite=overwrite)
        except RhmError as error:
            if at_once and (kept := ", ".join(domain.label for domain in scores.domains)):
                raise type(error)(f"{error}; the scores of {kept} are in {folder}") from error
            raise
        scores = with_found
    return scores


def _scored(
    model: DescribedNetwork,
    tiles: Sequence[Tile],
    shift: Shift | None,
    tiling: Tiling,
    threshold: float | str | None,
    on_progress: Callable[[], None] | None,
) -> tuple[list[TileScores], float, bool]:
    """Return the scores of images, the threshold that was used, and whether it could be chosen."""
    used = model.spec.threshold if threshold in (None, AUTO) else float(threshold)
    implied = True
    with TemporaryDirectory() as folder:
        predicted: Sequence[Path | None] = [None] * len(tiles)
        if threshold == AUTO:
            own, predicted = own_threshold(
                model, tiles, Path(folder), shift=shift, tiling=tiling, on_progress=on_progress
            )
            used, implied, on_progress = used if own is None else own, own is not None, None
        scored = []
        for tile, path in zip(tiles, predicted, strict=True):
            seen = see(model, tile, shift=shift, tiling=tiling, threshold=used, predicted=path)
            scored.append(count(seen, tile, used))
            if on_progress is not None:
                on_progress()
    return scored, used, implied


def picks_of(scores: Scores) -> dict[str, dict[str, str]]:
    """Return the images that an evaluation shows as best, median and worst, by domain and kind."""
    return {
        domain.name: {example.kind: example.name for example in domain.examples}
        for domain in scores.domains
    }


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
        histograms={name: shares(bands) for name, bands in spec.source_histograms.items()},
    )


def _write(folder: Path, scores: Scores, *, overwrite: bool) -> None:
    """Write scores beside those that are kept, and remove the pictures of those that are not."""
    earlier = earlier_scores(folder, overwrite=overwrite)
    written = replace(scores, domains=(*kept_domains(earlier, scores), *scores.domains))
    write_scores(written, folder)
    for stale in pictures_of(earlier.domains if earlier else ()) - pictures_of(written.domains):
        with suppress(OSError):  # the scores are complete without it
            (folder / stale).unlink()
