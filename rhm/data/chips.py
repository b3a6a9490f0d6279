"""Chips: the windows of labelled imagery that a network is trained and validated on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from rhm.colour.histogram import Histogram
from rhm.colour.lookup import PixelMap
from rhm.data.catalog import Tile
from rhm.data.labels import IGNORE
from rhm.data.open_tiles import CachedRaster, OpenTiles
from rhm.data.rasters.band_order import bands_first
from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import Window, partition, random_window

_BALANCING_TRIES = 10


class Augmentation(Protocol):
    """What varies a training chip, see ``rhm.colour.augmentation.ChipAugmentation``."""

    def __call__(
        self,
        image: NDArray[Any],
        mask: NDArray[np.uint8],
        valid: NDArray[np.uint8],
        *,
        normalize: PixelMap,
        rng: np.random.Generator,
        scene: Histogram | None,
        reference: NDArray[np.uint8] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]:
        """Return normalised image, mask and validity of a chip, varied at random."""


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
        licence: of imagery and labels, in words; stays with the model, its card and its report.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    catalog: str
    sources: tuple[str, ...] = ()
    chip_px: int = 256
    gsd_m: float | None = None
    balance: float = 0.5
    workers: int = 2
    licence: str = ""

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
        input_table: returns the map from stored values to normalised float32, of an image's
            dtype and its histogram; see ``rhm.models.spec.ModelSpec.input_table``.
        gsd_m: metres per pixel to read at, or None for each image's own.
        scenes: by the tiles' images, their histograms; of all tiles for a standardisation or
            for an augmentation that wants a scene's statistics, otherwise of none.
    """

    input_table: Callable[[str, Histogram | None], PixelMap]
    gsd_m: float | None = None
    scenes: Mapping[str, Histogram] = field(default_factory=dict)

    def scene(self, tile: Tile) -> Histogram | None:
        """Return the histogram of a tile's image, where it is kept."""
        return self.scenes.get(str(tile.image))

    def table(self, tile: Tile) -> PixelMap:
        """Return the map from the stored values of a tile's image to a network's input."""
        return self.input_table(tile.dtype, self.scene(tile))


class References:
    """Windows of the target domain's images, in 8 bit from black to white.

    Args:
        tiles: images; labels are not looked at.
        size: side of a window in pixels.
        gsd_m: metres per pixel to read at, or None for each image's own.
        to_bytes: by dtype, the map to 8 bit.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        *,
        size: int,
        gsd_m: float | None,
        to_bytes: Mapping[str, PixelMap],
    ) -> None:
        self._tiles = list(tiles)
        self._size = size
        self._gsd_m = gsd_m
        self._to_bytes = to_bytes

    def draw(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return a random window of a random image, (size, size, bands) uint8."""
        tile = self._tiles[int(rng.integers(len(self._tiles)))]
        with tile.open(tile.scale_to(self._gsd_m)) as raster:
            window = random_window(raster.info.height, raster.info.width, self._size, rng=rng)
            values = raster.read(window).values
        return self._to_bytes[values.dtype.name].apply(values)


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
        references: of the target domain, for augmentations that borrow from its pixels.
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
        references: References | None = None,
    ) -> None:
        self._tiles = list(tiles)
        self._size = size
        self._preparation = preparation
        self._augmentations = augmentations
        self._balance = balance
        self._seed = seed
        self._references = references
        self._files = OpenTiles(self._tiles, preparation.gsd_m)
        pixels = np.array(
            [t.width * t.height * t.scale_to(preparation.gsd_m) ** 2 for t in self._tiles]
        )
        built = pixels * [t.building_fraction != 0.0 for t in self._tiles]
        self._shares = _cumulative_shares(pixels)
        self._built_shares = _cumulative_shares(built) if built.any() else self._shares

    def __getitem__(self, index: int) -> Chip:
        rng = np.random.default_rng([self._seed, index])
        number, pixels, mask = self.read(rng=rng)
        tile = self._tiles[number]
        varied = self._augmentations[tile.dtype](
            pixels.values,
            mask,
            pixels.valid.astype(np.uint8),
            normalize=self._preparation.table(tile),
            rng=rng,
            scene=self._preparation.scene(tile),
            reference=None if self._references is None else self._references.draw(rng),
        )
        return _chip(*varied)

    def read(self, *, rng: np.random.Generator) -> tuple[int, Pixels, NDArray[np.uint8]]:
        """Read a chip as it is stored, where ``draw`` says.

        Returns:
            The image's number among the tiles, pixels (size, size), and mask (size, size) uint8
            as of ``Label.read``.
        """
        number, window, mask = self.draw(rng=rng)
        raster, _ = self._files.get(number)
        return number, _mirrored(raster, window), mask

    def draw(self, *, rng: np.random.Generator) -> tuple[int, Window, NDArray[np.uint8]]:
        """Draw an image, by its number among the tiles, and a window of it, and read its mask."""
        built = rng.random() < self._balance
        shares = self._built_shares if built else self._shares
        number = int(shares.searchsorted(rng.random(), side="right"))
        raster, label = self._files.get(number)
        for _ in range(_BALANCING_TRIES if built else 1):
            window = random_window(raster.info.height, raster.info.width, self._size, rng=rng)
            mask = label.read(window)
            if (mask == 1).any():
                break
        return number, window, mask


class GridChips(Dataset[Chip]):
    """All of some images, cut into chips without overlap: what validation looks at.

    Args:
        tiles: labelled images.
        size: side of a chip in pixels.
        preparation: how pixels become input.
    """

    def __init__(self, tiles: Sequence[Tile], *, size: int, preparation: Preparation) -> None:
        self._tiles = list(tiles)
        self._preparation = preparation
        self._files = OpenTiles(self._tiles, preparation.gsd_m)
        self._windows: list[tuple[int, Window]] = []
        for number, tile in enumerate(tiles):
            scale = tile.scale_to(preparation.gsd_m)
            height, width = max(1, round(tile.height * scale)), max(1, round(tile.width * scale))
            self._windows += [
                (number, Window(row, col, size, size))
                for row, col, *_ in partition(height, width, size)
            ]

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Chip:
        number, window = self._windows[index]
        raster, label = self._files.get(number)
        values, valid = _mirrored(raster, window)
        table = self._preparation.table(self._tiles[number])
        return _chip(table.apply(values), label.read(window), valid)


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


def _mirrored(raster: Raster | CachedRaster, window: Window) -> Pixels:
    """Read a window; beyond the image, which is not valid, pixels are mirrored at its edge."""
    inside = window.common(Window(0, 0, raster.info.height, raster.info.width))
    pixels = raster.read(inside)
    if inside == window:
        return pixels
    row, col, *_ = inside.within(window)
    return pixels.mirrored(window.height, window.width, row=row, col=col)


def _chip(image: NDArray[np.float32], mask: NDArray[Any], valid: NDArray[Any]) -> Chip:
    known = np.where(valid > 0, mask, IGNORE).astype(np.int64)
    return Chip(image=torch.from_numpy(bands_first(image)), mask=torch.from_numpy(known)[None])


def _cumulative_shares(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    reached = np.cumsum(weights)
    # Exactly 1 at the end, so that no draw below 1 falls behind the last.
    return np.asarray(reached / reached[-1])
