"""Chips of unlabelled imagery, and the pairs in which training sees them."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from rhm.augmentation.geometry import ChipGeometry, Sample
from rhm.colour.histogram import Histogram
from rhm.colour.lookup import PixelMap
from rhm.data.catalog import Tile
from rhm.data.chips import (
    Chip,
    GridChips,
    Preparation,
    References,
    TargetSample,
    TrainingChips,
    UnlabelledChip,
)
from rhm.data.rasters.pixels import bands_first

_GOLDEN_SHARE = (5**0.5 - 1) / 2
_STREAM = 1
"""Keeps the random numbers of unlabelled chips apart from those of the labelled ones."""


class Recolour(Protocol):
    """Random colours of a chip, see ``ChipAugmentation.recolour``."""

    def __call__(
        self,
        image: NDArray[Any],
        valid: NDArray[np.uint8],
        *,
        normalize: PixelMap,
        rng: np.random.Generator,
        scene: Histogram | None,
        reference: NDArray[np.uint8] | None,
    ) -> NDArray[np.float32]:
        """Return the normalised image, recoloured at random."""


class UnlabelledChips(Dataset[UnlabelledChip]):
    """Random chips of images whose labels, if they have any, are never read.

    As with ``TrainingChips``, the seed and the index alone determine a sample. All domains are
    equally likely, so that a place with few images is adapted to as well; an image is as likely as
    it is large among those of its domain.

    Args:
        tiles: images.
        size: side of a chip in pixels.
        preparation: how stored pixels become network input.
        geometry: geometric augmentations; those that mix images have nothing to paste here.
        seed: seed of the run.
        recolour: colour augmentation for each dtype, which gives every chip a second view of the
            same pixels; by default there is only the plain view.
        references: images whose pixels the colour augmentation uses.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        *,
        size: int,
        preparation: Preparation,
        geometry: ChipGeometry,
        seed: int,
        recolour: Mapping[str, Recolour] | None = None,
        references: References | None = None,
    ) -> None:
        self._tiles = list(tiles)
        self._preparation = preparation
        self._geometry = geometry
        self._seed = seed
        self._recolour = recolour
        self._references = references
        self._chips = TrainingChips(
            self._tiles,
            size=size,
            preparation=preparation,
            augmentations={},
            balance=0.0,
            balance_domains=True,
            seed=seed,
            geometry=geometry,
            labels=False,
        )

    def __getitem__(self, index: int) -> UnlabelledChip:
        rng = np.random.default_rng([self._seed, index, _STREAM])
        distance = self._geometry.distance(rng=rng) if self._geometry.zooms else 1.0
        number, pixels, mask = self._chips.read(rng=rng, distance=distance)
        read = Sample(pixels.values, mask, pixels.valid.astype(np.uint8))
        image, _, valid = self._geometry.vary(read, rng=rng, another=lambda: read)
        tile = self._tiles[number]
        normalize = self._preparation.table(tile)
        chip = UnlabelledChip(
            image=torch.from_numpy(bands_first(normalize.apply(image))),
            valid=torch.from_numpy(valid > 0)[None],
        )
        if self._recolour is not None:
            strong = self._recolour[tile.dtype](
                image,
                valid,
                normalize=normalize,
                rng=rng,
                scene=self._preparation.scene(tile),
                reference=None if self._references is None else self._references.draw(rng),
            )
            chip["strong"] = torch.from_numpy(bands_first(strong))
        return chip


class UnlabelledGrid(Dataset[UnlabelledChip]):
    """Complete images, cut into chips without overlap, whose labels are never read.

    Neighbouring chips are far apart in the order, so that each batch shows many places.

    Args:
        tiles: images.
        size: side of a chip in pixels.
        preparation: how pixels become input.
        most: largest number of chips, which are then spread evenly; by default, there are all.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        *,
        size: int,
        preparation: Preparation,
        most: int | None = None,
    ) -> None:
        self._grid = GridChips(tiles, size=size, preparation=preparation, labels=False)
        spread = np.argsort(np.arange(len(self._grid)) * _GOLDEN_SHARE % 1.0, kind="stable")
        self._order = spread[:most]

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> UnlabelledChip:
        image, valid = self._grid.read(int(self._order[index]))
        return UnlabelledChip(
            image=torch.from_numpy(bands_first(image)), valid=torch.from_numpy(valid.copy())[None]
        )


class PairedChips(Dataset[TargetSample]):
    """Unlabelled chips, each beside the labelled chip of the same index, if there are any.

    Args:
        labelled: labelled chips, or None for training without them.
        unlabelled: unlabelled chips.
    """

    def __init__(self, labelled: Dataset[Chip] | None, unlabelled: Dataset[UnlabelledChip]) -> None:
        self._labelled = labelled
        self._unlabelled = unlabelled

    def __getitem__(self, index: int) -> TargetSample:
        target = self._unlabelled[index]
        if self._labelled is None:
            return TargetSample(target=target)
        return TargetSample(**self._labelled[index], target=target)
