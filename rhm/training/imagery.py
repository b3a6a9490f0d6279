"""What a run trains on: images, bank, and the radiometry of both."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rhm.colour.augment_config import SOURCES_BANK
from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.data.catalog import Catalog, Tile
from rhm.data.radiometry import Scaling, histogram_of, measure_scalings
from rhm.errors import CatalogError, ConfigError
from rhm.models.model_file import load_spec
from rhm.training.config import RunConfig

_MOST_OUTSIDE = 0.5
"""Share of a bank's pixels that may be darker or brighter than nearly all training pixels."""

_PIXELS_PER_TILE = 1 << 22
"""Pixels of each training image that are counted to measure its radiometry."""


@dataclass(frozen=True)
class Material:
    """What a run trains on.

    Attributes:
        catalog: of all imagery.
        train: labelled training images.
        val: labelled validation images; may be empty.
        bank: the target domain's histograms, or None.
        scalings: range by dtype of training imagery and bank.
        histograms: by domain and dtype, the training pixels together.
        scenes: by image, the histogram of each training and validation image, where the run
            needs them.
        references: images of the target domain, where the run borrows from their pixels.
    """

    catalog: Catalog
    train: Sequence[Tile]
    val: Sequence[Tile]
    bank: HistogramBank | None
    scalings: Mapping[str, Scaling]
    histograms: Mapping[tuple[str, str], Histogram]
    scenes: Mapping[str, Histogram] = field(default_factory=dict)
    references: Sequence[Tile] = ()

    @property
    def gsd_m(self) -> float | None:
        """Median metres per pixel of the training images; None where none says."""
        known = [tile.gsd_m for tile in self.train if tile.gsd_m is not None]
        return float(np.median(known)) if known else None

    def range_of(self, dtype: str) -> Scaling:
        """Return the range of imagery of ``dtype``, measured on the references if need be."""
        if dtype in self.scalings:
            return self.scalings[dtype]
        images = [tile for tile in self.references if tile.dtype == dtype]
        counted = [histogram for histogram in _counted(images).values() if histogram.pixels]
        return measure_scalings(counted)[dtype]

    def unit_histograms(self) -> dict[str, list[list[float]]]:
        """Return each training domain's shares on 256 levels from black to white, per band."""
        pooled: dict[str, Histogram] = {}
        for (domain, dtype), histogram in self.histograms.items():
            unit = self.scalings[dtype].bytes_table().push(histogram)
            pooled[domain] = pooled[domain].merge(unit) if domain in pooled else unit
        return {domain: h.distribution().round(6).tolist() for domain, h in pooled.items()}


def gather(config: RunConfig) -> Material:
    """Select the images of a run, read its bank and measure the radiometry of both.

    Raises:
        CatalogError: there is no labelled training image, or they differ in bands, or a
            validation image is of another kind.
        ConfigError: the bank or the target images have other bands, or there is no such target.
        BankError: the bank cannot be read.
        ModelFileError: the model to be adapted cannot be read.
    """
    catalog = Catalog.load(config.data.catalog)
    chosen = catalog.select(domains=config.data.sources or None, labelled=True)
    train, val = (chosen.select(split=split).tiles for split in ("train", "val"))
    if not train:
        raise CatalogError(
            f"{config.data.catalog} has no labelled image in split 'train' of "
            f"{', '.join(config.data.sources) or 'any domain'}"
        )
    bands = {tile.bands for tile in train}
    if len(bands) > 1:
        raise CatalogError(f"training images have {sorted(bands)} bands: train on one number only")
    counted = _counted(train)
    # Chips of an image without data teach nothing.
    train = [tile for tile in train if counted[str(tile.image)].pixels]
    if not train:
        raise CatalogError(f"{config.data.catalog}: no training image has valid pixels")
    bank = _bank(config, train, counted)
    if bank is not None and bank.bands not in bands:
        raise ConfigError(f"augment.bank has {bank.bands} bands, the training images {bands.pop()}")
    histograms = _by_domain(train, counted)
    # The bank must not move the range of imagery that there are labels of: runs with and
    # without it then differ in their augmentation only. A model to be adapted has its own.
    of_bank = measure_scalings(bank.pooled.values()) if bank else {}
    of_base = _scalings_of_base(config, train[0].bands)
    measured = of_bank | measure_scalings(histograms.values()) | of_base
    if bank is not None:
        for dtype, pooled in bank.pooled.items():
            _check_range("augment.bank", pooled, measured[dtype.name], "the training imagery")
    for (domain, name), pooled in histograms.items():
        if name in of_base:
            _check_range(domain, pooled, of_base[name], "what the model was trained on")
    _check_resolution(config, train)
    _check_validation(val, bands=train[0].bands, dtypes=measured.keys())
    scenes = {}
    if config.model.standardize != "none" or config.augment.statistics == "scene":
        scenes = counted | _counted(val)
    references = _references(config, catalog, train[0].bands)
    return Material(catalog, train, val, bank, measured, histograms, scenes, references)


def _scalings_of_base(config: RunConfig, bands: int) -> dict[str, Scaling]:
    """Return the ranges that a model to be adapted knows from its own training."""
    if config.adapter.base is None:
        return {}
    spec = load_spec(config.adapter.base)
    if spec.bands != bands:
        raise ConfigError(
            f"the training images have {bands} bands, and adapter.base takes {spec.bands}"
        )
    return dict(spec.scalings)


def _bank(
    config: RunConfig, train: Sequence[Tile], counted: Mapping[str, Histogram]
) -> HistogramBank | None:
    if config.augment.bank is None:
        return None
    if config.augment.bank != SOURCES_BANK:
        return HistogramBank.load(config.augment.bank)
    entries = [counted[str(tile.image)] for tile in train]
    return HistogramBank(entries, [f"{tile.domain}/{tile.name}" for tile in train])


def _references(config: RunConfig, catalog: Catalog, bands: int) -> Sequence[Tile]:
    domains = config.augment.targets
    if config.augment.colour != "fda":
        return ()
    unknown = sorted(set(domains) - set(catalog.domains))
    if unknown:
        raise ConfigError(
            f"augment.targets: the catalog has no domain {', '.join(unknown)}: choose of "
            f"{', '.join(catalog.domains)}"
        )
    tiles = catalog.select(domains=domains).tiles
    others = sorted({tile.bands for tile in tiles} - {bands})
    if others:
        raise ConfigError(
            f"augment.targets have images of {others} bands, the training images {bands}"
        )
    return tiles


def _check_range(what: str, histogram: Histogram, scaling: Scaling, known: str) -> None:
    """Refuse imagery that is scaled unlike the imagery of its type that a range is known of."""
    ends = zip(histogram.distribution(), scaling.low, scaling.high, strict=True)
    values = histogram.values
    outside = max(
        float(shares[(values < low) | (values > high)].sum()) for shares, low, high in ends
    )
    if outside > _MOST_OUTSIDE:
        raise ConfigError(
            f"{what}: {outside:.0%} of its {scaling.dtype} pixels lie outside the range "
            f"{scaling.low} to {scaling.high} of {known}, which is scaled otherwise: bring both "
            "to one scale"
        )


def _check_resolution(config: RunConfig, tiles: Sequence[Tile]) -> None:
    known = [tile.gsd_m for tile in tiles if tile.gsd_m is not None]
    if config.data.gsd_m is None and known and max(known) > 1.2 * min(known):
        raise ConfigError(
            f"training images have {min(known):.2g} to {max(known):.2g} metres per pixel: choose "
            "one with data.gsd_m"
        )


def _check_validation(tiles: Sequence[Tile], *, bands: int, dtypes: Collection[str]) -> None:
    for tile in tiles:
        if tile.bands != bands or tile.dtype not in dtypes:
            raise CatalogError(
                f"{tile.image} has {tile.bands} bands of {tile.dtype}, the training images {bands} "
                f"of {', '.join(sorted(dtypes))}: choose like images to validate on"
            )


def _counted(tiles: Sequence[Tile]) -> dict[str, Histogram]:
    """Return the histogram of each image, by its path."""
    counted = {}
    for tile in tiles:
        with tile.open() as raster:
            counted[str(tile.image)] = histogram_of(raster, max_pixels=_PIXELS_PER_TILE)
    return counted


def _by_domain(
    tiles: Sequence[Tile], counted: Mapping[str, Histogram]
) -> dict[tuple[str, str], Histogram]:
    pooled: dict[tuple[str, str], Histogram] = {}
    for tile in tiles:
        key, histogram = (tile.domain, tile.dtype), counted[str(tile.image)]
        pooled[key] = pooled[key].merge(histogram) if key in pooled else histogram
    return pooled
