"""What a training chip is made of, held against a plain script that draws and computes the same.

The script cuts arrays, draws in the order that the samples of all runs depend on, turns with
albumentations, and recolours by formula or with scikit-image: no windows, tables or caches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.exposure import match_histograms as skimage_match

from rhm.augmentation.augment_config import AugmentConfig
from rhm.augmentation.chip_augmentation import ChipAugmentation
from rhm.augmentation.colours import COLOUR
from rhm.augmentation.geometry import ChipGeometry
from rhm.colour.histogram_bank import HistogramBank
from rhm.data.catalog import Catalog, Source, Tile
from rhm.data.chips import Preparation, References, TrainingChips
from rhm.data.labels import IGNORE
from rhm.data.radiometry import Scaling
from rhm.models.spec import ModelSpec
from tests.data.imagery import write_raster

SIZE, SEED, BALANCE, P = 64, 5, 0.5, 0.8
WHITE = {"uint8": 255.0, "uint16": 2000.0}
MEAN, STD = 0.4, 0.2
SAMPLES = 16
Image = NDArray[Any]


@dataclass(frozen=True)
class Town:
    """A tile, its pixels (H, W, 3), zero where there is no data, and its buildings (H, W)."""

    tile: Tile
    pixels: Image
    truth: Image


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Town]]:
    """By dtype, tiles of several sizes, the last of them smaller than a chip."""
    folder = tmp_path_factory.mktemp("towns")
    shapes = [(150, 180), (90, 70), (40, 52)]
    return {
        dtype: [written(folder / f"{dtype}{k}.tif", shape, dtype) for k, shape in enumerate(shapes)]
        for dtype in WHITE
    }


def written(path: Path, shape: tuple[int, int], dtype: str) -> Town:
    rng = np.random.default_rng(shape)
    pixels = (rng.beta(2, 3, (*shape, 3)) * WHITE[dtype] + 1).astype(dtype)
    pixels[: shape[0] // 3] //= 2
    truth = np.zeros(shape, np.uint8)
    for row, col in rng.integers(0, shape, (7, 2)):
        truth[row : row + 11, col : col + 17] = 1
    pixels[:, -shape[1] // 5 :] = 0
    image = write_raster(path, pixels, nodata=0)
    label = write_raster(path.with_suffix(".png"), truth * 255, crs=None)
    return Town(Catalog.build([Source(image, label, "town", path.stem)]).tiles[0], pixels, truth)


def targets(dtype: str) -> list[Image]:
    """Images of the target domain, each darker than the one before."""
    rng = np.random.default_rng(9)
    shades = [1.2, 1.8, 3.0]
    return [(rng.beta(2, 2, (50, 40, 3)) * WHITE[dtype] / shade).astype(dtype) for shade in shades]


def config_of(colour: str, **settings: Any) -> AugmentConfig:
    needed: dict[str, Any] = {"p": P}
    names = colour.replace("|", "+").split(" + ")
    if any(COLOUR[name].from_bank for name in names):
        needed["bank"] = "a bank"
    if any(COLOUR[name].from_targets for name in names):
        needed["targets"] = ("there",)
    if colour == "jitter":
        needed |= {"gamma": (0.5, 2.0), "gain": (0.7, 1.3), "offset": (-0.1, 0.1)}
    return AugmentConfig(colour=colour, **(needed | settings))


def training(towns: Sequence[Town], config: AugmentConfig) -> TrainingChips:
    """Chips as a run with this configuration sees them."""
    (dtype,) = {town.tile.dtype for town in towns}
    scaling = Scaling(dtype, (0.0,) * 3, (WHITE[dtype],) * 3)
    spec = ModelSpec("unet", "resnet18", 3, (MEAN,), (STD,), {dtype: scaling})
    augmentation = ChipAugmentation(
        config,
        dtype=np.dtype(dtype),
        low=scaling.low,
        high=scaling.high,
        bank=HistogramBank.from_images(targets(dtype)) if config.bank else None,
    )
    references = References(
        [towns[0].tile], size=SIZE, gsd_m=None, to_bytes={dtype: scaling.bytes_table()}
    )
    return TrainingChips(
        [town.tile for town in towns],
        size=SIZE,
        preparation=Preparation(spec.input_table),
        augmentations={dtype: augmentation},
        balance=BALANCE,
        seed=SEED,
        references=references if config.targets else None,
        geometry=ChipGeometry(config.geometry),
    )


def plain_sample(towns: Sequence[Town], config: AugmentConfig, index: int) -> tuple[Image, Image]:
    """Return a sample's normalised image and its mask, in float64 up to the end."""
    rng = np.random.default_rng([SEED, index])
    image, mask, valid = plain_chip(towns, rng)
    reference = plain_reference(towns[0], rng) if config.targets else None
    turns = A.Compose(
        [A.HorizontalFlip(p=0.5), A.RandomRotate90(p=1.0)], additional_targets={"valid": "mask"}
    )
    turns.set_random_seed(int(rng.integers(1 << 31)))
    turned = turns(image=image, mask=mask, valid=valid)
    image, mask, valid = turned["image"], turned["mask"], turned["valid"] > 0
    alternatives = config.colour.split(" | ")
    chosen = alternatives[rng.integers(len(alternatives)) if len(alternatives) > 1 else 0]
    for name in chosen.split(" + "):
        step = config if name == config.colour else config_of(name)
        colours = plain_filter if name in FILTERS else plain_table
        image = np.where(valid[..., None], colours(image, valid, step, reference, rng), image)
    shares = np.clip(image.astype(np.float64) / WHITE[image.dtype.name], 0.0, 1.0)
    return ((shares - MEAN) / STD).astype(np.float32), np.where(valid, mask, IGNORE)


def plain_chip(towns: Sequence[Town], rng: np.random.Generator) -> tuple[Image, Image, Image]:
    """Cut a window of a tile drawn by its area, for half of the chips one with a building."""
    built = rng.random() < BALANCE
    areas = np.array([town.truth.size for town in towns]) / sum(town.truth.size for town in towns)
    town = towns[int((np.cumsum(areas) <= rng.random()).sum())]
    for _ in range(10 if built else 1):
        image, mask, valid = plain_window(town, rng)
        if mask.any():
            break
    return image, mask, valid


def plain_reference(town: Town, rng: np.random.Generator) -> Image:
    """Cut a window of the target's only image, in bytes, with the mean where nothing is known."""
    assert rng.random() < 1.0  # which image, of this one
    image, _, known = plain_window(town, rng)
    reference = in_bytes(image)
    reference[known == 0] = np.rint(reference[known > 0].mean(axis=0))
    return reference


def in_bytes(pixels: Image) -> NDArray[np.uint8]:
    shares = np.clip(pixels / WHITE[pixels.dtype.name], 0.0, 1.0)
    return np.rint(shares * 255.0).astype(np.uint8)


def plain_window(town: Town, rng: np.random.Generator) -> tuple[Image, Image, Image]:
    """Cut a random window, mirrored beyond the image, where nothing is known."""
    lengths = town.truth.shape
    row, col = (
        int(rng.integers(0, length - SIZE + 1)) if length > SIZE else -((SIZE - length) // 2)
        for length in lengths
    )
    margin = [(SIZE, SIZE), (SIZE, SIZE)]
    part = np.s_[row + SIZE : row + 2 * SIZE, col + SIZE : col + 2 * SIZE]
    known = np.pad(town.pixels.any(axis=-1), margin)[part].astype(np.uint8)
    image = np.pad(town.pixels, [*margin, (0, 0)], mode="reflect")[part]
    return image, np.pad(town.truth, margin)[part], known


FILTERS: dict[str, Callable[[], Any]] = {
    "color-jitter": lambda: A.ColorJitter(*[(0.7, 1.3)] * 3, (-0.1, 0.1), p=P),
    "hsv": lambda: A.HueSaturationValue(20, 60, 60, p=P),
    "fda": lambda: A.FDA(beta_limit=(0.0, 0.1), metadata_key="borrowed", p=P),
}


def plain_filter(
    image: Image,
    valid: Image,
    config: AugmentConfig,
    reference: Image | None,
    rng: np.random.Generator,
) -> Image:
    white = WHITE[image.dtype.name]
    if (valid > 0).any():
        mean = np.rint([band[valid > 0].mean() for band in np.moveaxis(image, -1, 0)])
        image = np.where(valid[..., None] > 0, image, mean.astype(image.dtype))
    transform = A.Compose([FILTERS[config.colour]()])
    transform.set_random_seed(int(rng.integers(1 << 31)))
    borrowed = {} if reference is None else {"borrowed": [reference]}
    given = in_bytes(image)
    mixed = transform(image=given.copy(), **borrowed)["image"]
    if np.array_equal(mixed, given):
        return image  # a chip that is left alone is not rounded to bytes
    return np.asarray(np.rint(mixed / 255.0 * white).astype(image.dtype))


def plain_table(
    image: Image, valid: Image, config: AugmentConfig, _: object, rng: np.random.Generator
) -> Image:
    dtype, white = image.dtype, WHITE[image.dtype.name]
    if config.colour == "none" or rng.random() >= P:
        return image
    known = image[valid].astype(np.float64)
    if config.bank:
        target = targets(dtype.name)[int(rng.random() * 3)].reshape(-1, 3)
        if config.colour == "rhm":
            weight = rng.uniform(*config.blend)
            matched = skimage_match(image[valid][None], target[None], channel_axis=-1)[0]
            known = np.rint(weight * matched + (1.0 - weight) * known)
        else:
            gains = target.std(axis=0) / known.std(axis=0)
            moved = target.mean(axis=0) + gains * (known - known.mean(axis=0))
            known = np.rint(np.clip(moved, 0.0, white))
    if config.jitters or config.colour == "gamma":
        gamma = (0.5, 2.0) if config.colour == "gamma" else config.gamma
        exponent = np.exp(rng.uniform(*np.log(gamma)))
        gain, offset = rng.uniform(*config.gain), rng.uniform(*config.offset)
        shares = gain * np.clip(known / white, 0.0, 1.0) ** exponent + offset
        known = np.rint(np.clip(shares, 0.0, 1.0) * white)
    varied = image.copy()
    varied[valid] = known
    return varied


VARIANTS: list[dict[str, Any]] = [
    # What mixes pixels of any dtype has its own oracles, of its formula.
    *({"colour": colour} for colour, each in COLOUR.items() if each.mixer is None),
    {"colour": "rhm + hsv"},
    {"colour": "gamma + rhm"},
    {"colour": "fda + mean-std + gamma"},
    {"colour": "none | rhm | color-jitter + rhm"},
    {"colour": "rhm", "blend": (0.2, 0.9), "gamma": (0.5, 2.0), "offset": (-0.1, 0.1)},
    {"colour": "mean-std", "gain": (0.8, 1.2)},
]


@pytest.mark.parametrize("dtype", sorted(WHITE))
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_a_sample_is_what_a_plain_script_draws_and_computes(
    towns: dict[str, list[Town]], dtype: str, settings: dict[str, Any]
) -> None:
    config = config_of(**settings)
    chips = training(towns[dtype], config)
    changed = False
    for index in range(SAMPLES):
        image, mask = plain_sample(towns[dtype], config, index)
        sample = chips[index]
        np.testing.assert_array_equal(sample["mask"][0].numpy(), mask)
        seen = sample["image"].permute(1, 2, 0).numpy()
        off = np.abs(seen - image)
        # Where two formulas round a half to either side, a level apart.
        assert off.max() <= 1.01 / WHITE[dtype] / STD
        assert (off > 0).mean() < 0.001
        plain, _ = plain_sample(towns[dtype], config_of("none"), index)
        changed |= bool((seen != plain).any())
    assert changed == (settings["colour"] != "none")
