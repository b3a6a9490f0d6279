"""Which images of a catalog a model is scored on; all are checked before it sees the first one."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rhm.data.catalog import Catalog, Tile
from rhm.errors import CatalogError, ConfigError, ModelFileError
from rhm.evaluation.scores import Shift
from rhm.models.spec import ModelSpec
from rhm.required_files import is_local

ALL = "all"
"""In place of a split: all images of a domain."""

_TRAINED_ON = (ALL, "train")


@dataclass(frozen=True)
class DomainImages:
    """The labelled images of a domain that a model is scored on.

    Attributes:
        domain: name of the domain.
        split: split of the images, or ``ALL``.
        tiles: the images, at least one.
    """

    domain: str
    split: str
    tiles: Sequence[Tile]


def images_to_score(
    catalog: Catalog,
    spec: ModelSpec,
    *,
    split: str | None,
    domains: Sequence[str] | None = None,
) -> list[DomainImages]:
    """Return the labelled images of every domain that has any in a split.

    A domain that the model has not seen has all its images if it has none in the split.

    Args:
        catalog: catalog of labelled images.
        spec: description of the model.
        split: split of the images; None for all.
        domains: domains to score; all by default.

    Raises:
        CatalogError: a domain is not in the catalog.
    """
    labelled = catalog.select(domains=domains, labelled=True)
    found = []
    for domain in labelled.domains:
        of_domain = labelled.select(domains=[domain])
        within = of_domain if split is None else of_domain.select(split=split)
        if len(within):
            found.append(DomainImages(domain, split or ALL, within.tiles))
        elif domain not in spec.sources:
            found.append(DomainImages(domain, ALL, of_domain.tiles))
    return found


def work_of(
    catalog: Catalog,
    spec: ModelSpec,
    *,
    split: str | None,
    domains: Sequence[str] | None,
    shifts: Sequence[Shift],
) -> list[tuple[DomainImages, Shift | None]]:
    """Return the images that a model is scored on, each time under a shift or None.

    Only the training domains of the model are scored under shifts.

    Raises:
        CatalogError: a domain is not in the catalog.
    """
    work: list[tuple[DomainImages, Shift | None]] = []
    for images in images_to_score(catalog, spec, split=split, domains=domains):
        work.append((images, None))
        if images.domain in spec.sources:
            work += [(images, shift) for shift in shifts]
    return work


def amount_of_work(work: Iterable[tuple[DomainImages, Shift | None]]) -> int:
    """Return the number of images that are predicted."""
    return sum(len(images.tiles) for images, _ in work)


def pixels_of_work(work: Iterable[tuple[DomainImages, Shift | None]], spec: ModelSpec) -> int:
    """Return the number of pixels, at the model's resolution, that are predicted."""
    sizes = (
        tile.width * tile.height * tile.scale_to(spec.gsd_m).area
        for images, _ in work
        for tile in images.tiles
    )
    return round(sum(sizes))


def check_images(
    images: Iterable[DomainImages], spec: ModelSpec, *, model: str = "the model"
) -> None:
    """Check that images fit a model by what the catalog says of them, and that their files exist.

    Args:
        images: images to score.
        spec: description of the model.
        model: name of the model, for messages.

    Raises:
        CatalogError: an image or label is missing.
        ModelFileError: an image does not have the bands that the model takes.
    """
    missing = []
    for each in images:
        for tile in each.tiles:
            if tile.bands != spec.bands:
                raise ModelFileError(
                    f"{model} takes {spec.bands} bands, and {tile.image} of {each.domain} has "
                    f"{tile.bands}: choose other domains with --domain, or index images with "
                    "the bands of the model"
                )
            files = (path for path in (tile.image, tile.label) if path is not None)
            missing += [path for path in files if is_local(path) and not os.path.exists(path)]
    if missing:
        more = f", and {len(missing) - 1} more that the catalog lists" if missing[1:] else ""
        raise CatalogError(
            f"no such file: {missing[0]}{more}: restore what is missing, or index the images again "
            "with `rhm data index`"
        )


def check_choice(
    catalog: Catalog,
    spec: ModelSpec,
    *,
    split: str | None,
    domains: Sequence[str] | None,
    shifts: Sequence[Shift] = (),
    model: str = "the model",
    file: str | os.PathLike[str] = "the catalog",
) -> list[str]:
    """Check that a model can be scored on what was asked for.

    Args:
        catalog: whole catalog.
        spec: description of the model.
        split: split of the images; None for all.
        domains: domains to score; all by default.
        shifts: shifts under which the training domains of the model are scored in addition.
        model: name of the model, for errors.
        file: path of the catalog, for errors and notes.

    Returns:
        What else there is to know: domains that are left out or scored on all their images, and
        training domains that cannot be shifted or of which the model may have seen the images, or
        domains whose images are not brought to a resolution that the model does not know.

    Raises:
        CatalogError: a domain is not in the catalog, there is no image to score, or a file is
            missing.
        ModelFileError: an image does not have the bands that the model takes.
        ConfigError: none of the training domains can be shifted.
    """
    images = images_to_score(catalog, spec, split=split, domains=domains)
    unshifted = [name for name in spec.sources if name not in {each.domain for each in images}]
    told = (
        "--shift applies to the training domains of a model, and no labelled image of "
        f"{', '.join(unshifted) or 'any'} is scored in {file}"
    )
    if shifts and len(unshifted) == len(spec.sources):
        raise ConfigError(f"{model}: {told}: leave out --shift, or use a catalog that has one")
    if not images:
        raise nothing_to_score(split, file)
    check_images(images, spec, model=model)
    notes = [f"{file}: {note}" for note in _uneven(catalog, spec, split, domains, images)]
    if shifts and unshifted:
        notes.append(told)
    known = [each.domain for each in images if any(tile.gsd_m for tile in each.tiles)]
    if spec.gsd_m is None and known:
        notes.append(
            "the resolution that the model expects is unknown, so the images of "
            f"{', '.join(known)} are not brought to it: check that they have that of the training "
            "imagery, or train with data.gsd_m"
        )
    if seen := with_other_splits(catalog, spec, images):
        notes.append(
            f"{file}: its splits may not be those of the training (hash {catalog.split_hash()}, "
            f"then {spec.split_hash}), so the model may have been trained on images of "
            f"{', '.join(seen)} in split '{split}': use the catalog that it was trained with"
        )
    return notes


def told_once(notes: Sequence[tuple[str, Iterable[str]]]) -> list[str]:
    """Return notes on models once each, with the names of the models if it is not all."""
    models: dict[str, list[str]] = {}
    for model, of_model in notes:
        for note in dict.fromkeys(of_model):
            models.setdefault(note, []).append(model)
    return [
        note if len(names) == len(notes) else f"{', '.join(names)}: {note}"
        for note, names in models.items()
    ]


def nothing_to_score(split: str | None, file: str | os.PathLike[str]) -> CatalogError:
    """Return the error that a catalog has no image to score."""
    where = "" if split is None else f" in split '{split}'"
    return CatalogError(f"{file} has no labelled image{where} to evaluate on")


def with_other_splits(
    catalog: Catalog, spec: ModelSpec, images: Iterable[DomainImages]
) -> list[str]:
    """Return the training domains of which images that are held out may have been trained on.

    A model records a hash of the splits of each domain, and earlier models one of the whole catalog
    that they were trained with. It is therefore that of this catalog, or of its part with the
    training domains; otherwise they may be split in another way, or only other domains may differ,
    which it does not tell.

    Args:
        catalog: whole catalog.
        spec: description of the model.
        images: images to score.
    """
    held = [
        each.domain
        for each in images
        if each.domain in spec.sources and each.split not in _TRAINED_ON
    ]
    known = spec.source_splits
    now = catalog.split_hashes(name for name in held if name in known)
    others = [name for name in held if now.get(name, "") != known.get(name, "")]
    # Of earlier models, only the hash of all splits together is known.
    unknown = [name for name in held if name not in known]
    if unknown and spec.split_hash not in ("", catalog.split_hash()):
        here = [name for name in spec.sources if name in catalog.domains]
        if catalog.select(domains=here).split_hash() != spec.split_hash:
            others += unknown
    return others


def _uneven(
    catalog: Catalog,
    spec: ModelSpec,
    split: str | None,
    domains: Sequence[str] | None,
    images: Iterable[DomainImages],
) -> list[str]:
    """Return a note on every domain that is left out, or scored on other images than asked for."""
    found = {each.domain: each for each in images}
    labelled = catalog.select(labelled=True).domains
    notes = []
    for domain in dict.fromkeys(catalog.domains if domains is None else domains):
        each = found.get(domain)
        if each is None and domain not in labelled:
            # Domains without any label are common, and are not meant unless they are named.
            if domains is not None:
                notes.append(f"{domain} has no labelled image, and is left out")
        elif each is None:
            notes.append(
                f"{domain} has no labelled image in split '{split}', and is left out, because the "
                "model was trained on this domain"
            )
        elif split is not None and each.split == ALL:
            notes.append(
                f"{domain} has no labelled image in split '{split}', so all {len(each.tiles)} are "
                "used"
            )
    return notes
