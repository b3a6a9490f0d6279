"""Unlabelled chips; laws: labels are never read, and both views show the same pixels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from rhm.augmentation.augment_config import AugmentConfig
from rhm.augmentation.chip_augmentation import ChipAugmentation
from rhm.augmentation.geometry import ChipGeometry
from rhm.colour.histogram_bank import HistogramBank
from rhm.data.catalog import Catalog, Source, Tile
from rhm.data.chip_loader import SeededSampler
from rhm.data.chips import Preparation, TargetSample, TrainingChips
from rhm.data.radiometry import Scaling
from rhm.data.unlabelled_chips import PairedChips, UnlabelledChips, UnlabelledGrid
from rhm.models.spec import ModelSpec
from tests.data.imagery import write_raster

SIZE, SEED = 32, 4
SPEC = ModelSpec(
    "unet",
    "test_efficientnet",
    3,
    (0.4,),
    (0.2,),
    {"uint8": Scaling("uint8", (0,) * 3, (255,) * 3)},
)
PREPARATION = Preparation(SPEC.input_table)
Chips = Callable[..., UnlabelledChips]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> list[Tile]:
    """Two images that have labels, whose pixels are all different, and a strip without data."""
    folder = tmp_path_factory.mktemp("unlabelled")
    rng = np.random.default_rng(0)
    sources = []
    for name, shape in (("large", (90, 120)), ("small", (40, 50))):
        pixels = rng.integers(1, 256, (*shape, 3), dtype=np.uint8)
        pixels[:, :9] = 0
        image = write_raster(folder / f"{name}.tif", pixels, nodata=0)
        label = write_raster(folder / f"{name}.png", pixels[..., :1] // 200 * 255, crs=None)
        sources.append(Source(image, label, "town", name))
    return Catalog.build(sources).tiles


def chips_of(
    tiles: list[Tile], *, strong: bool = False, seed: int = SEED, **settings: Any
) -> UnlabelledChips:
    recolour = None
    if strong:
        rng = np.random.default_rng(1)
        dark = [rng.integers(0, 90, (30, 30, 3), dtype=np.uint8)]
        augmentation = ChipAugmentation(
            AugmentConfig(colour="rhm", bank="a bank", p=1.0),
            dtype=np.dtype(np.uint8),
            low=(0,) * 3,
            high=(255,) * 3,
            bank=HistogramBank.from_images(dark),
        )
        recolour = {"uint8": augmentation.recolour}
    config = AugmentConfig(geometry=settings)
    return UnlabelledChips(
        tiles,
        size=SIZE,
        preparation=PREPARATION,
        geometry=ChipGeometry(config.unmixed_geometry),
        seed=seed,
        recolour=recolour,
    )


def test_a_chip_is_a_window_of_an_image_and_knows_where_it_has_data(tiles: list[Tile]) -> None:
    table = PREPARATION.table(tiles[0])
    images = []
    for tile in tiles:
        with tile.open() as raster:
            images.append(table.apply(raster.read().values).transpose(2, 0, 1))
    chips = chips_of(tiles, flips=False)
    black = torch.from_numpy(table.apply(np.zeros((1, 1, 3), np.uint8)).ravel())
    for index in range(12):
        chip = chips[index]
        assert chip["image"].shape == (3, SIZE, SIZE)
        assert "strong" not in chip
        found = [np.argwhere(image[0] == chip["image"][0, -1, -1].item()) for image in images]
        ends = [(image, end) for image, each in zip(images, found, strict=True) for end in each]
        windows = [
            image[:, row - SIZE + 1 : row + 1, col - SIZE + 1 : col + 1]
            for image, (row, col) in ends
        ]
        assert any(np.array_equal(window, chip["image"].numpy()) for window in windows)
        empty = (chip["image"] == black[:, None, None]).all(dim=0)
        assert torch.equal(chip["valid"][0], ~empty)


def test_places_are_seen_equally_often_whatever_their_areas(tmp_path: Path) -> None:
    sources = []
    for domain, side in (("city", 320), ("village", 40)):
        pixels = np.full((side, side, 3), 200 if domain == "city" else 50, np.uint8)
        image = write_raster(tmp_path / f"{domain}.tif", pixels)
        sources.append(Source(image, None, domain, domain))
    chips = chips_of(Catalog.build(sources).tiles)
    middle = float(
        PREPARATION.table(chips._tiles[0]).apply(np.full((1, 1, 3), 128, np.uint8)).max()
    )
    cities = sum(float(chips[index]["image"].max()) > middle for index in range(120))
    # Of 120 fair draws, with probability 0.9999; by area, it would be 118.
    assert 38 <= cities <= 82


def test_no_label_is_opened(tiles: list[Tile], tmp_path: Path) -> None:
    lost = [replace(tile, label=tmp_path / "lost.png", building_fraction=0.0) for tile in tiles]
    for index in range(6):
        assert torch.equal(chips_of(lost)[index]["image"], chips_of(tiles)[index]["image"])


@pytest.mark.parametrize("geometry", [{}, {"scale": [0.6, 1.6]}, {"paste": 1.0}])
def test_both_views_are_the_same_pixels_in_other_colours(
    tiles: list[Tile], geometry: dict[str, Any]
) -> None:
    chips, plain = chips_of(tiles, strong=True, **geometry), chips_of(tiles, **geometry)
    for index in range(6):
        chip = chips[index]
        assert torch.equal(chip["image"], plain[index]["image"])
        valid = chip["valid"][0]
        for weak, strong in zip(chip["image"], chip["strong"], strict=True):
            assert torch.equal(weak[~valid], strong[~valid])
            # A matched band is a rising function of the band before.
            order = weak[valid].argsort()
            assert (strong[valid][order].diff() >= 0).all()
            assert strong[valid].mean() < weak[valid].mean()


def test_the_index_and_the_seed_decide_a_chip(tiles: list[Tile]) -> None:
    one, again, other = (chips_of(tiles, seed=seed, strong=True) for seed in (1, 1, 2))
    for index in (0, 7, 1 << 30):
        assert torch.equal(one[index]["strong"], again[index]["strong"])
        assert not torch.equal(one[index]["image"], other[index]["image"])


def test_pairs_are_the_samples_of_both_streams_for_any_number_of_workers(
    tiles: list[Tile],
) -> None:
    labelled = TrainingChips(
        tiles,
        size=SIZE,
        preparation=PREPARATION,
        augmentations={
            "uint8": ChipAugmentation(
                AugmentConfig(), dtype=np.dtype(np.uint8), low=(0,) * 3, high=(255,) * 3
            )
        },
        balance=0.5,
        seed=SEED,
    )
    unlabelled = chips_of(tiles)
    loader: DataLoader[TargetSample] = DataLoader(
        PairedChips(labelled, unlabelled), batch_size=2, sampler=SeededSampler(4), num_workers=1
    )
    batches = list(loader)
    for index in range(4):
        batch, place = batches[index // 2], index % 2
        assert torch.equal(batch["image"][place], labelled[index]["image"])
        assert torch.equal(batch["mask"][place], labelled[index]["mask"])
        assert torch.equal(batch["target"]["image"][place], unlabelled[index]["image"])
        assert torch.equal(batch["target"]["valid"][place], unlabelled[index]["valid"])
        # The two streams do not draw the same windows.
        assert not torch.equal(labelled[index]["image"], unlabelled[index]["image"])


def test_without_labelled_chips_there_are_only_targets(tiles: list[Tile]) -> None:
    sample = PairedChips(None, chips_of(tiles))[3]
    assert set(sample) == {"target"}
    assert torch.equal(sample["target"]["image"], chips_of(tiles)[3]["image"])


def test_a_grid_shows_every_pixel_once_and_no_label(tiles: list[Tile], tmp_path: Path) -> None:
    lost = [replace(tile, label=tmp_path / "lost.png") for tile in tiles]
    grid = UnlabelledGrid(lost, size=SIZE, preparation=PREPARATION)
    chips = [grid[index] for index in range(len(grid))]
    known = torch.cat([chip["image"][:, chip["valid"][0]] for chip in chips], dim=1)
    expected = []
    for tile in tiles:
        with tile.open() as raster:
            values, valid = raster.read()
            expected.append(PREPARATION.table(tile).apply(values)[valid])
    want = np.sort(np.concatenate(expected).ravel())
    np.testing.assert_array_equal(np.sort(known.numpy().ravel()), want)
    # Neighbours are not neighbours in the order, and a part is spread over all images.
    few = UnlabelledGrid(lost, size=SIZE, preparation=PREPARATION, most=5)
    assert len(few) == 5
    assert all(torch.equal(few[i]["image"], grid[i]["image"]) for i in range(5))
