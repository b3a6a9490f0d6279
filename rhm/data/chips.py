"""Chips: the windows of labelled imagery that a network is trained and validated on."""

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from rhm.data.catalog import Tile
from rhm.data.labels import IGNORE, Label
from rhm.data.raster import Raster
from rhm.data.windows import Window, partition, random_window
from rhm.lookup import PixelMap

_OPEN_TILES = 16
_BALANCING_TRIES = 10


class Augmentation(Protocol):
    """What an albumentations pipeline offers here."""

    def set_random_seed(self, seed: int) -> None:
        """Start the random stream of the next call."""

    def __call__(self, **targets: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the targets ``image``, ``mask`` and ``valid``, transformed."""


class Chip(TypedDict):
    """One sample: normalised image (bands, size, size) float32, mask (1, size, size) int64.

    The mask is 1 on buildings, 0 elsewhere, and ``IGNORE`` where nothing is known.
    """

    image: Tensor
    mask: Tensor


@dataclass(frozen=True)
class DataConfig:
    """The chips of a run.

    Attributes:
        catalog: path of the catalog.
        sources: domains to train on; all that have training labels by default.
        chip_px: side of a chip in pixels, a multiple of 32.
        gsd_m: metres per pixel of the chips; each image's own by default.
        balance: share of training chips drawn so that they show a building.
        workers: loader processes; 0 loads in the training process.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    catalog: str
    sources: tuple[str, ...] = ()
    chip_px: int = 256
    gsd_m: float | None = None
    balance: float = 0.5
    workers: int = 2

    def __post_init__(self) -> None:
        if self.chip_px < 32 or self.chip_px % 32:
            raise ValueError("chip_px is a multiple of 32")
        if not 0.0 <= self.balance <= 1.0:
            raise ValueError("balance is a share in [0, 1]")
        if self.gsd_m is not None and not 0.01 <= self.gsd_m <= 1000:
            raise ValueError("gsd_m is between 0.01 and 1000 metres")
        if self.workers < 0:
            raise ValueError("workers is 0 or more")


@dataclass(frozen=True)
class Preparation:
    """How stored pixels become a network's input.

    Attributes:
        tables: by dtype, the map from stored values to normalised float32.
        gsd_m: metres per pixel to read at, or None for each image's own.
    """

    tables: Mapping[str, PixelMap]
    gsd_m: float | None = None

    def tensor(self, pixels: NDArray[Any]) -> Tensor:
        """Return stored pixels (H, W, bands) as a network's input (bands, H, W) float32."""
        mapped = self.tables[pixels.dtype.name].apply(pixels)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(mapped, -1, 0)))


class _OpenTiles:
    """Tiles kept open, image and label together, the longest unused closed first."""

    def __init__(self, gsd_m: float | None) -> None:
        self._gsd_m = gsd_m
        self._process = os.getpid()
        self._open: OrderedDict[Tile, tuple[Raster, Label]] = OrderedDict()

    def get(self, tile: Tile) -> tuple[Raster, Label]:
        if os.getpid() != self._process:
            # GDAL's handles do not survive a fork: a loader's worker opens its own.
            self._open, self._process = OrderedDict(), os.getpid()
        if tile not in self._open:
            if tile.label is None:
                raise ValueError(f"{tile.image} has no label")
            scale = tile.scale_to(self._gsd_m)
            raster = tile.open(scale)
            tile.check(raster)
            self._open[tile] = (raster, Label(tile.label, raster, scale=scale))
            if len(self._open) > _OPEN_TILES:
                _, (old_raster, old_label) = self._open.popitem(last=False)
                old_raster.close()
                old_label.close()
        self._open.move_to_end(tile)
        return self._open[tile]

    def __getstate__(self) -> dict[str, Any]:
        return {"_gsd_m": self._gsd_m, "_process": -1, "_open": OrderedDict()}


class TrainingChips(Dataset[Chip]):
    """Random chips: the sample with a given index is always the same.

    The index alone (with the seed) decides image, place and augmentation, so that any number of
    workers, processes or resumed runs see the same samples. Images are drawn by their area,
    those with buildings for the share of chips that should show one.

    Args:
        tiles: labelled images.
        size: side of a chip in pixels.
        preparation: how pixels become input.
        augmentations: by dtype, what happens to image, mask and validity before that.
        balance: share of chips drawn so that they show a building.
        seed: of the run.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        *,
        size: int,
        preparation: Preparation,
        augmentations: Mapping[str, Augmentation],
        balance: float,
        seed: int,
    ) -> None:
        self._tiles = list(tiles)
        self._size = size
        self._preparation = preparation
        self._augmentations = augmentations
        self._balance = balance
        self._seed = seed
        self._files = _OpenTiles(preparation.gsd_m)
        pixels = np.array(
            [t.width * t.height * t.scale_to(preparation.gsd_m) ** 2 for t in self._tiles]
        )
        self._chance = pixels / pixels.sum()
        built = pixels * [t.building_fraction != 0.0 for t in self._tiles]
        self._built_chance = built / built.sum() if built.any() else self._chance

    def __getitem__(self, index: int) -> Chip:
        rng = np.random.default_rng([self._seed, index])
        built = rng.random() < self._balance
        chance = self._built_chance if built else self._chance
        raster, label = self._files.get(self._tiles[int(rng.choice(len(chance), p=chance))])
        window, mask = self._place(raster, label, _BALANCING_TRIES if built else 1, rng=rng)
        pixels, valid = raster.read(window)
        augment = self._augmentations[pixels.dtype.name]
        augment.set_random_seed(int(rng.integers(1 << 31)))
        seen = augment(image=pixels, mask=mask, valid=valid.astype(np.uint8))
        return _chip(self._preparation, seen["image"], seen["mask"], seen["valid"])

    def _place(
        self, raster: Raster, label: Label, tries: int, *, rng: np.random.Generator
    ) -> tuple[Window, NDArray[np.uint8]]:
        for _ in range(tries):
            window = random_window(raster.info.height, raster.info.width, self._size, rng=rng)
            mask = label.read(window)
            if (mask == 1).any():
                break
        return window, mask


class GridChips(Dataset[Chip]):
    """All of some images, cut into chips without overlap: what validation looks at.

    Args:
        tiles: labelled images.
        size: side of a chip in pixels.
        preparation: how pixels become input.
    """

    def __init__(self, tiles: Sequence[Tile], *, size: int, preparation: Preparation) -> None:
        self._preparation = preparation
        self._files = _OpenTiles(preparation.gsd_m)
        self._windows: list[tuple[Tile, Window]] = []
        for tile in tiles:
            scale = tile.scale_to(preparation.gsd_m)
            height, width = max(1, round(tile.height * scale)), max(1, round(tile.width * scale))
            self._windows += [
                (tile, Window(row, col, size, size))
                for row, col, *_ in partition(height, width, size)
            ]

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Chip:
        tile, window = self._windows[index]
        raster, label = self._files.get(tile)
        pixels, valid = raster.read(window)
        return _chip(self._preparation, pixels, label.read(window), valid)


class SeededSampler(Sampler[int]):
    """Indices of an endless stream of samples, an epoch at a time.

    Epoch e holds indices ``e * samples`` onwards; process r of n takes every n-th of them from
    the r-th, so that n processes together see exactly the global batches of one.

    Args:
        samples: per epoch, over all processes.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, samples: int, *, rank: int = 0, world_size: int = 1) -> None:
        if samples % world_size:
            raise ValueError(f"{samples} samples cannot be shared evenly by {world_size} processes")
        self._samples = samples
        self._rank = rank
        self._world_size = world_size
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration runs through; Lightning calls this."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._samples // self._world_size

    def __iter__(self) -> Iterator[int]:
        first = self._epoch * self._samples
        return iter(range(first + self._rank, first + self._samples, self._world_size))


def _chip(
    preparation: Preparation,
    pixels: NDArray[Any],
    mask: NDArray[Any],
    valid: NDArray[Any],
) -> Chip:
    known = np.where(valid > 0, mask, IGNORE).astype(np.int64)
    return Chip(image=preparation.tensor(pixels), mask=torch.from_numpy(known)[None])
