"""What a run trains on: which images, whose histograms, and what is refused."""

import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import pytest
import torch

from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.spectra.spectrum import Spectrum
from rhm.data import Catalog
from rhm.data.catalog import Source, Tile
from rhm.data.chips import Chip
from rhm.data.radiometry import Scaling, bank_of, histogram_of
from rhm.errors import BankError, CatalogError, ConfigError
from rhm.training.config import RunConfig
from rhm.training.datamodule import ChipDataModule
from rhm.training.fitting import build_model, fit
from rhm.training.imagery import gather
from tests.data.imagery import write_raster

Make = Callable[..., RunConfig]


def assert_same_histogram(one: Histogram, other: Histogram) -> None:
    assert (one.dtype, one.first) == (other.dtype, other.first)
    np.testing.assert_array_equal(one.counts, other.counts)


def counted(tile: Tile) -> Histogram:
    with tile.open() as raster:
        return histogram_of(raster)


def extended(catalog_path: Path, path: Path, *sources: Source) -> Path:
    """Save a catalog with further images."""
    frames = [Catalog.load(catalog_path).frame, Catalog.build(sources).frame]
    joined = pandas.concat(frames, ignore_index=True)
    Catalog(geopandas.GeoDataFrame(joined, crs=frames[0].crs)).save(path)
    return path


def image(
    folder: Path, name: str, pixels: Any, *, split: str = "train", domain: str = "alder_aerial"
) -> Source:
    """A labelled image at the world's half metre; zeros are nodata."""
    written = write_raster(folder / f"{name}.tif", pixels, nodata=0)
    label = write_raster(folder / f"{name}.png", np.zeros(pixels.shape[:2], np.uint8), crs=None)
    return Source(written, label, domain, name, split)


def blank(folder: Path, name: str, *, dtype: str = "uint8", split: str = "train") -> Source:
    return image(folder, name, np.zeros((96, 96, 3), dtype), split=split)


def test_a_bank_of_the_sources_is_one_of_the_training_images(tiny: Make) -> None:
    sources = ["alder_aerial", "birch_aerial"]
    material = gather(tiny(data={"sources": sources}, augment={"colour": "rhm", "bank": "sources"}))
    expected = bank_of(material.train)
    assert material.bank is not None
    assert material.bank.names == expected.names
    for one, other in zip(material.bank.histograms, expected.histograms, strict=True):
        assert_same_histogram(one, other)
    assert set(material.bank.domains) == set(sources)


def test_scenes_are_counted_where_they_are_wanted(tiny: Make) -> None:
    rhm = {"colour": "rhm", "bank": "sources"}
    assert gather(tiny()).scenes == {}
    assert gather(tiny(augment=rhm)).scenes == {}
    for sections in (
        {"augment": rhm | {"statistics": "scene"}},
        {"model": {"standardize": "equalize"}},
    ):
        material = gather(tiny(**sections))
        tiles = [*material.train, *material.val]
        assert set(material.scenes) == {str(tile.image) for tile in tiles}
        for tile in tiles:
            assert_same_histogram(material.scenes[str(tile.image)], counted(tile))


def test_a_training_image_without_data_is_left_out(
    tiny: Make, catalog_path: Path, tmp_path: Path
) -> None:
    # Of a type of its own, and of one that others have; and one to validate on.
    sources = [blank(tmp_path, "deep", dtype="uint16"), blank(tmp_path, "empty")]
    sources.append(blank(tmp_path, "unseen", split="val"))
    path = extended(catalog_path, tmp_path / "more.parquet", *sources)
    without, config = gather(tiny()), tiny(data={"catalog": str(path)})
    material = gather(config)
    assert [tile.name for tile in material.train] == [tile.name for tile in without.train]
    assert len(material.val) == len(without.val) + 1
    assert material.scalings == without.scalings
    for sections in (
        {"model": {"standardize": "equalize"}},
        {"augment": {"colour": "rhm", "bank": "sources", "statistics": "scene", "p": 1.0}},
    ):
        config = tiny(
            "_".join(sections), data={"catalog": str(path)}, trainer={"steps": 2}, **sections
        )
        assert fit(config).model.is_file()


def test_images_without_any_data_cannot_be_trained_on(
    tiny: Make, catalog_path: Path, tmp_path: Path
) -> None:
    source = replace(blank(tmp_path, "empty"), domain="void")
    path = extended(catalog_path, tmp_path / "more.parquet", source)
    with pytest.raises(CatalogError, match="no training image has valid pixels"):
        gather(tiny(data={"catalog": str(path), "sources": ["void"]}))


def test_only_fourier_adaptation_borrows_from_the_targets(tiny: Make) -> None:
    targets = ["birch_aerial", "birch_satellite"]
    assert gather(tiny(augment={"targets": targets})).references == ()
    augment = {"colour": "fda", "targets": targets}
    assert {tile.split for tile in gather(tiny(augment=augment)).references} == {"train"}
    material = gather(tiny(augment=augment, target={"split": "all"}))
    assert {tile.domain for tile in material.references} == set(targets)
    assert len(material.references) == 12
    assert material.range_of("uint8") == Scaling("uint8", (0.0,) * 3, (255.0,) * 3)
    deep = [tile for tile in material.references if tile.dtype == "uint16"]
    pooled = [counted(tile) for tile in deep]
    total = pooled[0]
    for each in pooled[1:]:
        total = total.merge(each)
    assert material.range_of("uint16") == Scaling.measure(total)
    with pytest.raises(
        ConfigError, match=r"no domain atlantis: choose from alder_aerial, .*birch_"
    ):
        gather(tiny(augment={"colour": "fda", "targets": ["birch_aerial", "atlantis"]}))


def test_targets_and_banks_of_other_bands_are_refused(
    tiny: Make, catalog_path: Path, tmp_path: Path
) -> None:
    pixels = np.full((96, 96, 8), 7, np.uint8)
    source = image(tmp_path, "eight", pixels, domain="eight")
    path = extended(catalog_path, tmp_path / "more.parquet", source)
    bank = tmp_path / "eight.bank"
    HistogramBank.from_images([pixels]).save(bank)
    for augment, told in (
        ({"colour": "fda", "targets": ["eight"]}, r"targets have images with \[8\] bands, .* 3"),
        ({"colour": "rhm", "bank": str(bank)}, "bank has 8 bands, the training images 3"),
        ({"colour": "mean-std", "bank": str(bank)}, "bank has 8 bands, the training images 3"),
    ):
        with pytest.raises(ConfigError, match=told) as caught:
            gather(tiny(data={"catalog": str(path)}, augment=augment))
        assert "\n" not in str(caught.value)
    with pytest.raises(CatalogError, match=r"\[3, 8\] bands"):
        gather(tiny(data={"catalog": str(path), "sources": ["alder_aerial", "eight"]}))
    with pytest.raises(BankError, match="no histogram bank at"):
        gather(tiny(augment={"colour": "mean-std", "bank": str(tmp_path / "none.bank")}))


@pytest.mark.parametrize(("dtype", "bands"), [("uint16", 3), ("uint8", 5)])
def test_validation_images_of_another_kind_are_refused(
    tiny: Make, catalog_path: Path, tmp_path: Path, dtype: str, bands: int
) -> None:
    source = image(tmp_path, "other", np.full((96, 96, bands), 7, dtype), split="val")
    path = extended(catalog_path, tmp_path / "more.parquet", source)
    told = rf"other\.tif has {bands} bands of {dtype}, the training images 3 of uint8"
    with pytest.raises(CatalogError, match=told):
        gather(tiny(data={"catalog": str(path)}))


def chips(config: RunConfig) -> list[Chip]:
    """The chips of a run's first steps."""
    material = gather(config)
    model = build_model(config, material)
    return list(ChipDataModule(config, material, model.spec).train_dataloader())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    "sections",
    [
        {"augment": {"colour": "rhm", "bank": "sources", "statistics": "scene", "p": 1.0}},
        {"augment": {"colour": "fda", "targets": ["birch_satellite"], "p": 1.0}},
        {"model": {"standardize": "gray-world"}},
    ],
    ids=["scene", "fda", "gray-world"],
)
def test_workers_do_not_change_the_chips(tiny: Make, sections: dict[str, Any]) -> None:
    alone = chips(tiny(**sections))
    shared = chips(tiny(**sections, data={"workers": 2}))
    plain = chips(tiny())
    for one, other, untouched in zip(alone, shared, plain, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["mask"], other["mask"])
        assert not torch.equal(one["image"], untouched["image"])


def test_sampling_weighs_the_bank_that_chips_are_matched_to(
    tiny: Make, catalog_path: Path, tmp_path: Path
) -> None:
    """Bands of one value tell which target was drawn: near and far, of few images and many."""
    near, far = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8, 3), 255, np.uint8)
    bank = tmp_path / "flat.bank"
    names = ["many/1", "many/2", "many/3", "few/1"]
    HistogramBank.from_images([near, near, near, far], names=names).save(bank)
    source = gather(tiny()).histograms["alder_aerial", "uint8"]
    distances = [float(Histogram.of(each).distance(source).mean()) for each in (near, far)]
    assert distances[1] > 2 * distances[0]
    weighted = tmp_path / "weighted.bank"
    HistogramBank.load(bank).weighted("domain").save(weighted)
    far_share = distances[1] / (3 * distances[0] + distances[1])
    for path, sampling, share in (
        (bank, "uniform", 0.25),
        (bank, "domain", 0.5),
        (bank, "distance", far_share),
        (weighted, "uniform", 0.5),
    ):
        config = tiny(
            augment={"colour": "rhm", "bank": str(path), "sampling": sampling, "p": 1.0},
            trainer={"steps": 30, "validate_every": 30, "batch_size": 8},
        )
        drawn = [float(image.max()) for chip in chips(config) for image in chip["image"]]
        assert len(set(drawn)) == 2
        found = float(np.mean([value == max(drawn) for value in drawn]))
        # Of 240 draws: four standard deviations.
        assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / 240)


@pytest.mark.parametrize("standardize", ["equalize", "gray-world"])
def test_chips_are_standardised_by_all_of_their_image(tiny: Make, standardize: str) -> None:
    config = tiny(model={"standardize": standardize}, data={"sources": ["birch_satellite"]})
    material = gather(config)
    spec = build_model(config, material).spec
    (tile,) = material.val
    with tile.open() as raster:
        table = spec.input_table(spec.scalings["uint16"], histogram_of(raster))
        expected = torch.from_numpy(table.apply(raster.read()[0])).permute(2, 0, 1)
    loader = ChipDataModule(config, material, spec).val_dataloader()
    seen = torch.cat([batch["image"] for batch in loader])
    for chip, (row, col) in zip(seen, ((0, 0), (0, 64), (64, 0), (64, 64)), strict=True):
        inside = expected[:, row : row + 64, col : col + 64]
        assert torch.equal(chip[:, : inside.shape[1], : inside.shape[2]], inside)


def tile_files(tile: Tile) -> tuple[Path, Path]:
    assert tile.label is not None
    return tile.image, tile.label


def test_the_digest_follows_what_is_seen_and_not_where_it_lies(
    tiny: Make, bank_path: Path, tmp_path: Path
) -> None:
    material = gather(tiny())
    moved = []
    for tile in material.train:
        image, label = (
            tmp_path / "moved" / each.parent.name / each.name for each in tile_files(tile)
        )
        for old, new in zip(tile_files(tile), (image, label), strict=True):
            new.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(old, new)
        moved.append(replace(tile, image=image, label=label))
    assert replace(material, train=moved).digest() == material.digest()
    label = tile_files(moved[0])[1]
    label.write_bytes(label.read_bytes() + b"more")
    assert replace(material, train=moved).digest() != material.digest()
    first, *rest = material.train
    pixels = {key: each.merge(each) for key, each in material.histograms.items()}
    matched = gather(tiny(augment={"colour": "rhm", "bank": str(bank_path)}))
    bank = matched.bank
    assert bank is not None
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3)).astype(np.uint8)
    spectrum = Spectrum.of_image(noise)
    assert spectrum is not None
    assert spectrum.others
    spectra = [
        spectrum,
        replace(spectrum, others={side: 2 * each for side, each in spectrum.others.items()}),
        replace(spectrum, gsd_m=9.0),
        replace(spectrum, others={}),
    ]
    others = [
        *(
            replace(matched, bank=HistogramBank(bank.entries, spectra=[each] * len(bank)))
            for each in spectra
        ),
        replace(material, train=rest),
        replace(material, train=rest, val=[first]),
        replace(material, train=[replace(first, building_fraction=0.5), *rest]),
        replace(material, histograms=pixels),
        matched,
    ]
    assert len({material.digest(), *(other.digest() for other in others)}) == 10


def test_a_run_is_not_continued_on_other_imagery(
    tiny: Make, catalog_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "catalog.parquet"
    catalog = Catalog.load(catalog_path)
    catalog.save(path)
    config = tiny("swapped", data={"catalog": str(path)})
    fit(config).model.unlink()
    fit(config, resume=True).model.unlink()
    frame = catalog.frame
    frame["split"] = frame["split"].replace({"train": "val", "val": "train"})
    Catalog(frame).save(path)
    with pytest.raises(ConfigError, match="imagery is no longer that"):
        fit(config, resume=True)


@pytest.mark.parametrize("bank", ["none", "sources"])
def test_images_are_pooled_at_once(
    tiny: Make, catalog_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bank: str
) -> None:
    """Law: of a large catalog, memory holds the histograms of a few images at a time."""
    counts: list[weakref.ref[Histogram]] = []
    most = 0

    def tracked(*args: Any, **words: Any) -> Histogram:
        nonlocal most
        found = histogram_of(*args, **words)
        counts.append(weakref.ref(found))
        most = max(most, sum(each() is not None for each in counts))
        return found

    rng = np.random.default_rng(0)
    sources = [
        image(tmp_path, f"{name}", rng.integers(1, 255, (64, 64, 3)).astype(np.uint8))
        for name in range(24)
    ]
    path = extended(catalog_path, tmp_path / "more.parquet", *sources)
    monkeypatch.setattr("rhm.training.imagery.histogram_of", tracked)
    monkeypatch.setattr("rhm.training.imagery.usable_cores", lambda: 1)
    augment = {} if bank == "none" else {"colour": "rhm", "bank": bank}
    material = gather(tiny(data={"catalog": str(path)}, augment=augment))
    assert len(counts) == len(material.train) >= 24
    assert most <= 6
    assert sum(each.pixels for each in material.histograms.values()) == sum(
        counted(tile).pixels for tile in material.train
    )
