"""Chips: windows of labelled imagery, on which a network is trained and validated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NotRequired, Protocol, TypedDict, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from rhm.augmentation.geometry import Another, ChipGeometry, Sample
from rhm.augmentation.mask_values import is_building
from rhm.colour.histogram import Histogram
from rhm.colour.levels import without_nodata
from rhm.colour.lookup import PixelMap
from rhm.data.catalog import Tile
from rhm.data.labels import IGNORE
from rhm.data.rasters.mirrored_edges import mirrored
from rhm.data.rasters.pixels import Pixels, bands_first
from rhm.data.rasters.resampling import resize_classes, resize_pixels
from rhm.data.rasters.windows import Window, partition, random_window
from rhm.data.tile_choice import TileChoice
from rhm.data.tile_readers import OpenTiles, read_mirrored
from rhm.system import MOST_WORKERS

MOST_CHIP_PX = 4096
"""Largest side of a chip. One is 200 MB of network input, and several gigabytes of features."""

_TRIES = 10
"""Windows that are drawn in search of a building, or of a valid pixel."""

Targets = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Function that draws classes (H, W) from a mask (H, W) in which buildings have numbers."""


class Augmentation(Protocol):
    """Random variation of a chip, see ``rhm.augmentation.chip_augmentation.ChipAugmentation``."""

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
        another: Another | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]:
        """Return normalised image, mask and validity of a chip, varied at random."""


@final
class UnlabelledChip(TypedDict):
    """One unlabelled sample: image (bands, size, size) float32, valid (1, size, size) bool.

    ``strong`` is the same chip in other colours, for methods that compare both views.
    """

    image: Tensor
    valid: Tensor
    strong: NotRequired[Tensor]


@final
class Chip(TypedDict):
    """One sample: normalised image (bands, size, size) float32, mask (1, size, size) int64.

    The mask is 1 on buildings, 0 elsewhere, and ``IGNORE`` where the truth is unknown. For a
    network with classes, it holds their numbers; see ``rhm.models.building_classes``.
    """

    image: Tensor
    mask: Tensor


@final
class TargetSample(TypedDict):
    """An unlabelled chip, beside a labelled one with the keys of ``Chip`` if there is any."""

    target: UnlabelledChip
    image: NotRequired[Tensor]
    mask: NotRequired[Tensor]


@dataclass(frozen=True)
class DataConfig:
    """Configuration of the chips of a run.

    Attributes:
        catalog: path of the catalog.
        sources: domains to train on; by default, all that have training labels.
        chip_px: side of a chip in pixels, a multiple of 32 up to ``MOST_CHIP_PX``.
        gsd_m: ground sampling distance of the chips in metres; by default, that of each image.
        balance: share of training chips that are drawn so that they show a building.
        balance_domains: whether training chips come from all domains equally often; by default, a
            domain is drawn by the area of its images.
        boundary_px: width of the class boundary, inside a building, in pixels; only for models
            that have it.
        contact_px: a background pixel is of the class contact if two buildings are at most this
            far from it, in pixels.
        workers: number of loader processes, up to ``rhm.system.MOST_WORKERS``; 0 loads chips in the
            training process.
        licence: licence of imagery and labels, in words; kept with the model, its card and report.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    catalog: str
    sources: tuple[str, ...] = ()
    chip_px: int = 256
    gsd_m: float | None = None
    balance: float = 0.5
    balance_domains: bool = False
    boundary_px: int = 2
    contact_px: int = 4
    workers: int = 2
    licence: str = ""

    def __post_init__(self) -> None:
        if not 32 <= self.chip_px <= MOST_CHIP_PX or self.chip_px % 32:
            raise ValueError(
                f"chip_px must be a multiple of 32 up to {MOST_CHIP_PX}, got {self.chip_px}"
            )
        if not 0.0 <= self.balance <= 1.0:
            raise ValueError(f"balance must be a share in [0, 1], got {self.balance}")
        if self.gsd_m is not None and not 0.01 <= self.gsd_m <= 1000:
            raise ValueError(f"gsd_m must be between 0.01 and 1000 metres, got {self.gsd_m}")
        for name in ("boundary_px", "contact_px"):
            if not 1 <= getattr(self, name) <= 64:
                raise ValueError(f"{name} must be between 1 and 64, got {getattr(self, name)}")
        if not 0 <= self.workers <= MOST_WORKERS:
            raise ValueError(f"workers must be between 0 and {MOST_WORKERS}, got {self.workers}")


@dataclass(frozen=True)
class Preparation:
    """How stored pixels become the input of a network.

    Attributes:
        input_table: function of an image's dtype and histogram that returns the map from stored
            values to normalised float32; see ``rhm.models.spec.ModelSpec.input_table``.
        gsd_m: ground sampling distance of the input in metres; None keeps that of each image.
        scenes: histogram of each image, by path; empty unless a standardisation or an augmentation
            uses the statistics of whole scenes.
    """

    input_table: Callable[[str, Histogram | None], PixelMap]
    gsd_m: float | None = None
    scenes: Mapping[str, Histogram] = field(default_factory=dict)

    def scene(self, tile: Tile) -> Histogram | None:
        """Return the histogram of a tile's image, or None if it is not known."""
        return self.scenes.get(str(tile.image))

    def table(self, tile: Tile) -> PixelMap:
        """Return the map from the stored values of a tile's image to a network's input."""
        return self.input_table(tile.dtype, self.scene(tile))


class References:
    """Windows of images of the target domain, converted to 8 bit from black to white.

    All domains are equally likely. As for the spectra of a bank, images are mirrored at their
    edges, and nodata pixels have the mean of the valid ones.

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
        self._choice = TileChoice(self._tiles, gsd_m, balance_domains=True)
        self._size = size
        self._gsd_m = gsd_m
        self._to_bytes = to_bytes

    def draw(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return a random window of a random image of a random domain, (size, size, bands) uint8.

        Raises:
            RasterError: the image cannot be read.
            CatalogError: it no longer matches the catalog.
        """
        for _ in range(_TRIES):
            tile = self._tiles[self._choice.draw(built=False, rng=rng)]
            with tile.open(tile.scale_to(self._gsd_m)) as raster:
                tile.check(raster)
                height, width = raster.info.height, raster.info.width
                window = random_window(height, width, self._size, rng=rng)
                inside = window.common(Window(0, 0, height, width))
                values, valid = raster.read(inside)
            if valid.any():
                break
        reference = without_nodata(self._to_bytes[tile.dtype].apply(values), valid)
        row, col, *_ = inside.within(window)
        return mirrored(Pixels(reference, valid), self._size, self._size, row=row, col=col).values


class TrainingChips(Dataset[Chip]):
    """Random chips; the sample of a given index is always the same.

    The index (together with the seed) alone determines image, location and augmentation, so that
    any number of workers or processes, and resumed runs, see the same samples. Images are drawn
    with probabilities proportional to their areas (if domains are balanced, among those of their
    domain), and only images with buildings are drawn for
    the share of chips that should show a building.

    Args:
        tiles: labelled images.
        size: side of a chip in pixels.
        preparation: how stored pixels become network input.
        augmentations: augmentation of image, mask and validity for each dtype.
        balance: share of chips that are drawn so that they show a building.
        balance_domains: whether chips come from all domains equally often.
        seed: seed of the run.
        references: images of the target domain, for augmentations that use its pixels.
        geometry: geometric augmentations, which determine the ground sampling distances at which
            chips are read; by default that of the model.
        labels: whether labels are read; without them, the truth is unknown everywhere.
        targets: function that draws the classes of a network from the augmented mask; by default
            the mask is 1 on buildings.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        *,
        size: int,
        preparation: Preparation,
        augmentations: Mapping[str, Augmentation],
        balance: float,
        balance_domains: bool = False,
        seed: int,
        references: References | None = None,
        geometry: ChipGeometry | None = None,
        labels: bool = True,
        targets: Targets | None = None,
    ) -> None:
        self._tiles = list(tiles)
        self._targets = targets
        self._size = size
        self._preparation = preparation
        self._augmentations = augmentations
        self._balance = balance
        self._seed = seed
        self._references = references
        # Stored pixels are then brought to each chip's own distance, once.
        self._zoom = geometry if geometry is not None and geometry.zooms else None
        read_at = None if self._zoom else preparation.gsd_m
        numbers = targets is not None
        self._files = OpenTiles(self._tiles, read_at, labels=labels, numbers=numbers)
        self._choice = TileChoice(self._tiles, preparation.gsd_m, balance_domains=balance_domains)

    def __getitem__(self, index: int) -> Chip:
        rng = np.random.default_rng([self._seed, index])
        distance = 1.0 if self._zoom is None else self._zoom.distance(rng=rng)
        number, pixels, mask = self.read(rng=rng, distance=distance)
        tile = self._tiles[number]
        varied = self._augmentations[tile.dtype](
            pixels.values,
            mask,
            pixels.valid.astype(np.uint8),
            normalize=self._preparation.table(tile),
            rng=rng,
            scene=self._preparation.scene(tile),
            reference=None if self._references is None else self._references.draw(rng),
            another=lambda: self._another(number, rng=rng, distance=distance),
        )
        return _chip(*varied, self._targets)

    def read(
        self, *, rng: np.random.Generator, distance: float = 1.0
    ) -> tuple[int, Pixels, NDArray[np.uint8]]:
        """Read a chip as it is stored, where ``draw`` says.

        Args:
            rng: decides the place.
            distance: ground sampling distance, as a factor of the model's.

        Returns:
            The image's number among the tiles, pixels (size, size), and mask (size, size) uint8
            as of ``Label.read``.
        """
        number, window, mask = self.draw(rng=rng, distance=distance)
        return number, *self._read(number, window, mask)

    def draw(
        self, *, rng: np.random.Generator, distance: float = 1.0
    ) -> tuple[int, Window, NDArray[np.uint8]]:
        """Draw an image, by its number among the tiles, and a window of it, and read its mask."""
        built = rng.random() < self._balance
        number = self._choice.draw(built=built, rng=rng)
        tries = _TRIES if built else 1
        return number, *self._place(number, tries, rng=rng, distance=distance)

    def _place(
        self, number: int, tries: int, *, rng: np.random.Generator, distance: float
    ) -> tuple[Window, NDArray[np.uint8]]:
        """Draw a window of an image, if ``tries`` are enough one with buildings, and its mask."""
        raster, label = self._files.get(number)
        sides = (self._size, self._size)
        if self._zoom is not None:
            scale = self._tiles[number].scale_to(self._preparation.gsd_m)
            down, across = (max(1, round(self._size * distance / axis)) for axis in scale)
            sides = (down, across)
        for _ in range(tries):
            window = random_window(raster.info.height, raster.info.width, sides, rng=rng)
            mask = label.read(window)
            if is_building(mask).any():
                break
        return window, mask

    def _read(
        self, number: int, window: Window, mask: NDArray[np.uint8]
    ) -> tuple[Pixels, NDArray[np.uint8]]:
        """Return a window's pixels and mask, of a chip's size."""
        pixels = read_mirrored(self._files.get(number)[0], window)
        if window.height == window.width == self._size:
            return pixels, mask
        return resize_pixels(pixels, self._size), resize_classes(mask, self._size)

    def _another(self, number: int, *, rng: np.random.Generator, distance: float) -> Sample:
        """Read a chip with buildings of an image of the same domain and dtype as this one."""
        number = self._choice.draw_like(number, rng=rng)
        window, mask = self._place(number, _TRIES, rng=rng, distance=distance)
        (values, valid), mask = self._read(number, window, mask)
        return Sample(values, mask, valid.astype(np.uint8))


class GridChips(Dataset[Chip]):
    """Complete images, cut into chips without overlap, as used for validation.

    Args:
        tiles: labelled images.
        size: side of a chip in pixels.
        preparation: how pixels become input.
        labels: whether labels are read; without them, the truth is unknown everywhere.
        targets: function that draws the classes of a network, as in ``TrainingChips``.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        *,
        size: int,
        preparation: Preparation,
        labels: bool = True,
        targets: Targets | None = None,
    ) -> None:
        self._tiles = list(tiles)
        self._targets = targets
        self._preparation = preparation
        numbers = targets is not None
        self._files = OpenTiles(self._tiles, preparation.gsd_m, labels=labels, numbers=numbers)
        self._windows: list[tuple[int, Window]] = []
        for number, tile in enumerate(tiles):
            scale = tile.scale_to(preparation.gsd_m)
            height = max(1, round(tile.height * scale.down))
            width = max(1, round(tile.width * scale.across))
            self._windows += [
                (number, Window(row, col, size, size))
                for row, col, *_ in partition(height, width, size)
            ]

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Chip:
        number, window = self._windows[index]
        _, label = self._files.get(number)
        image, valid = self.read(index)
        return _chip(image, label.read(window), valid, self._targets)

    def read(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the normalised image (size, size, bands) and validity (size, size) of a chip."""
        number, window = self._windows[index]
        values, valid = read_mirrored(self._files.get(number)[0], window)
        return self._preparation.table(self._tiles[number]).apply(values), valid


def _chip(
    image: NDArray[np.float32], mask: NDArray[Any], valid: NDArray[Any], targets: Targets | None
) -> Chip:
    known = np.where(valid > 0, mask, np.uint8(IGNORE))
    known = (known if targets is None else targets(known)).astype(np.int64)
    return Chip(image=torch.from_numpy(bands_first(image)), mask=torch.from_numpy(known)[None])
