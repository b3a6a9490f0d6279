"""Labelled tiles for calibration. Oracle: the images and masks of the catalog, read whole."""

from pathlib import Path

import numpy as np

from rhm.data.catalog import Catalog
from rhm.data.labels import IGNORE
from rhm.evaluation.labelled_samples import labelled_samples
from rhm.models.spec import ModelSpec


def spec_of(*sources: str) -> ModelSpec:
    return ModelSpec("unet", "test_resnet", bands=3, sources=sources)


def test_they_are_of_the_validation_split_of_the_training_domains(catalog_path: Path) -> None:
    catalog = Catalog.load(catalog_path)
    spec = spec_of("alder_aerial", "gone")
    samples = list(labelled_samples(spec, catalog))
    tiles = catalog.select(domains=["alder_aerial"], split="val").tiles
    assert len(samples) == len(tiles) > 0
    for sample, tile in zip(samples, tiles, strict=True):
        with tile.open() as raster, tile.open_label(raster) as label:
            pixels, truth = raster.read(), label.read()
            table = spec.table_of(raster)
        assert sample.truth is not None
        np.testing.assert_array_equal(sample.truth, truth == 1)
        np.testing.assert_array_equal(sample.valid, pixels.valid & (truth != IGNORE))
        rows, cols = pixels.valid.shape
        expected = np.moveaxis(table.apply(pixels.values), -1, 0)
        np.testing.assert_array_equal(sample.image[0, :, :rows, :cols].numpy(), expected)


def test_images_with_other_bands_are_left_out(catalog_path: Path) -> None:
    catalog = Catalog.load(catalog_path).select(domains=["alder_aerial"])
    bands = [3 if number else 4 for number in range(len(catalog))]
    mixed = Catalog(catalog.frame.assign(bands=bands))
    assert len(list(labelled_samples(spec_of("gone"), mixed))) == len(catalog) - 1


def test_a_model_of_other_domains_takes_all_labelled_images(catalog_path: Path) -> None:
    catalog = Catalog.load(catalog_path)
    alder = catalog.select(domains=["alder_aerial"])
    count = len(alder.select(labelled=True).tiles)
    assert len(list(labelled_samples(spec_of("gone"), alder))) == count > 1
