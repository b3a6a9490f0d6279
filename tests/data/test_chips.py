import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.transform import Affine
from torch.utils.data import DataLoader

from rhm.augmentation.augment_config import AugmentConfig
from rhm.augmentation.chip_augmentation import ChipAugmentation
from rhm.colour.histogram import Histogram
from rhm.colour.lookup import PixelMap
from rhm.data import tile_readers
from rhm.data.catalog import Catalog, Source, Tile
from rhm.data.chip_loader import SeededSampler
from rhm.data.chips import (
    Chip,
    DataConfig,
    GridChips,
    Preparation,
    References,
    TrainingChips,
)
from rhm.data.labels import IGNORE
from rhm.data.radiometry import Scaling
from rhm.errors import CatalogError
from tests.data.imagery import HALF_METRE, write_raster

RANGES = {
    "uint8": Scaling("uint8", (0.0,) * 3, (255.0,) * 3),
    "uint16": Scaling("uint16", (0.0,) * 3, (2000.0,) * 3),
}


def _input_table(dtype: str, scene: Histogram | None) -> PixelMap:
    return RANGES[dtype].table()


PREPARATION = Preparation(_input_table)


def _squares(height: int, width: int, *, seed: int, dtype: str = "uint8") -> Any:
    """An image that is its own truth, white on buildings; and that truth."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((height, width), dtype=np.uint8)
    for row, col in rng.integers(0, [height, width], (6, 2)):
        truth[row : row + 12, col : col + 18] = 1
    shade = np.where(truth == 1, RANGES[dtype].high[0], 0.1 * RANGES[dtype].high[0])
    return shade[..., None].repeat(3, axis=-1).astype(dtype), truth


def _tile(
    folder: Path, name: str, pixels: NDArray[Any], truth: NDArray[Any], **options: Any
) -> Tile:
    image = write_raster(folder / f"{name}.tif", pixels, **options)
    label = write_raster(folder / f"{name}.png", truth * 255, crs=None)
    return Catalog.build([Source(image, label, "town", name)]).tiles[0]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> list[Tile]:
    """8- and 16-bit images of several sizes, one of them smaller than a chip."""
    folder = tmp_path_factory.mktemp("tiles")
    shapes = [(100, 130, "uint8"), (90, 64, "uint16"), (40, 50, "uint8")]
    return [
        _tile(folder, f"t{seed}", *_squares(height, width, seed=seed, dtype=dtype))
        for seed, (height, width, dtype) in enumerate(shapes)
    ]


def _training(
    tiles: Sequence[Tile],
    *,
    seed: int = 0,
    balance: float = 0.5,
    colour: str = "none",
    gsd_m: float | None = None,
) -> TrainingChips:
    config = AugmentConfig(colour=colour, p=1.0)
    return TrainingChips(
        tiles,
        size=64,
        preparation=Preparation(_input_table, gsd_m),
        augmentations={
            dtype: ChipAugmentation(
                config, dtype=np.dtype(dtype), low=RANGES[dtype].low, high=RANGES[dtype].high
            )
            for dtype in {tile.dtype for tile in tiles}
        },
        balance=balance,
        seed=seed,
    )


def _batches(
    chips: TrainingChips, *, samples: int = 12, batch: int = 4, workers: int = 0, **process: int
) -> list[Chip]:
    sampler = SeededSampler(samples, **process)
    return list(DataLoader(chips, batch_size=batch, sampler=sampler, num_workers=workers))


def _assert_same(first: Sequence[Chip], second: Sequence[Chip]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["mask"], other["mask"])


def test_a_chip_is_an_image_and_what_is_on_it(tiles: list[Tile]) -> None:
    chips = _training(tiles)
    for index in range(40):
        chip = chips[index]
        image, mask = chip["image"], chip["mask"]
        assert (image.shape, image.dtype) == ((3, 64, 64), torch.float32)
        assert (mask.shape, mask.dtype) == ((1, 64, 64), torch.int64)
        # The imagery shows its truth, so the two must have moved together.
        known = mask != IGNORE
        assert torch.equal(image[:1][known] > 0.5, mask[known] == 1)
        assert known.any()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_samples_do_not_depend_on_the_number_of_workers(tiles: list[Tile]) -> None:
    eight_bit = [tile for tile in tiles if tile.dtype == "uint8"]
    alone = _batches(_training(eight_bit, colour="color-jitter"))
    _assert_same(alone, _batches(_training(eight_bit, colour="color-jitter"), workers=2))
    # Nor on what was loaded before.
    chips = _training(eight_bit, colour="color-jitter")
    _ = chips[5], chips[1]
    _assert_same(alone, _batches(chips))
    # A worker that starts with its parent's open files opens its own.
    _assert_same(alone, _batches(chips, workers=2))


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_batches_of_processes_make_the_batch_of_one(tiles: list[Tile], world_size: int) -> None:
    whole = _batches(_training(tiles))
    parts = [
        _batches(_training(tiles), batch=4 // world_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for step, batch in enumerate(whole):
        union = torch.cat([part[step]["image"] for part in parts])
        expected = sorted(image.numpy().tobytes() for image in batch["image"])
        assert sorted(image.numpy().tobytes() for image in union) == expected


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.integers(0, 5))
def test_the_sampler_deals_out_every_index_once(
    steps: int, batch: int, world_size: int, epoch: int
) -> None:
    samples = steps * batch * world_size
    samplers = [SeededSampler(samples, rank=r, world_size=world_size) for r in range(world_size)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
        assert len(list(sampler)) == len(sampler) == steps * batch
    first = epoch * samples
    for step in range(steps):
        part = slice(step * batch, (step + 1) * batch)
        union = [index for sampler in samplers for index in list(sampler)[part]]
        begin = first + step * batch * world_size
        assert sorted(union) == list(range(begin, begin + batch * world_size))


def test_samples_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(ValueError, match="10 samples cannot be shared evenly by 4 processes"):
        SeededSampler(10, world_size=4)


def test_another_seed_or_epoch_gives_other_samples(tiles: list[Tile]) -> None:
    first = _training(tiles, seed=0)
    other = _training(tiles, seed=1)
    assert any(not torch.equal(first[i]["image"], other[i]["image"]) for i in range(4))
    assert any(not torch.equal(first[i]["image"], first[i + 4]["image"]) for i in range(4))


def test_nodata_and_what_lies_beyond_is_ignored(tmp_path: Path) -> None:
    pixels, truth = _squares(40, 50, seed=3)
    pixels[:, 30:] = 0
    chips = _training([_tile(tmp_path, "small", pixels, truth, nodata=0)])
    for index in range(8):
        mask = chips[index]["mask"]
        assert int((mask != IGNORE).sum()) == 40 * 30
        assert int((mask == 1).sum()) == truth[:, :30].sum()


def test_beyond_the_image_a_chip_is_its_mirror(tmp_path: Path) -> None:
    pixels, truth = _squares(40, 50, seed=3)
    tile = _tile(tmp_path, "small", pixels, truth)
    grid = GridChips([tile], size=64, preparation=PREPARATION)
    (chip,) = [grid[index] for index in range(len(grid))]
    full = np.pad(pixels, ((0, 24), (0, 14), (0, 0)), mode="reflect")
    expected = _input_table("uint8", None).apply(full)
    np.testing.assert_array_equal(chip["image"].permute(1, 2, 0).numpy(), expected)
    assert int((chip["mask"] != IGNORE).sum()) == 40 * 50
    _, read, _ = _training([tile]).read(rng=np.random.default_rng(0))
    around = np.pad(pixels, ((12, 12), (7, 7), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(read.values, around)
    np.testing.assert_array_equal(read.valid, np.pad(np.ones((40, 50), bool), ((12, 12), (7, 7))))


def test_a_balanced_chip_shows_a_building(tmp_path: Path) -> None:
    truth = np.zeros((256, 256), dtype=np.uint8)
    truth[100:130, 100:130] = 1
    pixels = np.full((256, 256, 3), 90, dtype=np.uint8)
    rare = _tile(tmp_path, "rare", pixels, truth)
    bare = [_tile(tmp_path, f"bare{i}", pixels, np.zeros_like(truth)) for i in range(9)]

    def share(tiles: list[Tile], balance: float) -> float:
        chips = _training(tiles, balance=balance)
        return float(np.mean([bool((chips[index]["mask"] == 1).any()) for index in range(60)]))

    # A window sees the building with probability 0.23, and ten are tried: 1 - 0.77 ** 10 = 0.93.
    assert share([rare, *bare], 1.0) > 0.8
    assert share([rare, *bare], 0.0) < 0.15
    assert share(bare, 1.0) == 0.0


def test_images_are_drawn_by_their_area(tmp_path: Path) -> None:
    shades = {"large": 50, "small": 200}
    tiles = [
        _tile(
            tmp_path, name, np.full((side, side, 3), shades[name], np.uint8),
            np.zeros((side, side), np.uint8),
        )
        for name, side in (("large", 192), ("small", 64))
    ]  # fmt: skip
    chips = _training(tiles)
    large = sum(float(chips[index]["image"][0, 0, 0]) < 0.5 for index in range(300))
    # A binomial of mean 270 and standard deviation 5.2.
    assert abs(large - 270) < 21


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.5])
def test_image_and_label_stay_aligned_at_another_distance(tmp_path: Path, factor: float) -> None:
    pixels, truth = _squares(130, 150, seed=5)
    tile = _tile(tmp_path, "a", pixels, truth)
    assert tile.gsd_m is not None
    wanted = tile.gsd_m / factor
    grid = GridChips([tile], size=64, preparation=Preparation(_input_table, wanted))
    known_pixels = disagreeing = 0
    for index in range(len(grid)):
        chip = grid[index]
        known = chip["mask"] != IGNORE
        white, built = chip["image"][:1][known] > 0.55, chip["mask"][known] == 1
        disagreeing += int((white != built).sum())
        known_pixels += int(known.sum())
    assert known_pixels == round(130 * factor) * round(150 * factor)
    # Only outlines may differ, by less than a pixel: an offset of one would be 5 %.
    assert disagreeing < 0.02 * known_pixels
    chip = _training([tile], gsd_m=wanted)[0]
    known = chip["mask"] != IGNORE
    agree = (chip["image"][:1][known] > 0.55) == (chip["mask"][known] == 1)
    assert float(agree.float().mean()) > 0.95


def test_the_grid_shows_every_pixel_once(tiles: list[Tile]) -> None:
    grid = GridChips(tiles, size=32, preparation=PREPARATION)
    assert len(grid) == 4 * 5 + 3 * 2 + 2 * 2
    chips = [grid[index] for index in range(len(grid))]
    seen = sum(int((chip["mask"] != IGNORE).sum()) for chip in chips)
    assert seen == sum(tile.width * tile.height for tile in tiles)
    top = torch.cat([chip["mask"] for chip in chips[:5]], dim=2)[0, :, :130]
    _, truth = _squares(100, 130, seed=0)
    np.testing.assert_array_equal(top.numpy(), truth[:32])
    for chip in chips:
        assert chip["image"].shape == (3, 32, 32)


def test_datasets_travel_to_other_processes(tiles: list[Tile]) -> None:
    training = _training(tiles)
    grid = GridChips(tiles, size=32, preparation=PREPARATION)
    expected = [training[3], grid[7]]
    copies = [pickle.loads(pickle.dumps(each)) for each in (training, grid)]  # noqa: S301
    _assert_same([copies[0][3], copies[1][7]], expected)


def test_an_image_without_label_is_refused(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", np.ones((8, 8, 3), np.uint8))
    (tile,) = Catalog.build([Source(image, None, "town", "a")]).tiles
    with pytest.raises(ValueError, match="has no label"):
        _ = GridChips([tile], size=32, preparation=PREPARATION)[0]


def test_a_rotated_image_and_its_mask_are_read_alike(tmp_path: Path) -> None:
    pixels, truth = _squares(50, 60, seed=1)
    turned = HALF_METRE @ Affine.rotation(20)
    grid = GridChips(
        [_tile(tmp_path, "a", pixels, truth, transform=turned)], size=64, preparation=PREPARATION
    )
    np.testing.assert_array_equal(grid[0]["mask"][0, :50, :60].numpy(), truth)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chip_px": 100}, "multiple of 32"),
        ({"chip_px": 0}, "multiple of 32"),
        ({"balance": 1.5}, "share in"),
        ({"gsd_m": 0.0}, "between 0.01 and 1000 metres"),
        ({"workers": -1}, "workers must be between 0 and 128"),
    ],
)
def test_an_impossible_configuration_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataConfig("catalog.parquet", **change)


def test_samples_are_the_same_whether_or_not_pixels_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, _ = _squares(40, 40, seed=0)
    image = write_raster(tmp_path / "a.tif", pixels)
    # The chip is larger than the image, and most of the building lies beside it.
    building = shapely.box(500_015, 4_999_985, 500_025, 4_999_995)
    labels = tmp_path / "a.gpkg"
    geopandas.GeoDataFrame(geometry=[building], crs="EPSG:32633").to_file(labels)
    (tile,) = Catalog.build([Source(image, labels, "town", "a")]).tiles
    _, window, kept = _training([tile], balance=1.0).draw(rng=np.random.default_rng(0))
    monkeypatch.setattr(tile_readers, "CACHE_MB", 0)
    _, again, read = _training([tile], balance=1.0).draw(rng=np.random.default_rng(0))
    assert window == again
    np.testing.assert_array_equal(kept, read)
    assert 0 < kept.sum() < 300


def _references(*images: Path, size: int, domains: Sequence[str] = ()) -> References:
    named = zip(images, domains or ["town"] * len(images), strict=True)
    sources = [Source(image, None, domain, image.stem) for image, domain in named]
    maps = {"uint8": RANGES["uint8"].bytes_table()}
    return References(Catalog.build(sources).tiles, size=size, gsd_m=None, to_bytes=maps)


def test_a_reference_is_mirrored_and_has_no_nodata(tmp_path: Path) -> None:
    pixels, _ = _squares(40, 50, seed=1)
    image = write_raster(tmp_path / "a.tif", pixels)
    found = _references(image, size=64).draw(np.random.default_rng(0))
    np.testing.assert_array_equal(found[12:52, 7:57], pixels)
    np.testing.assert_array_equal(found[:12], found[24:12:-1])
    pixels[:, :20] = 0
    found = _references(write_raster(image, pixels, nodata=0), size=64).draw(
        np.random.default_rng(0)
    )
    np.testing.assert_array_equal(found[12:52, 27:57], pixels[:, 20:])
    assert (found[12:52, 7:27] == np.rint(pixels[:, 20:].mean(axis=(0, 1)))).all()


def test_references_are_of_all_domains_equally_often(tmp_path: Path) -> None:
    images = [
        write_raster(tmp_path / f"{value}.tif", np.full((32, 32, 3), value, np.uint8))
        for value in range(1, 10)
    ]
    references = _references(*images, size=32, domains=["city"] * 8 + ["village"])
    rng = np.random.default_rng(0)
    drawn = [int(references.draw(rng).max()) for _ in range(120)]
    # Of 120 fair draws, with probability 0.9999; by number of images, it would be 13.
    assert 38 <= drawn.count(9) <= 82
    assert set(drawn) == set(range(1, 10))


def test_a_reference_is_a_window_with_pixels_of_an_image_as_listed(tmp_path: Path) -> None:
    empty = write_raster(tmp_path / "empty.tif", np.zeros((32, 32, 3), np.uint8), nodata=0)
    full = write_raster(tmp_path / "full.tif", np.full((32, 32, 3), 9, np.uint8))
    references = _references(empty, full, size=32)

    def draw_eight() -> list[NDArray[np.uint8]]:
        return [references.draw(np.random.default_rng(number)) for number in range(8)]

    assert all((found == 9).all() for found in draw_eight())
    write_raster(full, np.full((32, 32, 3), 9, np.uint16))
    with pytest.raises(
        CatalogError, match="has 3 bands of uint16, but the catalog lists 3 of uint8"
    ):
        draw_eight()
