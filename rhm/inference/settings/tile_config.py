"""The options of the tiles that a raster is predicted in."""

import math
from dataclasses import dataclass, replace

from rhm.errors import ConfigError
from rhm.inference.settings.option import check_options, option

# Encoders halve a tile five times, and those with pooling need more than one pixel then.
_STRIDE = 32
_SMALLEST_TILE = 64


@dataclass(frozen=True)
class Tiling:
    """The options of the tiles that a raster is predicted in.

    Most networks need tiles whose side is a multiple of 32.

    Raises:
        ConfigError: a number is not allowed, or the overlap is not smaller than a tile.
    """

    tile: int = option(
        512, "Side of a tile in pixels, for most networks a multiple of 32.", least=1
    )
    overlap: int = option(64, "Overlap of neighbouring tiles in pixels.", least=0)
    batch_size: int = option(
        1, "Number of tiles per batch.", least=1, depends="1 on a CPU, 8 on a GPU"
    )
    views: bool = option(
        False,
        "Test-time augmentation: average the predictions of eight rotated and mirrored views.",
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.overlap >= self.tile:
            raise ConfigError(
                f"overlap must be smaller than tile, got overlap {self.overlap} and tile "
                f"{self.tile}"
            )

    @property
    def passes(self) -> int:
        """Number of times that the network predicts a tile."""
        return 8 if self.views else 1

    def for_image(self, height: int, width: int) -> "Tiling":
        """Return the options with the tile reduced to the size of a smaller image."""
        side = max(_SMALLEST_TILE, _STRIDE * math.ceil(max(height, width) / _STRIDE))
        return self if side >= self.tile else replace(self, tile=side, overlap=0)
