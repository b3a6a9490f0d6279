"""Laws of training chips read at other distances or pasted into; oracle of a distance: GDAL."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.windows import Window
from torch.utils.data import DataLoader

from rhm.augmentation.augment_config import AugmentConfig
from rhm.augmentation.chip_augmentation import ChipAugmentation
from rhm.augmentation.geometry import ChipGeometry
from rhm.data.catalog import Catalog, Source, Tile
from rhm.data.chip_loader import SeededSampler
from rhm.data.chips import Chip, Preparation, TrainingChips
from rhm.data.labels import IGNORE
from rhm.data.radiometry import Scaling
from rhm.models.spec import ModelSpec
from tests.data.imagery import noise, write_raster

SIZE, SEED = 64, 3
Image = NDArray[Any]
SCALING = Scaling("uint8", (0.0,) * 3, (255.0,) * 3)
SHARES = ModelSpec("unet", "resnet18", 3, mean=(0.0,), std=(1.0,), scalings={"uint8": SCALING})
JITTER = {"scale": [0.6, 1.6]}


def tile_of(
    path: Path, pixels: Image, truth: Image, *, domain: str = "town", **options: Any
) -> Tile:
    image = write_raster(path.with_suffix(".tif"), pixels, **options)
    label = write_raster(path.with_suffix(".png"), truth * 255, crs=None)
    return Catalog.build([Source(image, label, domain, path.stem)]).tiles[0]


def squares(shape: tuple[int, int], *, seed: int, count: int = 9) -> Image:
    truth = np.zeros(shape, dtype=np.uint8)
    for row, col in np.random.default_rng(seed).integers(0, shape, (count, 2)):
        truth[row : row + 12, col : col + 18] = 1
    return truth


def training(
    tiles: Sequence[Tile],
    geometry: dict[str, Any],
    *,
    gsd_m: float | None = None,
    balance: float = 0.5,
    **colour: Any,
) -> TrainingChips:
    config = AugmentConfig(geometry={"flips": False} | geometry, p=1.0, **colour)
    augmentation = ChipAugmentation(
        config, dtype=np.dtype(np.uint8), low=SCALING.low, high=SCALING.high
    )
    return TrainingChips(
        tiles,
        size=SIZE,
        preparation=Preparation(SHARES.input_table, gsd_m),
        augmentations={"uint8": augmentation},
        balance=balance,
        seed=SEED,
        geometry=ChipGeometry(config.geometry),
    )


def stored(chip: Chip) -> tuple[Image, Image]:
    """A chip's values (H, W, bands) as they were before normalisation, and its mask (H, W)."""
    image = chip["image"].permute(1, 2, 0).numpy()
    return np.rint(255.0 * image).astype(int), chip["mask"][0].numpy()


def samples(chips: TrainingChips, *, workers: int = 0) -> list[Chip]:
    return list(DataLoader(chips, batch_size=4, sampler=SeededSampler(12), num_workers=workers))


def assert_same(first: Sequence[Chip], second: Sequence[Chip]) -> None:
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["mask"], other["mask"])


@pytest.mark.parametrize("geometry", [{}, JITTER])
def test_chips_show_the_ground_without_distortion(tmp_path: Path, geometry: dict[str, Any]) -> None:
    # Round buildings, in pixels of 0.5 m from north to south and 0.25 m from west to east.
    rows, cols = np.mgrid[:120, :240]
    truth = ((rows % 40 - 20) ** 2 + (cols % 80 - 40) ** 2 / 4 < 12**2).astype(np.uint8)
    degrees = Affine(0.25 / 55_800, 0, 20.0, 0, -0.5 / 111_412, 60.0)
    pixels = np.repeat(truth[..., None] * np.uint8(200), 3, axis=-1)
    tile = tile_of(tmp_path / "a", pixels, truth, crs="EPSG:4326", transform=degrees)
    chips = training([tile], geometry, gsd_m=0.5)
    shapes = []
    for index in range(20):
        chip = chips[index]
        shown = chip["image"][0].numpy() > 0.4
        known = chip["mask"][0].numpy()
        assert (shown == (known == 1))[known != IGNORE].mean() > 0.97
        _, _, boxes, _ = cv2.connectedComponentsWithStats((known == 1).astype(np.uint8))
        shapes += [
            (width, height)
            for left, top, width, height, _ in boxes[1:].tolist()
            if left > 0 and top > 0 and left + width < SIZE and top + height < SIZE
        ]
    assert len(shapes) > 10
    for width, height in shapes:
        assert abs(width - height) <= 2


@pytest.mark.parametrize("gsd_m", [None, 0.8])
def test_a_chip_is_what_gdal_reads_of_its_window_at_its_distance(
    tmp_path: Path, gsd_m: float | None
) -> None:
    truth = squares((260, 240), seed=1)
    tile = tile_of(tmp_path / "a", noise(260, 240), truth)
    assert tile.gsd_m is not None
    assert tile.gsd_m == pytest.approx(0.5, rel=1e-3)
    chips = training([tile], JITTER, gsd_m=gsd_m, balance=0.0)
    sides = []
    for index in range(24):
        rng = np.random.default_rng([SEED, index])
        factor = np.exp(rng.uniform(np.log(0.6), np.log(1.6)))
        rng.random(2)  # whether it must show a building, and which tile
        side = round(SIZE * factor * (1.0 if gsd_m is None else gsd_m / tile.gsd_m))
        row, col = (int(rng.integers(0, length - side + 1)) for length in (260, 240))
        with rasterio.open(tile.image) as image:
            expected = image.read(
                window=Window(col, row, side, side),
                out_shape=(3, SIZE, SIZE),
                resampling=Resampling.average if side > SIZE else Resampling.bilinear,
            )
        seen, mask = stored(chips[index])
        off = np.abs(seen - np.moveaxis(expected, 0, -1))
        # GDAL looks beyond the window's edge where it interpolates.
        inner = off if side > SIZE else off[1:-1, 1:-1]
        assert inner.max() <= 1
        built = truth[row : row + side, col : col + side].mean()
        assert abs(mask.mean() - built) < 0.02
        sides.append(side / SIZE / ((gsd_m or 0.5) / 0.5))
    assert min(sides) < 0.75
    assert max(sides) > 1.35


def test_image_and_truth_stay_aligned(tmp_path: Path) -> None:
    truth = squares((200, 220), seed=2)
    pixels = np.where(truth == 1, 255, 25)[..., None].repeat(3, axis=-1).astype(np.uint8)
    chips = training([tile_of(tmp_path / "a", pixels, truth)], JITTER, balance=1.0)
    disagreeing = 0.0
    for index in range(30):
        seen, mask = stored(chips[index])
        assert set(np.unique(mask)) <= {0, 1}
        disagreeing += float(((seen[..., 0] > 140) != (mask == 1)).mean()) / 30
    # Only outlines may differ, by less than a pixel.
    assert disagreeing < 0.01


def test_a_tile_smaller_than_its_chip_is_mirrored_and_unknown_beyond(tmp_path: Path) -> None:
    pixels = noise(40, 50)
    chips = training([tile_of(tmp_path / "a", pixels, squares((40, 50), seed=1))], JITTER)
    for index in range(20):
        rng = np.random.default_rng([SEED, index])
        side = round(SIZE * np.exp(rng.uniform(np.log(0.6), np.log(1.6))))
        seen, mask = stored(chips[index])
        # As much is known as there is of the tile, up to the pixels at its edges.
        height, width = (min(length, side) * SIZE / side for length in (40, 50))
        known = mask != IGNORE
        assert known.any(axis=1).sum() == pytest.approx(height, abs=1)
        assert known.any(axis=0).sum() == pytest.approx(width, abs=1)
        assert seen[~known].min(initial=255) > 0


def test_nodata_stays_nodata(tmp_path: Path) -> None:
    pixels = noise(150, 150) // 4 + 100
    pixels[30:80, 40:90] = 0
    tile = tile_of(tmp_path / "a", pixels, squares((150, 150), seed=1), nodata=0)
    lost = 0
    for chip in map(training([tile], JITTER | {"paste": 1.0}).__getitem__, range(30)):
        seen, mask = stored(chip)
        np.testing.assert_array_equal(seen[mask == IGNORE], 0)
        # Nothing of it is mixed into what lies beside it.
        assert seen[mask != IGNORE].min() >= 100
        lost += int((mask == IGNORE).sum())
    assert lost > 1000


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("geometry", [JITTER, {"paste": 0.5}, JITTER | {"paste": 1.0}], ids=str)
def test_samples_do_not_depend_on_workers_or_order(
    tmp_path: Path, geometry: dict[str, Any]
) -> None:
    tiles = [
        tile_of(tmp_path / f"t{k}", noise(*shape, seed=k), squares(shape, seed=k))
        for k, shape in enumerate([(150, 120), (50, 90)])
    ]
    alone = samples(training(tiles, geometry))
    assert_same(alone, samples(training(tiles, geometry), workers=2))
    chips = training(tiles, geometry)
    _ = chips[7], chips[2]
    assert_same(alone, samples(pickle.loads(pickle.dumps(chips))))  # noqa: S301
    plain = samples(training(tiles, {}))
    assert any(
        not torch.equal(one["image"], other["image"])
        for one, other in zip(alone, plain, strict=True)
    )


def test_samples_do_not_depend_on_how_much_memory_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile = tile_of(tmp_path / "a", noise(150, 120), squares((150, 120), seed=1))
    ample = samples(training([tile], JITTER))
    monkeypatch.setattr("rhm.data.tile_readers.CACHE_MB", 0)
    assert_same(ample, samples(training([tile], JITTER)))


def shaded(folder: Path) -> list[Tile]:
    """Two domains of two tiles; the tens of a value tell its domain and tile."""
    tiles = []
    for number in range(4):
        pixels = np.full((120, 140, 3), 50 * (number + 1), np.uint8)
        truth = squares((120, 140), seed=number)
        pixels += truth[..., None] * np.uint8(9)
        domain = "ab"[number // 2]
        tiles.append(tile_of(folder / f"s{number}", pixels, truth, domain=domain))
    return tiles


def test_buildings_come_from_the_same_domain_and_from_all_of_its_tiles(tmp_path: Path) -> None:
    chips = training(shaded(tmp_path), {"paste": 1.0})
    met = set()
    for index in range(60):
        seen, mask = stored(chips[index])
        ground = {value // 50 for value in np.unique(seen[mask == 0])}
        built = {value // 50 for value in np.unique(seen[mask == 1])}
        assert len(ground) == 1
        (own,) = ground
        other = {1: 2, 2: 1, 3: 4, 4: 3}[own]
        assert built <= {own, other}
        np.testing.assert_array_equal(seen[mask == 1] % 50, 9)
        met.add((own, other in built))
    assert {(own, True) for own in (1, 2, 3, 4)} <= met


def test_one_table_recolours_the_chip_and_what_is_pasted_alike(tmp_path: Path) -> None:
    tiles = shaded(tmp_path)
    geometry = {"paste": 1.0}
    plain = training(tiles, geometry)
    jittered = training(tiles, geometry, colour="jitter", gamma=(0.4, 2.5))
    several = 0
    for index in range(20):
        before, mask = stored(plain[index])
        after, same_mask = stored(jittered[index])
        np.testing.assert_array_equal(mask, same_mask)
        becomes = [set(after[before == value].tolist()) for value in np.unique(before)]
        assert all(len(values) == 1 for values in becomes)
        several += len(becomes) > 2
    assert several > 5


def test_a_domain_without_buildings_is_left_as_it_is(tmp_path: Path) -> None:
    bare = tile_of(tmp_path / "bare", noise(120, 140), np.zeros((120, 140), np.uint8))
    other = tile_of(
        tmp_path / "other", noise(90, 90), squares((90, 90), seed=1), domain="elsewhere"
    )
    tiles, rare = [bare, other], {"balance": 0.0}
    pasted, plain = (training(tiles, each, **rare) for each in ({"paste": 1.0}, {"paste": 0.0}))
    bare_chips = 0
    for index in range(20):
        (seen, mask), (before, _) = stored(pasted[index]), stored(plain[index])
        if not (mask == 1).any():
            np.testing.assert_array_equal(seen, before)
            bare_chips += 1
    assert bare_chips > 5
