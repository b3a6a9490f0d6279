"""What a run trains on: images, bank, and the radiometry of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rhm.bank import HistogramBank
from rhm.data.catalog import Catalog, Tile
from rhm.data.radiometry import Scaling, histogram_of, measure_scalings
from rhm.errors import CatalogError, ConfigError
from rhm.histogram import Histogram
from rhm.training.config import RunConfig

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
    """

    catalog: Catalog
    train: Sequence[Tile]
    val: Sequence[Tile]
    bank: HistogramBank | None
    scalings: Mapping[str, Scaling]
    histograms: Mapping[tuple[str, str], Histogram]

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
        CatalogError: there is no labelled training image, or they differ in bands.
        BankError: the bank cannot be read or has other bands.
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
    bank = HistogramBank.load(config.augment.bank) if config.augment.bank else None
    if bank is not None and bank.bands not in bands:
        raise ConfigError(f"augment.bank has {bank.bands} bands, the training images {bands.pop()}")
    histograms = _training_histograms(train)
    # The bank must not move the range of imagery that there are labels of: runs with and
    # without it then differ in their augmentation only.
    of_bank = measure_scalings(bank.histograms) if bank else {}
    measured = of_bank | measure_scalings(histograms.values())
    _check_resolution(config, train)
    return Material(catalog, train, val, bank, measured, histograms)


def _check_resolution(config: RunConfig, tiles: Sequence[Tile]) -> None:
    known = [tile.gsd_m for tile in tiles if tile.gsd_m is not None]
    if config.data.gsd_m is None and known and max(known) > 1.2 * min(known):
        raise ConfigError(
            f"training images have {min(known):.2g} to {max(known):.2g} metres per pixel: choose "
            "one with data.gsd_m"
        )


def _training_histograms(tiles: Sequence[Tile]) -> dict[tuple[str, str], Histogram]:
    pooled: dict[tuple[str, str], Histogram] = {}
    for tile in tiles:
        with tile.open() as raster:
            counted = histogram_of(raster, max_pixels=_PIXELS_PER_TILE)
        key = (tile.domain, tile.dtype)
        pooled[key] = pooled[key].merge(counted) if key in pooled else counted
    return pooled
