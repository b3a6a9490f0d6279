"""The imagery of a run: images, histogram bank, and the value ranges of both."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from rhm.augmentation.colours import SOURCES_BANK
from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.packed_histogram import PackedHistogram
from rhm.colour.spectra.spectrum import SIDE
from rhm.data.catalog import Catalog, Tile
from rhm.data.radiometry import Scaling, histogram_of, measure_scalings, source_spectrum
from rhm.errors import CatalogError, ConfigError
from rhm.models.spec import load_spec
from rhm.training.config import RunConfig
from rhm.training.unlabelled.target_config import EVERY_SPLIT
from rhm.worker_threads import in_order, usable_cores

_MOST_OUTSIDE = 0.5
"""Largest tolerated share of pixels whose values lie outside the range of other imagery."""

_PIXELS_PER_TILE = 1 << 22
"""Largest number of pixels of each image that its histogram is measured from."""


@dataclass(frozen=True)
class Material:
    """The imagery of a run.

    Attributes:
        catalog: catalog of all imagery.
        train: labelled training images.
        val: labelled validation images; may be empty.
        bank: histograms of the target domain, or None.
        scalings: value range for each dtype of the training imagery and the bank.
        histograms: pooled histogram of the training pixels for each domain and dtype.
        scenes: histogram of each training and validation image, by path; empty unless the run
            needs them.
        references: images of the target domain; empty unless the augmentation uses their pixels.
        unlabelled: images of the target domain that are seen without labels; may be empty.
    """

    catalog: Catalog
    train: Sequence[Tile]
    val: Sequence[Tile]
    bank: HistogramBank | None
    scalings: Mapping[str, Scaling]
    histograms: Mapping[tuple[str, str], Histogram]
    scenes: Mapping[str, Histogram] = field(default_factory=dict)
    references: Sequence[Tile] = ()
    unlabelled: Sequence[Tile] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the training domains, without repetition."""
        return tuple(dict.fromkeys(tile.domain for tile in self.train))

    @property
    def gsd_m(self) -> float | None:
        """Median metres per pixel of the training images; None if unknown for all of them."""
        known = [tile.gsd_m for tile in self.train if tile.gsd_m is not None]
        return float(np.median(known)) if known else None

    def range_of(self, dtype: str) -> Scaling:
        """Return the value range of ``dtype``, measured on the references if it is not known."""
        if dtype in self.scalings:
            return self.scalings[dtype]
        counted = _count([tile for tile in self.references if tile.dtype == dtype])
        return measure_scalings(counted.pooled.values())[dtype]

    def digest(self) -> str:
        """Return a hash by which other imagery, labels, splits or another bank are noticed.

        It comes from the catalog, the names and sizes of files, the histograms of the training
        pixels and the bank, and does not change with the folders that hold them. A change that
        leaves all of these alone is not noticed.
        """
        told = hashlib.sha256()
        for part in (self.train, self.val, self.references, self.unlabelled):
            placeless = [
                replace(
                    tile, image=Path(tile.image.name), label=tile.label and Path(tile.label.name)
                )
                for tile in part
            ]
            sizes = [_size(path) for tile in part for path in (tile.image, tile.label)]
            told.update(repr([placeless, sizes]).encode())
        if self.bank is not None:
            told.update(repr([self.bank.names, self.bank.weights.tolist()]).encode())
            spectra = (each.amplitudes for each in self.bank.spectra if each is not None)
            told.update(b"".join(np.abs(amplitudes).tobytes() for amplitudes in spectra))
            for each in self.bank.spectra:
                if each is not None and each.others:
                    others = [(side, each.others[side].tobytes()) for side in sorted(each.others)]
                    told.update(repr([each.gsd_m, others]).encode())
        pooled = {} if self.bank is None else self.bank.pooled
        counted = {str(key): each for key, each in [*self.histograms.items(), *pooled.items()]}
        for key in sorted(counted):
            told.update(f"{key} {counted[key].first}".encode())
            told.update(counted[key].counts.tobytes())
        return told.hexdigest()

    def unit_histograms(self) -> dict[str, list[list[float]]]:
        """Return the histograms of the training domains on 256 levels from black to white.

        Returns:
            For each domain and band, the share of pixels at each level.
        """
        pooled: dict[str, Histogram] = {}
        for (domain, dtype), histogram in self.histograms.items():
            unit = self.scalings[dtype].bytes_table().push(histogram)
            pooled[domain] = pooled[domain].merge(unit) if domain in pooled else unit
        return {domain: h.distribution().round(6).tolist() for domain, h in pooled.items()}


def _size(path: Path | None) -> int | None:
    """Return the bytes of a file; None if there is none that this machine can tell."""
    try:
        return None if path is None else path.stat().st_size
    except OSError:
        return None


def gather(config: RunConfig) -> Material:
    """Select the images of a run, read its bank, and measure the value ranges of both.

    Raises:
        CatalogError: there is no labelled training image, the training images differ in their
            number of bands, or a validation image differs from them in bands or dtype.
        ConfigError: the bank or the target images have another number of bands, the catalog lacks
            a target domain, the images differ in resolution and no ground sampling distance is
            chosen, or imagery is on another scale.
        BankError: the bank cannot be read.
        ModelFileError: the base model cannot be read.
    """
    catalog = Catalog.load(config.data.catalog)
    alone = config.target.source_free
    counted, val = (_CountedTiles(), []) if alone else _labelled(config, catalog)
    train = counted.tiles
    bands = load_spec(str(config.adapter.base)).bands if alone else train[0].bands
    seen = _unlabelled(config, catalog, bands)
    bank = _bank(config, counted if train else seen)
    if bank is not None and bank.bands != bands:
        raise ConfigError(
            f"augment.bank has {bank.bands} bands, the training images {bands}: build the bank "
            "from imagery with the same bands"
        )
    others = {
        "augment.bank": [] if bank is None else list(bank.pooled.values()),
        "target.domains": list(seen.pooled.values()),
    }
    scalings = _scalings(config, counted.pooled, others.values(), bands)
    _check_resolution(config, [*train, *seen.tiles])
    _check_validation(val, bands=bands, dtypes=scalings.keys())
    scenes = {}
    if _needs_scenes(config):
        scenes = counted.each | _count(val, keep_each=True).each | seen.each
    references = _references(config, catalog, bands)
    for what, pooled in ((what, each) for what, counts in others.items() for each in counts):
        _check_range(what, pooled, scalings[pooled.dtype.name], "the training imagery")
    return Material(
        catalog, train, val, bank, scalings, counted.pooled, scenes, references, seen.tiles
    )


@dataclass
class _CountedTiles:
    """Counted images; those that are entirely nodata are left out.

    A catalog may have tens of thousands of images, and the histogram of one several hundred
    kilobytes, so that they are pooled at once, and kept one by one only where a run needs it.

    Attributes:
        tiles: the images.
        pooled: histogram of all pixels of each domain and dtype.
        each: histogram of each image by its path; empty unless they are kept.
        packed: the same, packed; empty unless they are kept.
    """

    tiles: list[Tile] = field(default_factory=list)
    pooled: dict[tuple[str, str], Histogram] = field(default_factory=dict)
    each: dict[str, Histogram] = field(default_factory=dict)
    packed: list[PackedHistogram] = field(default_factory=list)


def _count(
    tiles: Sequence[Tile], *, keep_each: bool = False, keep_packed: bool = False
) -> _CountedTiles:
    """Count images, several at a time."""

    def count(tile: Tile) -> Histogram:
        with tile.open() as raster:
            return histogram_of(raster, max_pixels=_PIXELS_PER_TILE)

    found = _CountedTiles()
    for tile, histogram in zip(tiles, in_order(count, tiles, usable_cores()), strict=True):
        if keep_each:
            found.each[str(tile.image)] = histogram
        if histogram.pixels:
            key, pooled = (tile.domain, tile.dtype), found.pooled
            pooled[key] = pooled[key].merge(histogram) if key in pooled else histogram
            found.tiles.append(tile)
            if keep_packed:
                found.packed.append(PackedHistogram.of(histogram))
    return found


def _count_for(config: RunConfig, tiles: Sequence[Tile]) -> _CountedTiles:
    packed = config.augment.bank == SOURCES_BANK
    return _count(tiles, keep_each=_needs_scenes(config), keep_packed=packed)


def _needs_scenes(config: RunConfig) -> bool:
    """Return whether a run needs the histogram of every image."""
    return config.model.standardize != "none" or config.augment.statistics == "scene"


def _labelled(config: RunConfig, catalog: Catalog) -> tuple[_CountedTiles, list[Tile]]:
    """Return the training images, and the images of the validation."""
    chosen = catalog.select(domains=_sources(config, catalog), labelled=True)
    train, val = (chosen.select(split=split).tiles for split in ("train", "val"))
    if not train:
        raise CatalogError(
            f"{config.data.catalog} has no labelled image in split 'train' of "
            f"{', '.join(config.data.sources) or 'any domain'}: add labels, or change data.sources"
        )
    bands = {tile.bands for tile in train}
    if len(bands) > 1:
        raise CatalogError(
            f"training images have {sorted(bands)} bands: choose sources with the same number"
        )
    # Nothing can be learned from images that are entirely nodata.
    counted = _count_for(config, train)
    if not counted.tiles:
        raise CatalogError(
            f"{config.data.catalog}: no training image has valid pixels: check the nodata value"
        )
    return counted, list(val)


def _scalings(
    config: RunConfig,
    histograms: Mapping[tuple[str, str], Histogram],
    others: Iterable[Sequence[Histogram]],
    bands: int,
) -> dict[str, Scaling]:
    """Return the value range of each dtype.

    Unlabelled imagery must not change the value range of labelled imagery or of the bank, nor the
    bank that of labelled imagery, so that runs with and without them differ only in what they
    learn. The ranges of a base model take precedence over all.

    Args:
        config: configuration of the run.
        histograms: those of labelled imagery.
        others: histograms of other kinds of imagery, the most important ones first.
        bands: number of bands.
    """
    base = _base_scalings(config, bands)
    for (domain, name), pooled in histograms.items():
        if name in base:
            _check_range(domain, pooled, base[name], "the base model's training imagery")
    measured: dict[str, Scaling] = {}
    for counts in (list(histograms.values()), *others):
        measured = (measure_scalings(counts) if counts else {}) | measured
    return measured | base


def _base_scalings(config: RunConfig, bands: int) -> dict[str, Scaling]:
    """Return the value ranges that the base model stores; none without a base model."""
    if config.adapter.base is None:
        return {}
    spec = load_spec(config.adapter.base)
    if spec.bands != bands:
        raise ConfigError(
            f"the training images have {bands} bands, but adapter.base takes {spec.bands}: choose "
            "images with the same bands"
        )
    return dict(spec.scalings)


def _bank(config: RunConfig, counted: _CountedTiles) -> HistogramBank | None:
    if config.augment.bank is None:
        return None
    if config.augment.bank != SOURCES_BANK:
        return HistogramBank.load(config.augment.bank)
    spectra = None
    if config.augment.uses("from_spectra"):
        measure = partial(source_spectrum, side=SIDE, gsd_m=config.data.gsd_m)
        spectra = list(in_order(measure, counted.tiles, usable_cores()))
    names = [f"{tile.domain}/{tile.name}" for tile in counted.tiles]
    return HistogramBank(counted.packed, names, spectra=spectra)


def _sources(config: RunConfig, catalog: Catalog) -> Sequence[str] | None:
    """Return the domains whose labels are used; by default, all that are not seen without."""
    if config.data.sources or not config.target.domains:
        return config.data.sources or None
    return [name for name in catalog.domains if name not in config.target.domains]


def _unlabelled(config: RunConfig, catalog: Catalog, bands: int) -> _CountedTiles:
    """Return the images that are seen without labels."""
    target = config.target
    if not target.domains:
        return _CountedTiles()
    try:
        chosen = catalog.select(
            domains=target.domains, split=None if target.split == EVERY_SPLIT else target.split
        )
    except CatalogError as error:
        raise ConfigError(f"target.domains: {error}") from error
    others = sorted({tile.bands for tile in chosen.tiles} - {bands})
    if others:
        raise ConfigError(
            f"target.domains have images with {others} bands, the training images {bands}: choose "
            "other domains"
        )
    # Whoever reads a tile from here on can learn nothing of its buildings.
    tiles = [replace(tile, label=None, building_fraction=None) for tile in chosen.tiles]
    counted = _count_for(config, tiles)
    if not counted.tiles:
        raise ConfigError(
            f"target: {config.data.catalog} has no image with valid pixels in split "
            f"'{target.split}' of {', '.join(target.domains)}: change target.split"
        )
    return counted


def _references(config: RunConfig, catalog: Catalog, bands: int) -> Sequence[Tile]:
    domains = config.augment.targets
    if not config.augment.uses("from_targets"):
        return ()
    unknown = sorted(set(domains) - set(catalog.domains))
    if unknown:
        raise ConfigError(
            f"augment.targets: the catalog has no domain {', '.join(unknown)}: choose from "
            f"{', '.join(catalog.domains)}"
        )
    split = config.target.split
    tiles = catalog.select(domains=domains, split=None if split == EVERY_SPLIT else split).tiles
    if not tiles:
        raise ConfigError(
            f"augment.targets: {config.data.catalog} has no image in split '{split}' of "
            f"{', '.join(domains)}: change target.split"
        )
    others = sorted({tile.bands for tile in tiles} - {bands})
    if others:
        raise ConfigError(
            f"augment.targets have images with {others} bands, the training images {bands}: choose "
            "other domains"
        )
    return tiles


def _check_range(what: str, histogram: Histogram, scaling: Scaling, known: str) -> None:
    """Refuse imagery whose values lie mostly outside a range, and so are on another scale.

    Args:
        what: name of the imagery, for the message.
        histogram: pixels of the imagery.
        scaling: value range of other imagery of the same dtype.
        known: name of that other imagery, for the message.
    """
    ends = zip(histogram.distribution(), scaling.low, scaling.high, strict=True)
    values = histogram.values
    outside = max(
        float(shares[(values < low) | (values > high)].sum()) for shares, low, high in ends
    )
    if outside > _MOST_OUTSIDE:
        raise ConfigError(
            f"{what}: {outside:.0%} of its {scaling.dtype} pixels lie outside the range "
            f"{scaling.low} to {scaling.high} of {known}, which is on another scale: rescale one "
            "of them"
        )


def _check_resolution(config: RunConfig, tiles: Sequence[Tile]) -> None:
    known = [tile.gsd_m for tile in tiles if tile.gsd_m is not None]
    if config.data.gsd_m is None and known and max(known) > 1.2 * min(known):
        raise ConfigError(
            f"training images have {min(known):.2g} to {max(known):.2g} metres per pixel: choose "
            "one value with data.gsd_m"
        )


def _check_validation(tiles: Sequence[Tile], *, bands: int, dtypes: Collection[str]) -> None:
    for tile in tiles:
        if tile.bands != bands or tile.dtype not in dtypes:
            raise CatalogError(
                f"{tile.image} has {tile.bands} bands of {tile.dtype}, the training images {bands} "
                f"of {', '.join(sorted(dtypes))}: choose validation images of the same kind"
            )
